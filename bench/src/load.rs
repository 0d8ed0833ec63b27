//! Closed loops: so many clients, each asking again as soon as it is answered, for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::stats::percentile;

/// One of many that ask at the same time.
pub trait Client: Send + 'static {
    /// Asks once and checks the answer.
    fn once(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What a load came to.
#[derive(Debug, Clone)]
pub struct Load {
    pub elapsed: Duration,
    /// Milliseconds of each answer, sorted.
    latencies: Vec<f64>,
}

impl Load {
    #[must_use]
    pub fn new(elapsed: Duration, mut latencies: Vec<f64>) -> Self {
        latencies.sort_by(f64::total_cmp);
        Self { elapsed, latencies }
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// Milliseconds.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.latencies, percent)
    }
}

/// Lets every client ask until `length` is over; questions that are out are waited for. Gives the clients back.
///
/// # Errors
/// The first error of any client.
pub async fn closed<C: Client>(clients: Vec<C>, length: Duration) -> Result<(Load, Vec<C>)> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(ask_until(client, began + length));
    }
    let (mut latencies, mut clients) = (Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (client, own) = ended.context("a client panicked")??;
        latencies.extend(own);
        clients.push(client);
    }
    Ok((Load::new(began.elapsed(), latencies), clients))
}

async fn ask_until<C: Client>(mut client: C, deadline: Instant) -> Result<(C, Vec<f64>)> {
    let mut latencies = Vec::new();
    loop {
        let began = Instant::now();
        if began >= deadline {
            return Ok((client, latencies));
        }
        client.once().await?;
        latencies.push(millis(began.elapsed()));
    }
}

#[must_use]
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Lets every client ask so many times, all at once. Gives the clients back.
///
/// # Errors
/// The first error of any client.
pub async fn times<C: Client>(clients: Vec<C>, each: u32) -> Result<Vec<C>> {
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            for _ in 0..each {
                client.once().await?;
            }
            anyhow::Ok(client)
        });
    }
    let mut clients = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        clients.push(ended.context("a client panicked")??);
    }
    Ok(clients)
}

//! Open loop: requests leave at fixed instants whether or not earlier ones were answered, and each is timed from the
//! instant it should have left. A sender that is late itself makes the trial invalid, not slow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::load::{Client, Load, millis};
use crate::stats::percentile;

/// A sender later than this (p99, milliseconds) measured itself.
pub const LATEST: f64 = 200.0;

/// What an open loop came to.
#[derive(Debug)]
pub struct Arrivals {
    /// From the scheduled instant to the answer.
    pub load: Load,
    /// p99 of how late requests left, in milliseconds.
    pub late: f64,
}

impl Arrivals {
    /// Why the trial says nothing, if so.
    #[must_use]
    pub fn invalid(&self) -> Option<String> {
        (self.late > LATEST).then(|| format!("sender late by {:.0} ms (p99)", self.late))
    }
}

/// Sends `rate` requests a second for `length`, each by a client that is free; gives the clients back. One that finds no
/// client free waits for one, which counts as the server's time.
///
/// # Errors
/// The first error of any client.
pub async fn open<C: Client>(clients: Vec<C>, rate: u32, length: Duration) -> Result<(Arrivals, Vec<C>)> {
    let free = Arc::new(Free::new(clients));
    let count = u32::try_from(length.as_millis() * u128::from(rate) / 1000)?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let mut late = Vec::new();
    for number in 0..count {
        let due = began + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
        tokio::time::sleep_until(due.into()).await;
        let free = free.clone();
        late.push(millis(due.elapsed()));
        tasks.spawn(async move {
            let mut client = free.take().await?;
            let asked = client.once().await;
            free.put(client);
            asked.map(|()| millis(due.elapsed()))
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.push(ended.context("a client panicked")??);
    }
    late.sort_by(f64::total_cmp);
    let arrivals = Arrivals {
        load: Load::new(began.elapsed(), latencies),
        late: percentile(&late, 99),
    };
    Ok((arrivals, free.drain()))
}

/// Clients that nobody uses.
struct Free<C> {
    clients: Mutex<VecDeque<C>>,
    count: tokio::sync::Semaphore,
}

impl<C> Free<C> {
    fn new(clients: Vec<C>) -> Self {
        let count = tokio::sync::Semaphore::new(clients.len());
        let clients = Mutex::new(clients.into());
        Self { clients, count }
    }

    async fn take(&self) -> Result<C> {
        self.count.acquire().await?.forget();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.pop_front().context("a permit stands for a client")
    }

    fn put(&self, client: C) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push_back(client);
        self.count.add_permits(1);
    }

    fn drain(&self) -> Vec<C> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.drain(..).collect()
    }
}

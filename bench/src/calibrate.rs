//! The limits of this machine in this minute: what every other number is read against.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::routing::get;
use qwex_testbed::scratch;
use tokio::net::TcpListener;

use crate::bench::Bench;
use crate::load::{Client, Load, closed, millis};
use crate::report::{Report, Row};
use crate::sql::{InsertOne, SelectOne};
use crate::wire::{self, Wire};

/// Of one trial of one limit.
const LENGTH: Duration = Duration::from_millis(700);
const CASE: &str = "limit";

/// # Errors
/// A part of the machine does not work.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let trials = bench.knobs.trials;
    let url = bench.postgres.database().await?;

    let one = rounds(SelectOne::many(&url, 1).await?, trials).await?;
    report.add(Row::new(CASE, "select 1, 1 client, p50", "ms", medians(&one)));
    let eight = rounds(SelectOne::many(&url, 8).await?, trials).await?;
    report.add(Row::new(CASE, "select 1, 8 clients", "/s", rates(&eight)));

    let one = rounds(InsertOne::many(&url, 1).await?, trials).await?;
    report.add(Row::new(
        CASE,
        "commit of one row, 1 client, p50",
        "ms",
        medians(&one),
    ));
    let many = rounds(InsertOne::many(&url, 32).await?, trials).await?;
    report.add(Row::new(
        CASE,
        "commit of one row, 32 clients",
        "/s",
        rates(&many),
    ));

    let synced = blocking(trials, || fsync(LENGTH)).await?;
    report.add(Row::new(
        CASE,
        "write of 4 KiB + fdatasync, p50",
        "ms",
        medians(&synced),
    ));
    let spawned = blocking(trials, || spawn(LENGTH)).await?;
    report.add(Row::new(
        CASE,
        "spawn + wait of /bin/true, p50",
        "ms",
        medians(&spawned),
    ));

    let address = serve_hello().await?;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Hello::connect(address).await?);
    }
    let hello = rounds(clients, trials).await?;
    report.add(Row::new(CASE, "axum hello, 64 connections", "/s", rates(&hello)));
    Ok(())
}

fn rates(loads: &[Load]) -> Vec<f64> {
    loads.iter().map(Load::rate).collect()
}

fn medians(loads: &[Load]) -> Vec<f64> {
    loads.iter().map(|load| load.percentile(50)).collect()
}

/// One round to warm up, then the trials.
async fn rounds<C: Client>(clients: Vec<C>, trials: u32) -> Result<Vec<Load>> {
    let (_, mut clients) = closed(clients, LENGTH / 4).await?;
    let mut loads = Vec::new();
    for _ in 0..trials {
        let (load, same) = closed(clients, LENGTH).await?;
        clients = same;
        loads.push(load);
    }
    Ok(loads)
}

async fn blocking(trials: u32, trial: fn() -> Result<Load>) -> Result<Vec<Load>> {
    let all = move || (0..trials).map(|_| trial()).collect::<Result<Vec<Load>>>();
    tokio::task::spawn_blocking(all)
        .await
        .context("a trial panicked")?
}

/// Does something again and again, alone.
pub fn repeat(length: Duration, mut step: impl FnMut() -> Result<()>) -> Result<Load> {
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        let start = Instant::now();
        step()?;
        latencies.push(millis(start.elapsed()));
    }
    Ok(Load::new(began.elapsed(), latencies))
}

fn fsync(length: Duration) -> Result<Load> {
    let path = scratch::dir("fsync")?.join("file");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let block = [7_u8; 4096];
    repeat(length, || {
        file.write_all(&block)?;
        Ok(file.sync_data()?)
    })
}

fn spawn(length: Duration) -> Result<Load> {
    repeat(length, || {
        let status = Command::new("/bin/true").status()?;
        ensure!(status.success(), "/bin/true failed");
        Ok(())
    })
}

async fn serve_hello() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/", get(async || "hello"));
    // It ends with the program.
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

struct Hello {
    wire: Wire,
    request: Vec<u8>,
}

impl Hello {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let wire = Wire::connect(address).await?;
        let request = wire::request("GET", "/", &[], "");
        Ok(Self { wire, request })
    }
}

impl Client for Hello {
    async fn once(&mut self) -> Result<()> {
        let answer = self.wire.exchange(&self.request).await?;
        ensure!(answer.body == b"hello", "no hello");
        Ok(())
    }
}

//! Durable submits as fast as they go: 256 connections, each submit with authentication, idempotency, event and intent,
//! beside one-row inserts of 64 clients.

use std::time::Duration;

use anyhow::Result;

use super::submits::{self, Submitter};
use crate::bench::Bench;
use crate::load::closed;
use crate::report::{Goal, Report, Row};
use crate::sql::InsertOne;

const CASE: &str = "b1";
const CONNECTIONS: usize = 256;
const PEERS: usize = 64;
const WARM_UP: Duration = Duration::from_millis(500);

/// # Errors
/// A part fails, or a run is lost or doubled.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut rates, mut p50, mut p99, mut peer) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.knobs.trials {
        // Before the server is there: what it does in the background would slow the peer.
        peer.push(raw(bench).await?);
        let server = bench.server().await?;
        let clients = Submitter::many(&server, CONNECTIONS).await?;
        let (_, clients) = closed(clients, WARM_UP).await?;
        let (load, clients) = closed(clients, bench.knobs.length).await?;
        submits::check(&server, &clients).await?;
        rates.push(load.rate());
        p50.push(load.percentile(50));
        p99.push(load.percentile(99));
    }
    report.add(
        Row::new(CASE, "POST /v1/runs, 256 connections", "/s", rates)
            .beside("one-row inserts, 64 clients, /s", peer)
            .goal(Goal::RatioAtLeast(0.75)),
    );
    report.add(Row::new(CASE, "the same, p50", "ms", p50));
    report.add(Row::new(CASE, "the same, p99", "ms", p99).goal(Goal::AtMost(25.0)));
    Ok(())
}

/// Rows a second without qwex.
async fn raw(bench: &Bench) -> Result<f64> {
    let url = bench.postgres.database().await?;
    let (_, clients) = closed(InsertOne::many(&url, PEERS).await?, WARM_UP).await?;
    let (load, _) = closed(clients, bench.knobs.length).await?;
    Ok(load.rate())
}

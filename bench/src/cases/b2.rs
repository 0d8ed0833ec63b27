//! How long a submit takes when submits come as they like: open loop, timed from the scheduled instant, beside one durable
//! commit.

use std::time::Duration;

use anyhow::Result;

use super::submits::{self, Submitter};
use crate::bench::Bench;
use crate::load::closed;
use crate::open_loop::open;
use crate::report::{Goal, Report, Row};
use crate::sql::InsertOne;

const CASE: &str = "b2";
/// Requests that may be out at once.
const CONNECTIONS: usize = 128;
const WARM_UP: Duration = Duration::from_millis(500);

/// # Errors
/// A part fails, or a run is lost or doubled.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let (rate, length) = (bench.knobs.rate, bench.knobs.length);
    let (mut p50, mut p99, mut peer, mut late) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut invalid = None;
    for _ in 0..bench.knobs.trials {
        peer.push(one_commit(bench).await?);
        let server = bench.server().await?;
        let clients = Submitter::many(&server, CONNECTIONS).await?;
        let (_, clients) = open(clients, rate, WARM_UP).await?;
        let (arrivals, clients) = open(clients, rate, length).await?;
        submits::check(&server, &clients).await?;
        invalid = invalid.or(arrivals.invalid());
        p50.push(arrivals.load.percentile(50));
        p99.push(arrivals.load.percentile(99));
        late.push(arrivals.late);
    }
    let what = format!("submit at {rate}/s, open loop");
    report.add(
        Row::new(CASE, format!("{what}, p50"), "ms", p50)
            .beside("one durable commit, p50 ms", peer)
            .goal(Goal::RatioAtMost(2.5))
            .invalid(invalid.clone()),
    );
    report.add(Row::new(CASE, format!("{what}, p99"), "ms", p99).invalid(invalid.clone()));
    report.add(Row::new(CASE, "lateness of the sender, p99", "ms", late).invalid(invalid));
    Ok(())
}

/// Milliseconds of one row, durable, alone.
async fn one_commit(bench: &Bench) -> Result<f64> {
    let url = bench.postgres.database().await?;
    let (_, clients) = closed(InsertOne::many(&url, 1).await?, WARM_UP).await?;
    let (load, _) = closed(clients, bench.knobs.length / 3).await?;
    Ok(load.percentile(50))
}

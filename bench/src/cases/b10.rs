//! Pages of a long list, walked by eight clients with each filter, beside the bare query that a person would write for it.

mod fill;
mod pages;

use anyhow::Result;
use qwex_suite::Server;

use crate::bench::Bench;
use crate::load::closed;
use crate::report::{Goal, Report, Row};
use pages::{BarePages, Filter, Pages};

const CASE: &str = "b10";
const CLIENTS: usize = 8;

/// # Errors
/// A part fails, or a page is not what the bare query says.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let server = bench.server().await?;
    let rows = bench.knobs.rows;
    eprintln!("b10: filling in {rows} runs");
    let middle = fill::fill(&server, rows).await?;
    for filter in Filter::all(middle) {
        pages::check(&server, &filter).await?;
        let (mut own, mut peer, mut p99) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.knobs.trials {
            peer.push(bare(bench, &server, &filter).await?);
            let clients = Pages::many(&server, &filter, CLIENTS).await?;
            let (load, _) = closed(clients, bench.knobs.length).await?;
            own.push(load.rate());
            p99.push(load.percentile(99));
        }
        let what = format!("GET /v1/runs of {rows}, {}, 8 clients", filter.what);
        report.add(
            Row::new(CASE, what, "pages/s", own)
                .beside("the bare query, pages/s", peer)
                .goal(Goal::RatioAtLeast(0.4)),
        );
        report.add(Row::new(CASE, "the same, p99", "ms", p99));
    }
    Ok(())
}

/// Pages a second without qwex.
async fn bare(bench: &Bench, server: &Server, filter: &Filter) -> Result<f64> {
    let clients = BarePages::many(&server.database_url, filter, CLIENTS).await?;
    let (load, _) = closed(clients, bench.knobs.length).await?;
    Ok(load.rate())
}

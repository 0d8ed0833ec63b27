//! Endpoints that harm only themselves, and many events at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qwex_testbed::webhook_sink::{Answer, WebhookSink};
use serde_json::json;

use crate::support::{Bed, header, payload, verifies};

/// With the good one as many as a project may have.
const DEAD: usize = 99;
/// What a try at a dead endpoint takes is 20 s: a delivery behind one of them would come later than this.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn e11_black_holes_do_not_delay_a_good_endpoint() -> Result<()> {
    let bed = Bed::new().await?;
    let hole = WebhookSink::start().await?;
    hole.otherwise(Answer::silence());
    for number in 0..DEAD {
        bed.endpoint_at(&hole.url(&format!("/{number}")), &[]).await?;
    }
    let good = bed.endpoint("/good", &[]).await?;
    for expected in 1..=8 {
        bed.run(0).await?;
        let over = Instant::now();
        let requests = bed.requests(expected).await?;
        let late = requests[expected - 1].at.saturating_duration_since(over);
        ensure!(late < SOON, "delivery {expected} came {late:?} after the end");
    }
    let busy = hole.most_at_once();
    ensure!(
        (DEAD / 2..=DEAD).contains(&busy),
        "{busy} tries at once at {DEAD} dead endpoints"
    );
    let all = bed.deliveries(&good).await?;
    ensure!(all.iter().all(|one| one.tries <= 1), "{all:?}");
    drop(hole);
    bed.finish(&[&good.secret]).await
}

#[tokio::test]
async fn e12_in_whatever_order_they_arrive_the_sequence_tells_it() -> Result<()> {
    const RUNS: usize = 10;
    let bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &["run.started", "run.failed"]).await?;
    // Early ones take long, so that late ones overtake them.
    let slow = |number: u64| Answer::status(204).delay(Duration::from_millis(40 * (number % 5)));
    bed.sink.script((0..20).map(slow));
    for number in 0..RUNS {
        let command = ["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; exit 7"];
        let name = format!("{number}{}", "x".repeat(60));
        bed.server
            .api
            .submit(&json!({ "command": command, "name": name, "labels": { "long": "y".repeat(60) } }))
            .await?;
    }
    let requests = bed.requests(2 * RUNS).await?;
    let mut told: BTreeMap<String, BTreeMap<i64, String>> = BTreeMap::new();
    for request in &requests {
        ensure!(verifies(&endpoint.secret, request));
        ensure!(request.body.len() < 20_000, "{} bytes", request.body.len());
        let payload = payload(request)?;
        let run = payload["data"]["run_id"].to_string();
        let sequence = payload["data"]["sequence"].as_i64().unwrap_or(-1);
        told.entry(run)
            .or_default()
            .insert(sequence, payload["type"].to_string());
    }
    ensure!(told.len() == RUNS);
    for events in told.values() {
        let events: Vec<&str> = events.values().map(String::as_str).collect();
        ensure!(events == ["\"run.started\"", "\"run.failed\""], "{events:?}");
    }
    let ids: Result<BTreeSet<&str>> = requests.iter().map(|one| header(one, "webhook-id")).collect();
    ensure!(ids?.len() == 2 * RUNS, "one was sent twice though nothing failed");
    bed.finish(&[&endpoint.secret]).await
}

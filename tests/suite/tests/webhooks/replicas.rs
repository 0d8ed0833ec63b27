//! Two replicas empty one outbox.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use qwex_testbed::wait;
use qwex_testbed::webhook_sink::Answer;
use serde_json::json;

use crate::support::{Bed, LIMIT, header};

const RUNS: usize = 40;

async fn all_delivered(bed: &Bed, count: i64) -> Result<()> {
    let probe = || async {
        let sql = "SELECT count(*) FILTER (WHERE status = 'delivered'), count(*) FROM webhook_delivery";
        let (delivered, all): (i64, i64) = sqlx::query_as(sql)
            .fetch_one(&bed.db)
            .await
            .map_err(|error| error.to_string())?;
        let enough = delivered == count && all == count;
        enough
            .then_some(())
            .ok_or(format!("{delivered} of {all} are delivered"))
    };
    Ok(wait::until_ok(Duration::from_secs(120), "everything to be delivered", probe).await?)
}

/// How often each delivery arrived.
fn arrivals(bed: &Bed) -> Result<BTreeMap<String, usize>> {
    let mut arrivals = BTreeMap::new();
    for request in bed.sink.received() {
        *arrivals
            .entry(header(&request, "webhook-id")?.to_owned())
            .or_default() += 1;
    }
    Ok(arrivals)
}

async fn submit(api: &qwex_suite::Api, count: usize) -> Result<()> {
    let body = json!({ "command": ["true"] });
    try_join_all((0..count).map(|_| api.submit(&body))).await?;
    Ok(())
}

#[tokio::test]
async fn e02_two_replicas_deliver_each_event_once() -> Result<()> {
    let bed = Bed::new().await?;
    let mut second = bed.server.replica().await?;
    bed.endpoint("/", &["run.succeeded"]).await?;
    // Slow enough that both have something to do.
    bed.sink
        .otherwise(Answer::status(204).delay(Duration::from_millis(50)));
    tokio::try_join!(submit(&bed.server.api, RUNS / 2), submit(&second.api, RUNS / 2))?;
    all_delivered(&bed, i64::try_from(RUNS)?).await?;
    let arrivals = arrivals(&bed)?;
    ensure!(arrivals.len() == RUNS, "{arrivals:?}");
    ensure!(arrivals.values().all(|times| *times == 1), "{arrivals:?}");
    second.terminate(Duration::from_secs(25)).await?;
    bed.finish(&[]).await
}

/// One is killed with tries under way: those alone may come twice, with the same id, and none is lost.
#[tokio::test]
async fn e01_a_replica_that_is_killed_loses_no_delivery_to_the_other() -> Result<()> {
    let bed = Bed::new().await?;
    let mut second = bed.server.replica().await?;
    bed.endpoint("/", &["run.succeeded"]).await?;
    // The first tries never get an answer: whoever made them holds them.
    bed.sink.script((0..2).map(|_| Answer::silence()));
    tokio::try_join!(submit(&bed.server.api, RUNS / 2), submit(&second.api, RUNS / 2))?;
    wait::until(LIMIT, "a try that hangs", || async {
        (bed.sink.received().len() >= 2).then_some(())
    })
    .await?;
    // Each replica's embedded cluster is its own machine: runs that are under way on it would die with it.
    let all = i64::try_from(RUNS)?;
    wait::until(LIMIT, "all ends to be owed", || async {
        let owed: i64 = sqlx::query_scalar("SELECT count(*) FROM webhook_delivery")
            .fetch_one(&bed.db)
            .await
            .ok()?;
        (owed == all).then_some(())
    })
    .await?;
    second.kill().await?;
    // The claims of the dead run out, which nobody waits for here. Once: a claim that is taken from the living one
    // time and again lets none of its tries count.
    bed.sql(
        "UPDATE webhook_delivery SET claimed_until = now(), next_try_at = now() WHERE status = 'pending'",
    )
    .await?;
    all_delivered(&bed, all).await?;
    let arrivals = arrivals(&bed)?;
    ensure!(arrivals.len() == RUNS, "{arrivals:?}");
    let ends = "SELECT count(*) FROM webhook_delivery WHERE status <> 'delivered'";
    let open: i64 = sqlx::query_scalar(ends).fetch_one(&bed.db).await?;
    ensure!(open == 0, "{open} deliveries are owed");
    bed.finish(&[]).await
}

//! A server that dies or leaves: nothing is lost, and what is sent again is the same.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use qwex_testbed::wait;
use qwex_testbed::webhook_sink::Answer;
use serde_json::json;

use crate::support::{Bed, LIMIT, header, payload, verifies};

const RUNS: usize = 12;

/// The end of a run and what is owed for it are one transaction: at no moment is there one without the other.
const UNTOLD: &str = "SELECT count(*) FROM run WHERE finished_at IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM webhook_delivery WHERE webhook_delivery.run_id = run.id)";

#[tokio::test]
async fn e01_every_end_is_told_though_the_server_is_killed() -> Result<()> {
    let mut bed = Bed::new().await?;
    let endpoint = bed.endpoint("/runs", &[]).await?;
    let mut submitted = BTreeSet::new();
    for round in 0..3_u32 {
        for number in 0..RUNS / 3 {
            let command = ["sh", "-c", &format!("exit {}", number % 2)];
            let run = bed.server.api.submit(&json!({ "command": command })).await?;
            submitted.insert(run.id.to_string());
        }
        // Killed as soon as one more run is over, which is when others are about to be.
        let over = i64::from(round) + 1;
        let probe = || async {
            let sql = "SELECT count(*) FROM run WHERE finished_at IS NOT NULL";
            let count: i64 = sqlx::query_scalar(sql).fetch_one(&bed.db).await.ok()?;
            (count >= over).then_some(())
        };
        wait::until(LIMIT, "a run is over", probe).await?;
        bed.server.kill().await?;
        let untold: i64 = sqlx::query_scalar(UNTOLD).fetch_one(&bed.db).await?;
        ensure!(untold == 0, "{untold} runs are over and owed to nobody");
        // A claim of the dead server runs out; nobody waits for that here.
        bed.sql("UPDATE webhook_delivery SET claimed_until = NULL")
            .await?;
        bed.server.start_again().await?;
    }
    let told = || async {
        let told: BTreeSet<String> = bed
            .sink
            .received()
            .iter()
            .filter_map(|one| Some(payload(one).ok()?["data"]["run_id"].as_str()?.to_owned()))
            .collect();
        if told == submitted {
            Ok(())
        } else {
            Err(format!("{} of {} runs were told", told.len(), submitted.len()))
        }
    };
    wait::until_ok(Duration::from_secs(90), "every run was told", told)
        .await
        .with_context(|| bed.server.log_tail())?;
    for request in bed.sink.received() {
        ensure!(verifies(&endpoint.secret, &request));
    }
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn e02_after_a_crash_the_same_bytes_come_with_the_same_id() -> Result<()> {
    let mut bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    // It arrives, and the server dies before it hears so.
    bed.sink.script([Answer::silence()]);
    bed.run(0).await?;
    let first = bed.requests(1).await?.remove(0);
    bed.server.kill().await?;
    let sent_at: u64 = header(&first, "webhook-timestamp")?.parse()?;
    wait::until(LIMIT, "the next second", || async {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        (now.as_secs() > sent_at).then_some(())
    })
    .await?;
    let claimed = bed
        .delivery(&endpoint, "claimed by the dead", |one| one.claimed)
        .await?;
    ensure!(claimed.tries == 0, "{claimed:?}");
    bed.sql("UPDATE webhook_delivery SET claimed_until = now()")
        .await?;
    bed.server.start_again().await?;
    let second = bed.requests(2).await?.remove(1);
    for name in ["webhook-id", "content-type"] {
        ensure!(header(&first, name)? == header(&second, name)?, "{name}");
    }
    ensure!(first.body == second.body, "other bytes on the second try");
    let sent_again_at: u64 = header(&second, "webhook-timestamp")?.parse()?;
    ensure!(sent_again_at > sent_at, "an old timestamp would be refused");
    ensure!(verifies(&endpoint.secret, &first) && verifies(&endpoint.secret, &second));
    bed.delivery(&endpoint, "delivered", |one| one.status == "delivered")
        .await?;
    ensure!(bed.sink.received().len() == 2);
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn e02_a_server_that_leaves_gives_back_what_it_holds() -> Result<()> {
    let mut bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.script([Answer::silence()]);
    bed.run(0).await?;
    bed.requests(1).await?;
    bed.server.terminate(Duration::from_secs(25)).await?;
    let given = bed.delivery(&endpoint, "given back", |one| !one.claimed).await?;
    ensure!(given.status == "pending" && given.tries == 0, "{given:?}");
    bed.server.start_again().await?;
    let requests = bed.requests(2).await?;
    ensure!(header(&requests[0], "webhook-id")? == header(&requests[1], "webhook-id")?);
    bed.delivery(&endpoint, "delivered", |one| one.status == "delivered")
        .await?;
    bed.finish(&[&endpoint.secret]).await
}

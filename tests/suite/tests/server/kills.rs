//! The server killed again and again amid many runs, and what must be true afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use qwex_core::{LogVerdict, RunId, RunStatus};
use qwex_suite::{Api, ServerSetup};
use qwex_testbed::webhook_sink::WebhookSink;
use qwex_testbed::{require, shared, wait};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Bed, LIMIT, shell, submit_surely};

const RUNS: &str = "QWEX_TEST_RUNS";
const KILLS: usize = 5;
const LINES: usize = 30;
/// Each cluster gets as many runs at once as the machine bears.
const AT_ONCE: usize = 16;

/// One run, and what must come of it.
struct Wanted {
    id: RunId,
    body: Value,
    /// Exit code and log; `None`: played by a simulated node, which ends well and says three lines.
    real: Option<(i32, String)>,
}

fn wanted(number: usize) -> Wanted {
    let id = RunId::mint();
    if number.is_multiple_of(2) {
        let mut body = shell("true");
        body["id"] = json!(id);
        body["cluster"] = json!("beta");
        return Wanted { id, body, real: None };
    }
    let code = i32::try_from(number % 3).expect("small");
    let script =
        format!("i=0; while [ $i -lt {LINES} ]; do echo run {number} line $i; i=$((i+1)); done; exit {code}");
    let mut body = shell(&script);
    body["id"] = json!(id);
    body["cluster"] = json!("local");
    let log = (0..LINES)
        .map(|line| format!("run {number} line {line}\n"))
        .collect();
    Wanted {
        id,
        body,
        real: Some((code, log)),
    }
}

/// Kills the server each time another share of the runs is over.
async fn kill_amid(bed: &mut Bed, runs: usize) -> Result<()> {
    let pool = PgPool::connect(&bed.server.database_url).await?;
    for kill in 0..KILLS {
        let share = i64::try_from(runs * (2 * kill + 1) / (2 * KILLS + 1))?;
        wait::until(LIMIT, "more runs to be over", || async {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM run WHERE finished_at IS NOT NULL")
                .fetch_one(&pool)
                .await
                .ok()?;
            (count >= share).then_some(())
        })
        .await?;
        bed.server.kill().await?;
        bed.server.start_again().await?;
    }
    Ok(())
}

/// Every run as it was to end, with every byte of its log.
async fn check(api: &Api, wanted: &Wanted) -> Result<()> {
    let run = api.until_sealed(wanted.id, LIMIT).await?;
    let code = wanted.real.as_ref().map_or(0, |(code, _)| *code);
    let status = match code {
        0 => RunStatus::Succeeded,
        _ => RunStatus::Failed,
    };
    ensure!(run.status == status && run.exit_code == Some(code), "{run:#?}");
    let verdict = run.logs.as_ref().map(|logs| logs.verdict);
    ensure!(verdict == Some(LogVerdict::Complete), "{run:#?}");
    let log = api.log(wanted.id).await?;
    match &wanted.real {
        Some((_, whole)) => ensure!(log == whole, "run {} says {log:?}", wanted.id),
        None => ensure!(log.iter().filter(|byte| **byte == b'\n').count() == 3, "{log:?}"),
    }
    Ok(())
}

/// The runs whose end was delivered, by the name of the event.
fn delivered(sink: &WebhookSink) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut ends: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for received in sink.received() {
        let body: Value = serde_json::from_slice(&received.body).context("a webhook is not JSON")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        ends.entry(text(&body["type"]))
            .or_default()
            .insert(text(&body["data"]["run_id"]));
    }
    Ok(ends)
}

async fn every_end_is_delivered(sink: &WebhookSink, all: &[Wanted]) -> Result<()> {
    let failed = |wanted: &&Wanted| wanted.real.as_ref().is_some_and(|(code, _)| *code != 0);
    let failures: BTreeSet<String> = all.iter().filter(failed).map(|one| one.id.to_string()).collect();
    let successes = all
        .iter()
        .map(|one| one.id.to_string())
        .filter(|id| !failures.contains(id))
        .collect();
    let owed = BTreeMap::from([
        ("run.failed".to_owned(), failures),
        ("run.succeeded".to_owned(), successes),
    ]);
    let told = wait::until_ok(LIMIT, "every end to be delivered", || async {
        let told = delivered(sink).map_err(|error| error.to_string())?;
        (told == owed).then_some(()).ok_or(format!("{told:?}"))
    });
    Ok(told.await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_runs_survive_five_kills() -> Result<()> {
    require!(Go, Postgres);
    let count = match std::env::var(RUNS) {
        Ok(count) => count.parse().context(RUNS)?,
        Err(_) => 200,
    };
    let mut bed = Bed::prepare(shared::beta().await?, ServerSetup::default()).await?;
    bed.register(&bed.kubeconfig).await?;
    let sink = WebhookSink::start().await?;
    let endpoint =
        json!({ "url": sink.url("/ends"), "events": ["run.succeeded", "run.failed", "run.cancelled"] });
    bed.server
        .api
        .post("/v1/webhooks", &endpoint)
        .await?
        .expect(201)?;

    let all: Vec<Wanted> = (0..count).map(wanted).collect();
    let api = bed.server.api.clone();
    let submitted = async {
        let mut answers = futures::stream::iter(&all)
            .map(|one| submit_surely(&api, &one.body))
            .buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(submitted, kill_amid(&mut bed, count))?;

    let mut checks = futures::stream::iter(&all)
        .map(|one| check(&api, one))
        .buffer_unordered(AT_ONCE);
    while let Some(checked) = checks.next().await {
        checked?;
    }
    let simulated = all.iter().filter(|one| one.real.is_none()).count();
    assert_eq!(bed.jobs_made()?, simulated, "one Job for each run");
    every_end_is_delivered(&sink, &all).await?;
    let retries = Duration::from_secs(1);
    wait::until(LIMIT, "every delivery to be noted", || async {
        let owed: i64 = tokio::time::timeout(retries, owed(&bed.server.database_url))
            .await
            .ok()?
            .ok()?;
        (owed == 0).then_some(())
    })
    .await?;
    bed.settle().await
}

/// Deliveries that the server does not know to have arrived.
async fn owed(database_url: &str) -> Result<i64> {
    let pool = PgPool::connect(database_url).await?;
    let count = sqlx::query_scalar("SELECT count(*) FROM webhook_delivery WHERE delivered_at IS NULL")
        .fetch_one(&pool)
        .await?;
    pool.close().await;
    Ok(count)
}

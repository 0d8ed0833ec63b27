//! Attempts: each has its own object, its own record and its own log; the run ends as the last one did.

use anyhow::{Result, ensure};
use qwex_core::{RunId, RunStatus};
use qwex_suite::Server;
use qwex_testbed::webhook_sink::WebhookSink;
use qwex_testbed::{require, wait};
use serde_json::{Value, json};

use crate::support::{LIMIT, over, shell};

fn told(sink: &WebhookSink, id: RunId) -> Vec<Value> {
    let bodies = sink.received().into_iter();
    let bodies = bodies.filter_map(|one| serde_json::from_slice::<Value>(&one.body).ok());
    bodies
        .filter(|body| body["data"]["run_id"] == json!(id))
        .collect()
}

/// Two failures, then success: three attempts with an object each, told by attempts, history and log; one event of
/// the end.
#[tokio::test]
async fn a03_a_retried_run_has_three_attempts_and_one_end() -> Result<()> {
    require!(Postgres);
    let server = Server::start().await?;
    let sink = WebhookSink::start().await?;
    let api = &server.api;
    let endpoint = json!({ "url": sink.url("/"), "events": ["run.succeeded", "run.failed"] });
    api.post("/v1/webhooks", &endpoint).await?.expect(201)?;
    let mut body = shell("echo attempt $QWEX_ATTEMPT of $QWEX_RUN_ID; [ $QWEX_ATTEMPT = 3 ]");
    body["retry"] = json!({ "limit": 3 });
    let id = api.submit(&body).await?.id;
    let run = api.until_sealed(id, LIMIT).await?;
    ensure!(
        (run.status, run.exit_code, run.attempt.0) == (RunStatus::Succeeded, Some(0), 3),
        "{run:#?}"
    );

    let attempts = api.items(&format!("/v1/runs/{id}/attempts")).await?;
    let numbers: Vec<(Value, Value, Value)> = attempts
        .iter()
        .map(|one| {
            (
                one["attempt"].clone(),
                one["status"].clone(),
                one["exit_code"].clone(),
            )
        })
        .collect();
    let failed = |number: u32| (json!(number), json!("failed"), json!(1));
    ensure!(
        numbers == [failed(1), failed(2), (json!(3), json!("succeeded"), json!(0))],
        "{attempts:#?}"
    );
    let objects: Vec<String> = (1..=3).map(|number| format!("qwex-{id}-a{number}")).collect();
    for (one, object) in attempts.iter().zip(&objects) {
        ensure!(one["object"] == json!(object), "{one}");
        ensure!(
            one["episodes"].as_array().is_some_and(|all| all.len() == 1),
            "{one}"
        );
        let dir = server.dir.path().join("local").join(object);
        ensure!(dir.is_dir(), "{} is missing", dir.display());
    }

    let kinds = api.event_kinds(id).await?;
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    ensure!(count("dispatched") == 3 && count("started") == 3, "{kinds:?}");
    ensure!(
        count("episode_ended") == 3 && count("succeeded") <= 1,
        "{kinds:?}"
    );
    let log = String::from_utf8_lossy(&api.log(id).await?).into_owned();
    let wanted: String = (1..=3)
        .map(|number| format!("attempt {number} of {id}\n"))
        .collect();
    ensure!(log == wanted, "{log:?}");
    for number in 1..=3 {
        let own = api
            .get(&format!("/v1/runs/{id}/logs?attempt={number}"))
            .await?
            .expect(200)?;
        ensure!(own.bytes == format!("attempt {number} of {id}\n"), "{own:?}");
    }

    wait::until(LIMIT, "the end to be told", || async {
        (!told(&sink, id).is_empty()).then_some(())
    })
    .await?;
    server.settle(&[]).await?;
    let ends = told(&sink, id);
    ensure!(ends.len() == 1 && ends[0]["type"] == "run.succeeded", "{ends:#?}");
    Ok(())
}

/// No attempt is left: the run ends as the last one did, and not before.
#[tokio::test]
async fn a_run_whose_attempts_all_fail_has_failed_once() -> Result<()> {
    require!(Postgres);
    let server = Server::start().await?;
    let api = &server.api;
    let mut body = shell("exit $((40 + QWEX_ATTEMPT))");
    body["retry"] = json!({ "limit": 1 });
    let id = api.submit(&body).await?.id;
    let run = api.until(id, LIMIT, "over", over).await?;
    ensure!(
        (run.status, run.exit_code, run.attempt.0) == (RunStatus::Failed, Some(42), 2),
        "{run:#?}"
    );
    let attempts = api.items(&format!("/v1/runs/{id}/attempts")).await?;
    let codes: Vec<Value> = attempts.iter().map(|one| one["exit_code"].clone()).collect();
    ensure!(codes == [json!(41), json!(42)], "{attempts:#?}");
    server.settle(&[]).await
}

//! Runs that ended elsewhere and are brought to a server: recorded as told, marked, whole or not at all.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use qwex_api::record::RECORD_WITH_LOG;
use qwex_suite::{Api, Reply, Server};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::uploads::{Half, archived, cleared};

/// Lines of a log of several chunks, half of which is one too.
const LINES: u32 = 300_000;
const LIMIT: Duration = Duration::from_secs(20);

/// A record of a run that failed on somebody's laptop, and wrote `log` to its standard output.
pub fn record(id: &str, log: &[u8]) -> Value {
    let (from, to) = ("2026-01-01T00:00:01.5Z", "2026-01-01T00:01:00.123456Z");
    let failure =
        json!({"code": "exit_code", "message": "it ended with exit code 3", "exit_code": 3, "signal": null});
    json!({
        "run": {
            "id": id, "name": "train", "project": "elsewhere", "labels": {"team": "vision"}, "status": "failed",
            "failure": failure, "spec": {"command": ["train"], "env": {"A": "b"}}, "attempt": 1, "exit_code": 3,
            "backend": {"kind": "local", "object": format!("qwex-{id}-a1"), "uid": format!("boot/{id}/1")},
            "logs": {"verdict": "complete", "bytes": log.len(), "lines": 0, "sha256": hex::encode(Sha256::digest(log))},
            "created_at": "2026-01-01T00:00:00Z", "dispatched_at": from, "started_at": from, "finished_at": to,
            "created_by": "local:ada", "provenance": {"git_commit": "c0ffee", "host": "laptop"},
            "usage": {"cpu_ms": 7, "max_memory_bytes": 8},
        },
        "attempts": [{
            "attempt": 1, "status": "failed", "object": format!("qwex-{id}-a1"), "uid": format!("boot/{id}/1"),
            "failure": failure, "exit_code": 3, "dispatched_at": from, "started_at": from, "finished_at": to,
            "episodes": [{"id": format!("boot/{id}/1"), "exit_code": 3, "started_at": from, "ended_at": to}],
        }],
        "events": [
            {"run_id": id, "seq": 1, "at": from, "kind": "submitted", "attempt": 1, "message": "by ada", "data": {}},
            {"run_id": id, "seq": 2, "at": to, "kind": "failed", "attempt": 1, "message": "exit code 3", "data": {"exit_code": 3}},
        ],
        "log_streams": [{"ordinal": 0, "attempt": 1, "episode": format!("boot/{id}/1"), "stream": "stdout",
            "bytes": log.len(), "lines": 0, "verdict": "complete"}],
    })
}

pub fn body(record: &Value, log: &[u8]) -> Vec<u8> {
    let mut body = serde_json::to_vec(record).expect("JSON serialises");
    body.push(b'\n');
    body.extend_from_slice(log);
    body
}

pub fn mint() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub async fn import(api: &Api, record: &Value, log: &[u8]) -> Result<Reply> {
    let id = record["run"]["id"].as_str().context("no id")?;
    let path = format!("/v1/runs/{id}/import");
    api.put_bytes(&path, RECORD_WITH_LOG, body(record, log)).await
}

/// More than two chunks, with bytes that are no text, and no newline at the end.
pub fn long_log() -> Vec<u8> {
    let mut log = Vec::new();
    for line in 0..LINES {
        log.extend_from_slice(format!("line {line} ").as_bytes());
        log.extend_from_slice(&[0, 255, (line % 256) as u8 | 128, b'\n']);
    }
    log.extend_from_slice(b"the last one");
    log
}

#[tokio::test]
async fn what_is_brought_is_answered_as_it_was_and_marked() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let owner = server.project("team", "admin").await?;
    let endpoint = json!({"url": "http://127.0.0.1:9/sink", "events": ["run.failed"]});
    owner.post("/v1/webhooks", &endpoint).await?.expect(201)?;
    let (id, log) = (mint(), long_log());
    let told = record(&id, &log);
    let made = import(&api, &told, &log).await?.expect(201)?.json();
    let run = api.get(&format!("/v1/runs/{id}")).await?.expect(200)?.json();
    ensure!(made == run, "{made:#}\n{run:#}");
    for field in [
        "id",
        "name",
        "labels",
        "status",
        "failure",
        "attempt",
        "exit_code",
        "created_at",
        "dispatched_at",
        "started_at",
        "finished_at",
        "created_by",
        "provenance",
        "usage",
    ] {
        ensure!(run[field] == told["run"][field], "{field}: {run:#}");
    }
    ensure!(run["backend"]["uid"] == told["run"]["backend"]["uid"]);
    ensure!(
        run["project"] == "team" && run["imported"]["by"] == "token:team-submitter",
        "{run:#}"
    );
    for field in ["verdict", "bytes", "sha256"] {
        ensure!(
            run["logs"][field] == told["run"]["logs"][field],
            "{field}: {run:#}"
        );
    }
    answered(&api, &run, &log).await?;

    let again = import(&api, &told, &log).await?.expect(200)?.json();
    ensure!(again == run, "a second time changed it: {again:#}");
    // It can be run again here, as a run of its own.
    let rerun = api
        .post(&format!("/v1/runs/{id}/rerun"), &json!({}))
        .await?
        .expect(201)?
        .json();
    let over = api
        .until_sealed(rerun["id"].as_str().context("no id")?, LIMIT)
        .await?;
    ensure!(over.imported.is_none());
    server.settle(&[]).await
}

/// What the server says of a run that was brought to it, beside the run itself.
async fn answered(api: &Api, run: &Value, log: &[u8]) -> Result<()> {
    let id = run["id"].as_str().context("no id")?;
    ensure!(run["logs"]["lines"] == LINES + 1, "{run:#}");
    ensure!(api.log(id).await? == *log);
    ensure!(api.get(&format!("/v1/runs/{id}/logs?tail=1")).await?.bytes == "the last one");
    let streams = api.get(&format!("/v1/runs/{id}/logs/streams")).await?.json();
    ensure!(
        streams["items"][0]["sha256"] == run["logs"]["sha256"],
        "{streams:#}"
    );
    let kinds = api.event_kinds(id).await?;
    ensure!(kinds == ["submitted", "failed", "imported"], "{kinds:?}");
    let attempts = api.get(&format!("/v1/runs/{id}/attempts")).await?.json();
    ensure!(
        attempts["items"][0]["episodes"][0]["exit_code"] == 3,
        "{attempts:#}"
    );
    let rows = api.get("/v1/runs?name=train").await?.json();
    ensure!(
        rows["items"][0]["imported"]["by"] == "token:team-submitter",
        "{rows:#}"
    );
    let why = api.get(&format!("/v1/runs/{id}/why")).await?.json().to_string();
    ensure!(why.contains("elsewhere"), "{why}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_that_run_or_not_whole_is_refused_and_leaves_nothing() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let id = mint();
    let told = record(&id, b"log");
    type Change = fn(&mut Value);
    let refused: [(Change, &[u8], u16, &str); 8] = [
        (|_| {}, b"lo", 400, "after 2 bytes"),
        (|_| {}, b"logs", 400, "more bytes"),
        (|_| {}, b"lag", 422, "SHA-256"),
        (
            |r| r["run"]["status"] = "running".into(),
            b"log",
            422,
            "wait for its end",
        ),
        (|r| r["run"]["id"] = mint().into(), b"log", 422, "/run/id"),
        (|r| r["events"] = json!([]), b"log", 422, "/events"),
        (|r| r["weather"] = "rain".into(), b"log", 422, "/weather"),
        (|r| r["project"] = "nobodys".into(), b"log", 404, "nobodys"),
    ];
    let path = format!("/v1/runs/{id}/import");
    for (change, log, status, words) in refused {
        let mut told = told.clone();
        change(&mut told);
        let reply = api
            .put_bytes(&path, RECORD_WITH_LOG, body(&told, log))
            .await?
            .expect(status)?;
        ensure!(reply.json().to_string().contains(words), "{words}: {reply:?}");
        api.get(&format!("/v1/runs/{id}")).await?.expect(404)?;
    }
    let text = api.put_bytes(&path, "text/plain", body(&told, b"log")).await?;
    text.expect(415)?;

    import(&api, &told, b"log").await?.expect(201)?;
    let others: [(Change, &str); 2] = [
        (|r| r["run"]["spec"]["command"] = json!(["other"]), "another spec"),
        (
            |r| {
                r["run"]["exit_code"] = 4.into();
                r["run"]["failure"]["exit_code"] = 4.into();
                r["attempts"][0]["exit_code"] = 4.into();
            },
            "another end",
        ),
    ];
    for (change, words) in others {
        let mut other = told.clone();
        change(&mut other);
        let problem = import(&api, &other, b"log").await?.expect(409)?.json();
        ensure!(problem["code"] == "run_id_taken", "{problem:#}");
        ensure!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains(words)),
            "{problem:#}"
        );
    }
    let problem = import(&api, &record(&id, b"lag"), b"lag")
        .await?
        .expect(409)?
        .json();
    ensure!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("another log")),
        "{problem:#}"
    );
    // An id that a run of this server has, over or not.
    let own = api.submit(&json!({"command": ["true"]})).await?;
    import(&api, &record(&own.id.to_string(), b""), b"")
        .await?
        .expect(409)?;
    api.until_sealed(own.id, LIMIT).await?;
    server.settle(&[]).await
}

#[tokio::test]
async fn a_cut_upload_has_brought_nothing_and_again_it_converges() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let mut server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let (id, log) = (mint(), long_log());
    let told = record(&id, &log);
    let whole = body(&told, &log);

    let cut = Half::sent(&api, &id, &whole).await?;
    archived(&server, &id).await?;
    cut.cut().await?;
    api.get(&format!("/v1/runs/{id}")).await?.expect(404)?;
    cleared(&server, &id).await?;

    let killed = Half::sent(&api, &id, &whole).await?;
    server.kill().await?;
    drop(killed);
    server.start_again().await?;
    api.get(&format!("/v1/runs/{id}")).await?.expect(404)?;

    import(&api, &told, &log).await?.expect(201)?;
    ensure!(api.log(&id).await? == log);
    server.settle(&[]).await
}

#[tokio::test]
async fn many_at_once_record_one_and_spoil_no_byte() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    let id = mint();
    let logs: Vec<Vec<u8>> = (0..6_u8).map(|number| vec![b'a' + number / 3; 1 << 20]).collect();
    let records: Vec<Value> = logs.iter().map(|log| record(&id, log)).collect();
    let sent = records
        .iter()
        .zip(&logs)
        .map(|(record, log)| import(&api, record, log));
    let replies: Vec<Reply> = join_all(sent).await.into_iter().collect::<Result<_>>()?;
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    ensure!((count(201), count(200), count(409)) == (1, 2, 3), "{statuses:?}");
    let kept = api.log(&id).await?;
    let sealed = api.run(&id).await?.logs.context("no summary")?;
    ensure!(hex::encode(Sha256::digest(&kept)) == sealed.sha256);
    server.settle(&[]).await
}

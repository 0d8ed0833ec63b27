//! A01 to A04: what happens when a request is sent again.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use qwex_core::RunId;
use qwex_suite::{Reply, Server};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

const KEY: &str = "idempotency-key";

fn id(reply: &Reply) -> String {
    reply.json()["id"].as_str().unwrap_or_default().to_owned()
}

async fn runs(server: &Server) -> Result<i64> {
    let pool = sqlx::PgPool::connect(&server.database_url).await?;
    let count = sqlx::query_scalar("SELECT count(*) FROM run")
        .fetch_one(&pool)
        .await?;
    pool.close().await;
    Ok(count)
}

#[tokio::test]
async fn a01_a_submit_whose_answer_was_lost_is_repeated_fifty_times_and_is_one_run() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let body = json!({"command": ["true"]});
    // The caller goes away before it has read a byte.
    let text = body.to_string();
    let address = server.api.base.trim_start_matches("http://").to_owned();
    let mut socket = tokio::net::TcpStream::connect(&address).await?;
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{KEY}: ci-1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        server.api.token,
        text.len()
    );
    socket.write_all(head.as_bytes()).await?;
    drop(socket);
    let again = (0..50).map(|_| {
        server
            .api
            .send(Method::POST, "/v1/runs", Some(&body), &[(KEY, "ci-1")])
    });
    let replies = try_join_all(again).await?;
    let ids: HashSet<String> = replies.iter().map(id).collect();
    ensure!(ids.len() == 1, "{replies:?}");
    ensure!(replies.iter().all(|reply| reply.status.is_success()));
    ensure!(runs(&server).await? == 1);
    let marked = replies
        .iter()
        .filter(|reply| reply.headers.contains_key("idempotent-replayed"));
    ensure!(marked.count() >= 49);
    server.settle(&[]).await
}

#[tokio::test]
async fn a02_a_key_stands_for_one_body_in_one_project() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let (api, other) = (&server.api, server.project("other", "submitter").await?);
    let post = async |api: &qwex_suite::Api, text: &str| {
        let body: Value = serde_json::from_str(text)?;
        api.send(Method::POST, "/v1/runs", Some(&body), &[(KEY, "k")])
            .await
    };
    let first = post(api, r#"{"command":["true"],"labels":{"a":"1","b":"2"}}"#)
        .await?
        .expect(201)?;
    let permuted = post(api, r#"{"labels":{"b":"2","a":"1"},"command":["true"]}"#)
        .await?
        .expect(200)?;
    ensure!(id(&first) == id(&permuted), "a permuted body is the same body");
    let refused = post(api, r#"{"command":["false"]}"#).await?.expect(422)?;
    ensure!(refused.json()["code"] == "idempotency_mismatch");
    // The same key of another tenant is another key.
    let foreign = post(&other, r#"{"command":["true"],"labels":{"a":"1","b":"2"}}"#)
        .await?
        .expect(201)?;
    ensure!(id(&foreign) != id(&first));
    let too_long = "k".repeat(256);
    for bad in ["", too_long.as_str()] {
        let body = json!({"command": ["true"]});
        api.send(Method::POST, "/v1/runs", Some(&body), &[(KEY, bad)])
            .await?
            .expect(400)?;
    }
    server.settle(&[]).await
}

#[tokio::test]
async fn a03_a_hundred_at_once_with_one_key_are_one_run() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let body = json!({"command": ["true"]});
    let all = (0..100).map(|_| {
        server
            .api
            .send(Method::POST, "/v1/runs", Some(&body), &[(KEY, "one")])
    });
    let replies = try_join_all(all).await?;
    let mut ids = HashSet::new();
    for reply in &replies {
        match reply.status.as_u16() {
            200 | 201 => drop(ids.insert(id(reply))),
            409 => ensure!(reply.json()["code"] == "idempotency_in_flight", "{reply:?}"),
            _ => anyhow::bail!("{reply:?}"),
        }
    }
    ensure!(ids.len() == 1 && runs(&server).await? == 1, "{ids:?}");
    ensure!(replies.iter().filter(|reply| reply.status == 201).count() == 1);
    server.settle(&[]).await
}

#[tokio::test]
async fn a04_an_id_minted_by_the_client_makes_a_repeat_harmless() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let (api, other) = (&server.api, server.project("other", "submitter").await?);
    let run = RunId::mint();
    let body = json!({"id": run, "command": ["true"]});
    let first = api.post("/v1/runs", &body).await?.expect(201)?;
    ensure!(
        first.headers["location"] == format!("/v1/runs/{run}"),
        "{first:?}"
    );
    ensure!(id(&api.post("/v1/runs", &body).await?.expect(200)?) == run.to_string());
    let path = format!("/v1/runs/{run}");
    let put = json!({"command": ["true"]});
    ensure!(id(&api.send(Method::PUT, &path, Some(&put), &[]).await?.expect(200)?) == run.to_string());
    let changed = json!({"id": run, "command": ["false"]});
    ensure!(api.post("/v1/runs", &changed).await?.expect(409)?.json()["code"] == "run_id_taken");
    let foreign = other.post("/v1/runs", &body).await?.expect(409)?;
    ensure!(
        !foreign.json().to_string().contains("default"),
        "nothing is told of the other project: {foreign:?}"
    );
    let mismatch = json!({"id": RunId::mint(), "command": ["true"]});
    api.send(Method::PUT, &path, Some(&mismatch), &[])
        .await?
        .expect(422)?;
    ensure!(runs(&server).await? == 1);
    server.settle(&[]).await
}

#[tokio::test]
async fn a03_every_post_is_carried_out_once_under_a_key() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = &server.api;
    let make = async |name: &str| {
        let body = json!({ "name": name });
        api.send(Method::POST, "/v1/projects", Some(&body), &[(KEY, "p")])
            .await
    };
    let first = make("team").await?.expect(201)?;
    let again = make("team").await?.expect(201)?;
    ensure!(
        first.bytes == again.bytes && again.headers["idempotent-replayed"] == "true",
        "{again:?}"
    );
    ensure!(make("crew").await?.expect(422)?.json()["code"] == "idempotency_mismatch");
    // A refusal is not kept: the same key may be used when the cause is mended.
    let body = json!({"name": "UPPER"});
    api.send(Method::POST, "/v1/projects", Some(&body), &[(KEY, "q")])
        .await?
        .expect(422)?;
    let body = json!({"name": "upper"});
    api.send(Method::POST, "/v1/projects", Some(&body), &[(KEY, "q")])
        .await?
        .expect(201)?;
    Ok(())
}

#[tokio::test]
async fn a02_a_secret_is_shown_once_and_never_kept() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = &server.api;
    let token = json!({"name": "ci", "role": "viewer"});
    let webhook = json!({"url": "http://127.0.0.1:9/sink"});
    let mut secrets = Vec::new();
    for (path, body, field) in [
        ("/v1/tokens", &token, "token"),
        ("/v1/webhooks", &webhook, "secret"),
    ] {
        let made = api
            .send(Method::POST, path, Some(body), &[(KEY, "s")])
            .await?
            .expect(201)?;
        ensure!(made.headers["cache-control"] == "no-store");
        secrets.push(made.json()[field].as_str().context("no secret")?.to_owned());
        let again = api
            .send(Method::POST, path, Some(body), &[(KEY, "s")])
            .await?
            .expect(409)?;
        ensure!(again.json()["hint"].is_string(), "{again:?}");
    }
    let canaries: Vec<&str> = secrets.iter().map(String::as_str).collect();
    server.settle(&canaries).await
}

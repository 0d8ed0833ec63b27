//! Runs as a caller with nothing but curl meets them: submit, wait, page, watch, cancel, read the log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_suite::Server;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_curl_submits_waits_and_reads_the_log() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = server.project("team", "submitter").await?;
    // `curl -d` says that JSON is a form.
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = json!({"command": "printf 'one\\ntwo\\n'; exit 3"});
    let run = api
        .send(Method::POST, "/v1/runs", Some(&body), &headers)
        .await?
        .expect(201)?
        .json();
    let path = format!("/v1/runs/{}", run["id"].as_str().context("no id")?);
    let over = api.get(&format!("{path}?wait=30s")).await?.expect(200)?;
    ensure!(
        over.json()["failure"]["code"] == "exit_code" && over.json()["exit_code"] == 3,
        "{over:?}"
    );
    ensure!(api.get(&format!("{path}/logs?follow")).await?.expect(200)?.bytes == "one\ntwo\n");
    ensure!(api.get(&format!("{path}/logs?tail=1")).await?.bytes == "two\n");
    ensure!(
        api.get(&format!("{path}/logs?since=2000-01-01T00:00:00Z"))
            .await?
            .bytes
            == "one\ntwo\n"
    );
    ensure!(
        api.get(&format!("{path}/logs?until=2000-01-01T00:00:00Z"))
            .await?
            .bytes
            == ""
    );
    let lines = api
        .send(
            Method::GET,
            &format!("{path}/logs"),
            None,
            &[("accept", "application/jsonl")],
        )
        .await?;
    let first = lines
        .bytes
        .split(|byte| *byte == b'\n')
        .next()
        .context("no line")?;
    let first: serde_json::Value = serde_json::from_slice(first)?;
    ensure!(first["text"] == "one", "{first}");
    let cursor = first["cursor"].as_str().context("no cursor")?;
    ensure!(api.get(&format!("{path}/logs?cursor={cursor}")).await?.bytes == "two\n");
    let events = [("accept", "text/event-stream"), ("last-event-id", cursor)];
    let stream = api
        .send(Method::GET, &format!("{path}/logs"), None, &events)
        .await?;
    let text = String::from_utf8_lossy(&stream.bytes).into_owned();
    ensure!(
        !text.contains("\"one\"") && text.contains("\"two\"") && text.contains("event: end"),
        "{text}"
    );
    server.settle(&[]).await
}

#[tokio::test]
async fn events_stream_to_the_end_and_go_on_behind_the_last_one_seen() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let run = server.api.submit(&json!({"command": ["true"]})).await?;
    let path = format!("/v1/runs/{}/events", run.id);
    let sse = [("accept", "text/event-stream")];
    let text = server
        .api
        .send(Method::GET, &path, None, &sse)
        .await?
        .expect(200)?;
    let text = String::from_utf8_lossy(&text.bytes).into_owned();
    let at = |what: &str| {
        text.find(what)
            .with_context(|| format!("{what} is missing: {text}"))
    };
    ensure!(
        at("event: submitted")? < at("event: dispatched")?
            && at("event: dispatched")? < at("event: succeeded")?
    );
    ensure!(at("event: succeeded")? < at("event: end")?, "{text}");
    let resumed = [("accept", "text/event-stream"), ("last-event-id", "2")];
    let rest = server.api.send(Method::GET, &path, None, &resumed).await?;
    let rest = String::from_utf8_lossy(&rest.bytes).into_owned();
    ensure!(!rest.contains("id: 2\n") && rest.contains("id: 3\n"), "{rest}");
    // The same as pages.
    let first = server
        .api
        .get(&format!("{path}?page_size=2"))
        .await?
        .expect(200)?;
    ensure!(first.json()["items"].as_array().map(Vec::len) == Some(2));
    let next = first.json()["next_page_token"]
        .as_str()
        .context("no next page")?
        .to_owned();
    ensure!(first.headers["link"].to_str()?.contains(&next));
    let second = server
        .api
        .get(&format!("{path}?page_size=2&page_token={next}"))
        .await?
        .expect(200)?;
    ensure!(second.json()["items"][0]["seq"] == 3, "{second:?}");
    server.settle(&[]).await
}

#[tokio::test]
async fn lists_are_filtered_and_paged_without_a_hole() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = &server.api;
    let mut made = Vec::new();
    for number in 0..7 {
        let team = if number % 2 == 0 { "even" } else { "odd" };
        let body = json!({"command": ["true"], "name": format!("n{number}"), "labels": {"team": team}});
        made.push(api.submit(&body).await?.id.to_string());
    }
    let mut seen = Vec::new();
    let mut path = "/v1/runs?page_size=3".to_owned();
    loop {
        let page = api.get(&path).await?.expect(200)?.json();
        let items = page["items"].as_array().context("no items")?;
        ensure!(
            items.iter().all(|row| row.get("spec").is_none()),
            "rows carry no spec"
        );
        seen.extend(
            items
                .iter()
                .filter_map(|row| Some(row["id"].as_str()?.to_owned())),
        );
        match page["next_page_token"].as_str() {
            Some(token) => path = format!("/v1/runs?page_size=3&page_token={token}"),
            None => break,
        }
    }
    made.reverse();
    ensure!(seen == made, "{seen:?} {made:?}");
    let count = async |query: &str| {
        let page = api.get(&format!("/v1/runs?{query}")).await?.expect(200)?.json();
        page["items"].as_array().map(Vec::len).context("no items")
    };
    ensure!(count("label=team=even").await? == 4);
    ensure!(count("label=team=even&name=n2").await? == 1);
    ensure!(count(&format!("id_prefix={}", &made[0][..30])).await? >= 1);
    ensure!(count("created_before=2000-01-01T00:00:00Z").await? == 0);
    let page = api.get("/v1/runs?page_size=1").await?.json();
    let token = page["next_page_token"].as_str().context("no next page")?;
    api.get(&format!("/v1/runs?page_size=1&status=failed&page_token={token}"))
        .await?
        .expect(400)?;
    server.settle(&[]).await
}

#[tokio::test]
async fn a_stale_version_cancels_nothing() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = &server.api;
    let run = api.submit(&json!({"command": "sleep 60"})).await?;
    let path = format!("/v1/runs/{}", run.id);
    api.until(run.id, Duration::from_secs(20), "running", |run| {
        run.started_at.is_some()
    })
    .await?;
    let tag = api.get(&path).await?.headers["etag"].to_str()?.to_owned();
    let same = api
        .send(Method::GET, &path, None, &[("if-none-match", &tag)])
        .await?;
    ensure!(same.status == 304 && same.bytes.is_empty(), "{same:?}");
    let cancel = format!("{path}/cancel");
    let refused = api
        .send(Method::POST, &cancel, None, &[("if-match", "\"1\"")])
        .await?
        .expect(412)?;
    ensure!(refused.json()["code"] == "precondition_failed");
    api.send(Method::POST, &cancel, None, &[("if-match", &tag)])
        .await?
        .expect(202)?;
    let over = api.get(&format!("{path}?wait=20s")).await?.json();
    ensure!(over["status"] == "cancelled", "{over}");
    // Again, and after the end: the same answer.
    ensure!(api.post(&cancel, &json!({})).await?.expect(202)?.json()["status"] == "cancelled");
    let again = api
        .post(&format!("{path}/rerun"), &json!({}))
        .await?
        .expect(201)?
        .json();
    let rerun = again["id"].as_str().context("no id")?.to_owned();
    ensure!(rerun != run.id.to_string() && again["spec"] == over["spec"]);
    api.post(&format!("/v1/runs/{rerun}/cancel"), &json!({}))
        .await?
        .expect(202)?;
    server.settle(&[]).await
}

#[tokio::test]
async fn a_watched_list_tells_what_changes() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let url = format!("{}/v1/runs?watch", server.api.base);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut watch = http
        .get(url)
        .bearer_auth(&server.api.token)
        .send()
        .await?
        .error_for_status()?;
    ensure!(watch.headers()["content-type"] == "text/event-stream");
    let run = server.api.submit(&json!({"command": ["true"]})).await?;
    let mut text = String::new();
    let told = async {
        while !(text.contains(&run.id.to_string()) && text.contains("\"succeeded\"")) {
            let part = watch.chunk().await?.context("the watch ended")?;
            text.push_str(&String::from_utf8_lossy(&part));
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), told)
        .await
        .context("the watch does not tell")??;
    server.settle(&[]).await
}

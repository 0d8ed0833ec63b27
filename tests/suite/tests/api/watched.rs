//! `GET /v1/runs?watch`: told once, resumed by cursor on any replica, ended with a word.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_suite::Server;
use serde_json::json;

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
struct Told {
    id: String,
    name: String,
    data: serde_json::Value,
}

/// A watched list, read event by event.
struct Watch {
    response: reqwest::Response,
    rest: String,
}

impl Watch {
    async fn open(api: &qwex_suite::Api, query: &str, after: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut request = http
            .get(format!("{}/v1/runs?watch{query}", api.base))
            .bearer_auth(&api.token);
        if !after.is_empty() {
            request = request.header("last-event-id", after);
        }
        Ok(Self {
            response: request.send().await?.error_for_status()?,
            rest: String::new(),
        })
    }

    /// The next event; `None` at the end of the stream. Heartbeats are skipped.
    async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            while let Some((block, rest)) = self.rest.split_once("\n\n") {
                let mut told = Told::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => told.id = id.to_owned(),
                        Some(("event", name)) => told.name = name.to_owned(),
                        Some(("data", data)) => told.data = serde_json::from_str(data)?,
                        Some(_) | None => {}
                    }
                }
                self.rest = rest.to_owned();
                if !told.name.is_empty() {
                    return Ok(Some(told));
                }
            }
            let part = tokio::time::timeout(Duration::from_secs(60), self.response.chunk()).await;
            match part.context("the watch is silent")?? {
                Some(part) => self.rest.push_str(&String::from_utf8_lossy(&part)),
                None => return Ok(None),
            }
        }
    }

    async fn row(&mut self) -> Result<Told> {
        let told = self.next().await?.context("the watch ended")?;
        ensure!(told.name == "run" && !told.id.is_empty(), "{told:?}");
        Ok(told)
    }

    /// Reads until a run is so.
    async fn until(&mut self, id: qwex_core::RunId, status: &str) -> Result<Vec<Told>> {
        let mut all = Vec::new();
        loop {
            let told = self.row().await?;
            let last = told.data["id"] == json!(id) && told.data["status"] == status;
            all.push(told);
            if last {
                return Ok(all);
            }
        }
    }
}

fn ids(told: &[Told]) -> Vec<&str> {
    told.iter().filter_map(|one| one.data["id"].as_str()).collect()
}

#[tokio::test]
async fn a_watched_list_is_resumed_without_a_gap_or_a_repeat() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let mut server = Server::start().await?;
    let api = server.api.clone();
    let limit = Duration::from_secs(60);
    let submit = || async { anyhow::Ok(api.submit(&json!({"command": ["true"]})).await?.id) };
    let mut old = Vec::new();
    for _ in 0..3 {
        let id = submit().await?;
        api.until_sealed(id, limit).await?;
        old.push(id);
    }
    // Broken in the midst of the first reading: what was told is not told again, the rest is.
    let mut watch = Watch::open(&api, "", "").await?;
    let first = watch.row().await?;
    drop(watch);
    let mut watch = Watch::open(&api, "", &first.id).await?;
    let rest = [watch.row().await?, watch.row().await?];
    let old: Vec<String> = old.iter().map(ToString::to_string).collect();
    ensure!(ids(std::slice::from_ref(&first)) == old[..1], "{first:?}");
    ensure!(ids(&rest) == old[1..], "{rest:?}");
    // While nobody listens, a run comes and goes; through another replica the listener gets it once.
    let seen = rest[1].id.clone();
    drop(watch);
    let missed = submit().await?;
    api.until_sealed(missed, limit).await?;
    let replica = server.replica().await?;
    let mut watch = Watch::open(&replica.api, "", &seen).await?;
    let told = watch.until(missed, "succeeded").await?;
    ensure!(ids(&told) == [missed.to_string()], "{told:#?}");
    // And then lives on.
    let live = submit().await?;
    let told = watch.until(live, "succeeded").await?;
    ensure!(ids(&told).iter().all(|id| *id == live.to_string()), "{told:#?}");
    let last = told.last().context("told")?.clone();
    drop(watch);
    // A cursor of another filter, or none at all, is refused with words.
    for (query, cursor) in [("&status=failed", last.id.as_str()), ("", "nonsense")] {
        let path = format!("/v1/runs?watch{query}");
        let reply = api
            .send(reqwest::Method::GET, &path, None, &[("last-event-id", cursor)])
            .await?;
        ensure!(reply.expect(400)?.json()["code"] == "invalid_cursor");
    }
    // The server leaves: the listener is told so, and goes on at the next one.
    let mut watch = Watch::open(&api, "", &last.id).await?;
    let leaving = async {
        let end = watch.next().await?.context("the stream was cut")?;
        ensure!(end.name == "end" && end.id.is_empty(), "{end:?}");
        ensure!(watch.next().await?.is_none(), "something came behind the end");
        anyhow::Ok(())
    };
    let (left, ended) = tokio::join!(server.terminate(Duration::from_secs(25)), leaving);
    ensure!(left?.success());
    ended?;
    server.start_again().await?;
    let again = submit().await?;
    let mut watch = Watch::open(&server.api, "", &last.id).await?;
    let told = watch.until(again, "succeeded").await?;
    ensure!(ids(&told).iter().all(|id| *id == again.to_string()), "{told:#?}");
    server.settle(&[]).await
}

//! B12 and F07: a server that leaves with many open streams, and callers that dribble.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use nix::sys::signal::Signal;
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::wait;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LEAVES_WITHIN: Duration = Duration::from_secs(25);

#[tokio::test]
async fn b12_two_hundred_open_streams_end_with_a_hint_and_the_server_leaves() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let mut server = Server::start().await?;
    let run = server
        .api
        .submit(&json!({"command": "echo begun; sleep 120"}))
        .await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    // Two hundred at once may be more than a busy machine takes: who gets a 503 comes again, as a client does.
    let open = async |number: usize| {
        let path = if number.is_multiple_of(2) {
            "events"
        } else {
            "logs?follow"
        };
        let url = format!("{}/v1/runs/{}/{path}", server.api.base, run.id);
        wait::until(Duration::from_secs(60), "a stream to open", || async {
            let request = http
                .get(&url)
                .bearer_auth(&server.api.token)
                .header("accept", "text/event-stream");
            request
                .send()
                .await
                .ok()
                .filter(|response| response.status() == 200)
        })
        .await
    };
    let streams = try_join_all((0..200).map(open)).await?;
    let reading = streams.into_iter().map(|response| async move {
        let mut text = Vec::new();
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            text.extend_from_slice(&part?);
        }
        Ok::<_, reqwest::Error>(String::from_utf8_lossy(&text).into_owned())
    });
    let reading = tokio::spawn(join_all(reading));
    let began = Instant::now();
    let status = server.terminate(LEAVES_WITHIN).await?;
    ensure!(status.success(), "{status}");
    ensure!(began.elapsed() < LEAVES_WITHIN);
    for text in reading.await? {
        let text = text.context("a stream was cut instead of ended")?;
        ensure!(
            text.contains("retry: 1000"),
            "a stream ended without a hint: {text}"
        );
    }
    // What was running runs on, and the next start finds it.
    server.start_again().await?;
    server
        .api
        .until(run.id, Duration::from_secs(10), "running", |run| {
            run.started_at.is_some()
        })
        .await?;
    server
        .api
        .post(&format!("/v1/runs/{}/cancel", run.id), &json!({}))
        .await?
        .expect(202)?;
    server.settle(&[]).await
}

#[tokio::test]
async fn b12_a_server_that_leaves_says_not_ready_first_and_a_second_signal_ends_it_now() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let env = vec![("QWEX_DRAIN_DELAY".to_owned(), "8".to_owned())];
    let mut server = Server::start_with(ServerSetup {
        env,
        ..Default::default()
    })
    .await?;
    server.signal(Signal::SIGTERM)?;
    let limit = Duration::from_secs(5);
    wait::until(limit, "not ready", || async {
        server
            .api
            .get("/readyz?verbose")
            .await
            .ok()
            .filter(|reply| reply.status == 503)
    })
    .await?;
    ensure!(
        server.api.get("/livez").await?.status == 200,
        "it lives while it leaves"
    );
    server.api.get("/v1/runs").await?.expect(200)?;
    let began = Instant::now();
    let status = server.terminate(limit).await?;
    ensure!(
        !status.success() && began.elapsed() < limit,
        "{status} after {:?}",
        began.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn f07_heads_that_dribble_are_closed_and_others_are_served() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let address = server.api.base.trim_start_matches("http://").to_owned();
    let dribble = || async {
        let mut socket = tokio::net::TcpStream::connect(&address).await?;
        socket.write_all(b"GET /livez HTTP/1.1\r\nhost:").await?;
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await?;
        Ok::<_, std::io::Error>(rest)
    };
    let sockets = join_all((0..300).map(|_| dribble()));
    let (closed, served) = tokio::join!(tokio::time::timeout(Duration::from_secs(20), sockets), async {
        let began = Instant::now();
        let reply = server.api.get("/v1/runs").await;
        (reply, began.elapsed())
    });
    closed.context("sockets that dribble stay open")?;
    let (reply, took) = served;
    reply?.expect(200)?;
    ensure!(took < Duration::from_secs(3), "others waited {took:?}");
    Ok(())
}

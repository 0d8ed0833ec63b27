//! Several replicas, lost leases, lost hints, and leaving in good order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::future::try_join_all;
use nix::sys::signal::Signal;
use qwex_core::{RunId, RunStatus};
use qwex_suite::{Api, Server, ServerSetup};
use qwex_testbed::postgres::Postgres;
use qwex_testbed::{require, wait};
use sqlx::PgPool;

use crate::support::{Bed, LIMIT, running, shell, submit_surely};

async fn submit_many(api: &Api, count: usize, script: &str) -> Result<Vec<RunId>> {
    let ids: Vec<RunId> = (0..count).map(|_| RunId::mint()).collect();
    let bodies = ids.iter().map(|id| {
        let mut body = shell(script);
        body["id"] = serde_json::json!(id);
        body
    });
    try_join_all(bodies.map(|body| async move { submit_surely(api, &body).await })).await?;
    Ok(ids)
}

async fn all_succeed(api: &Api, runs: &[RunId]) -> Result<()> {
    for id in runs {
        let run = api.until_sealed(id, LIMIT).await?;
        ensure!(run.status == RunStatus::Succeeded, "{run:#?}");
    }
    Ok(())
}

/// Who may write for the cluster, and under which epoch.
async fn lease(pool: &PgPool, cluster: &str) -> Option<(String, i64)> {
    sqlx::query_as("SELECT holder, epoch FROM lease WHERE name = $1 AND expires_at > now()")
        .bind(format!("cluster/{cluster}"))
        .fetch_optional(pool)
        .await
        .ok()?
}

#[tokio::test]
async fn b02_a_holder_that_lost_its_lease_writes_nothing_more() -> Result<()> {
    require!(Go, Postgres);
    let bed = Bed::beta().await?;
    let pool = PgPool::connect(&bed.server.database_url).await?;
    let served = wait::until(LIMIT, "the cluster to be served", || {
        lease(&pool, bed.cluster.name())
    });
    let (first_holder, first_epoch) = served.await?;
    let mut runs = submit_many(&bed.server.api, 15, "true").await?;
    // Stopped in the midst of its work, as by a pause of its machine.
    bed.server.signal(Signal::SIGSTOP)?;
    let second = bed.server.replica().await?;
    runs.extend(submit_many(&second.api, 15, "true").await?);
    let (_, epoch) = wait::until(LIMIT, "the lease to pass on", || async {
        lease(&pool, bed.cluster.name())
            .await
            .filter(|(holder, _)| *holder != first_holder)
    })
    .await?;
    assert!(epoch > first_epoch, "{first_epoch} -> {epoch}");
    bed.server.signal(Signal::SIGCONT)?;
    // It still takes runs, for the other one to serve.
    runs.extend(submit_many(&bed.server.api, 10, "true").await?);
    all_succeed(&second.api, &runs).await?;
    all_succeed(&bed.server.api, &runs).await?;
    assert_eq!(bed.jobs_made()?, runs.len());
    let (holder, now) = lease(&pool, bed.cluster.name())
        .await
        .context("nobody serves the cluster")?;
    assert!(
        holder != first_holder && now == epoch,
        "the lease came back: {holder} {now}"
    );
    second.settle(&[]).await?;
    bed.settle().await
}

/// Ends every database connection that only listens, again and again; counts them.
async fn deafen(pool: &PgPool, ended: &mut i64) -> Result<()> {
    let mut every = tokio::time::interval(Duration::from_millis(500));
    loop {
        every.tick().await;
        let now: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND query ILIKE 'LISTEN%' AND pid <> pg_backend_pid()",
        )
        .fetch_one(pool)
        .await?;
        *ended += now;
    }
}

#[tokio::test]
async fn b05_runs_flow_while_nobody_hears_hints() -> Result<()> {
    require!(Postgres);
    let server = Server::start().await?;
    let pool = PgPool::connect(&server.database_url).await?;
    let flow = async {
        for _ in 0..5 {
            let runs = submit_many(&server.api, 5, "echo flows").await?;
            all_succeed(&server.api, &runs).await?;
        }
        anyhow::Ok(())
    };
    let mut ended = 0;
    tokio::select! {
        flowed = flow => flowed?,
        failed = deafen(&pool, &mut ended) => failed?,
    }
    assert!(ended > 2, "only {ended} listeners were ended");
    server.settle(&[]).await
}

#[tokio::test]
async fn b05_every_connection_of_the_server_is_cut_twice() -> Result<()> {
    require!(Postgres);
    let server = Server::start().await?;
    let pool = PgPool::connect(&server.database_url).await?;
    let runs = submit_many(
        &server.api,
        20,
        "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.05; done",
    )
    .await?;
    for started in [1, 10] {
        wait::until(LIMIT, "runs to start", || async {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM run WHERE started_at IS NOT NULL")
                .fetch_one(&pool)
                .await
                .ok()?;
            (count >= started).then_some(())
        })
        .await?;
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .execute(&pool)
        .await?;
    }
    all_succeed(&server.api, &runs).await?;
    let wanted: String = (0..20).map(|line| format!("{line}\n")).collect();
    for id in &runs {
        assert_eq!(server.api.log(id).await?, wanted);
    }
    server.settle(&[]).await
}

/// Follows a stream to its end; gives what came.
async fn follow(api: &Api, path: &str) -> Result<String> {
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(format!("{}{path}", api.base))
        .bearer_auth(&api.token)
        .header("Accept", "text/event-stream")
        .send()
        .await?
        .error_for_status()?;
    let mut body = response.bytes_stream();
    let mut text = String::new();
    while let Some(part) = body.next().await {
        text += &String::from_utf8_lossy(&part.context("a stream was broken, not ended")?);
    }
    Ok(text)
}

#[tokio::test]
async fn b12_a_server_with_open_streams_leaves_in_time() -> Result<()> {
    require!(Postgres);
    let mut server = Server::start().await?;
    let api = server.api.clone();
    let run = api.submit(&shell("echo hello; sleep 600")).await?.id;
    api.until(run, LIMIT, "running", running).await?;
    let paths = [
        format!("/v1/runs/{run}/logs?follow=true"),
        format!("/v1/runs/{run}/events"),
        "/v1/runs?watch=true".to_owned(),
    ];
    let streams = paths.map(|path| {
        let api = api.clone();
        tokio::spawn(async move { follow(&api, &path).await })
    });
    let connected = || async {
        let metrics = api.get("/metrics").await.ok()?;
        let text = String::from_utf8_lossy(&metrics.bytes).into_owned();
        let open = text.lines().find(|line| line.starts_with("qwex_http_streams"))?;
        (open.rsplit(' ').next()?.parse::<f64>().ok()? >= 3.0).then_some(())
    };
    wait::until(LIMIT, "the streams to be open", connected).await?;
    let status = server.terminate(Duration::from_secs(25)).await?;
    assert!(status.success(), "{status}");
    for stream in streams {
        stream.await??;
    }
    // The run does not care.
    server.start_again().await?;
    assert_eq!(api.run(run).await?.status, RunStatus::Running);
    api.post(&format!("/v1/runs/{run}/cancel"), &serde_json::json!({}))
        .await?
        .expect(202)?;
    let run = api.until_sealed(run, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Cancelled);
    server.settle(&[]).await
}

#[tokio::test]
async fn b09_postgres_crashes_amid_runs() -> Result<()> {
    require!(Postgres);
    let postgres = Postgres::start().await?;
    let setup = ServerSetup {
        database_url: Some(postgres.database().await?),
        ..ServerSetup::default()
    };
    let server = Server::start_with(setup).await?;
    let script = "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.05; done";
    let runs = submit_many(&server.api, 20, script).await?;
    server
        .api
        .until(runs[0], LIMIT, "running", |run| run.started_at.is_some())
        .await?;
    postgres.crash().await?;
    postgres.start_again().await?;
    all_succeed(&server.api, &runs).await?;
    let wanted: String = (0..20).map(|line| format!("{line}\n")).collect();
    for id in &runs {
        assert_eq!(server.api.log(id).await?, wanted);
    }
    server.settle(&[]).await
}

//! Jobs into one real API server, from the submit to the last object seen, beside a bare client that creates the same
//! objects. Both keep sixteen creates out. No pod of theirs ever fits a node, so that creating is what is measured.

mod jobs;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use qwex_suite::Server;
use qwex_testbed::{Cluster, wait};
use serde_json::json;

use super::submits::Submitter;
use crate::bench::Bench;
use crate::load::times;
use crate::report::{Goal, Report, Row};
use jobs::{Creator, Seen};

const CASE: &str = "b6";
/// What the server keeps out to one cluster.
const IN_FLIGHT: u32 = 16;
const LIMIT: Duration = Duration::from_secs(180);
const RUN_ID: &str = "qwex.dev/run-id";
const BODY: &str = r#"{"command":["python","-m","train"],"image":"qwex.test/busybox:1","env":{"SEED":"17"},"resources":{"cpu":"500"}}"#;

/// # Errors
/// A part fails, or a run has no Job or two.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let cluster = Cluster::beta("bench").await?;
    let client = cluster.client().await?;
    let own: Api<Job> = Api::namespaced(client.clone(), &cluster.namespace("own").await?);
    let bare: Api<Job> = Api::namespaced(client, &cluster.namespace("bare").await?);
    let server = bench.server().await?;
    register(&server, &cluster, own.namespace().context("it has a namespace")?).await?;

    through_qwex(&server, &own, 1).await?;
    let template = jobs::template(&own).await?;
    clear(&server, &own, &bare).await?;
    let each = bench.knobs.jobs / IN_FLIGHT;
    let (mut rates, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..bench.knobs.trials {
        peer.push(by_hand(&bare, &template, each).await?);
        rates.push(through_qwex(&server, &own, each).await?);
        clear(&server, &own, &bare).await?;
    }
    let what = format!("submit to Job seen, {} runs", each * IN_FLIGHT);
    report.add(
        Row::new(CASE, what, "Jobs/s", rates)
            .beside("bare client, 16 in flight, Jobs/s", peer)
            .goal(Goal::RatioAtLeast(0.9)),
    );
    Ok(())
}

async fn register(server: &Server, cluster: &Cluster, namespace: &str) -> Result<()> {
    let body = json!({ "name": "beta", "kubeconfig": cluster.kubeconfig(), "namespace": namespace });
    server.api.post("/v1/clusters", &body).await?.expect(201)?;
    wait::until(LIMIT, "the cluster to be served", || async {
        let answer = server.api.get("/v1/clusters/beta").await.ok()?.json();
        (answer["reachable"] == true).then_some(())
    })
    .await?;
    Ok(())
}

/// Submits and waits for the Jobs. Gives Jobs a second.
async fn through_qwex(server: &Server, jobs: &Api<Job>, each: u32) -> Result<f64> {
    let clients = Submitter::many_of(server, IN_FLIGHT as usize, BODY).await?;
    let seen = Seen::watch(jobs).await?;
    let began = Instant::now();
    let clients = times(clients, each).await?;
    let rate = seen.rate(began, each * IN_FLIGHT).await?;
    let wanted: BTreeSet<String> = clients
        .iter()
        .flat_map(|client| client.acknowledged.iter().map(ToString::to_string))
        .collect();
    let made = jobs::labels(jobs, RUN_ID).await?;
    ensure!(
        made.len() == wanted.len(),
        "{} Jobs for {} runs",
        made.len(),
        wanted.len()
    );
    ensure!(
        made.into_iter().collect::<BTreeSet<_>>() == wanted,
        "the Jobs are not those of the runs"
    );
    Ok(rate)
}

/// The same by a client that does nothing else. Gives Jobs a second.
async fn by_hand(jobs: &Api<Job>, template: &Job, each: u32) -> Result<f64> {
    let clients = (0..IN_FLIGHT)
        .map(|_| Creator::new(jobs.clone(), template.clone()))
        .collect();
    let seen = Seen::watch(jobs).await?;
    let began = Instant::now();
    times(clients, each).await?;
    seen.rate(began, each * IN_FLIGHT).await
}

/// Takes every Job away and waits until neither the cluster nor the server has anything to do.
async fn clear(server: &Server, own: &Api<Job>, bare: &Api<Job>) -> Result<()> {
    jobs::delete_all(bare, LIMIT).await?;
    jobs::delete_all(own, LIMIT).await?;
    let pool = sqlx::PgPool::connect(&server.database_url).await?;
    wait::until(LIMIT, "no run is open", || async {
        let open: i64 =
            sqlx::query_scalar("SELECT (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM cleanup)")
                .fetch_one(&pool)
                .await
                .ok()?;
        (open == 0).then_some(())
    })
    .await?;
    pool.close().await;
    Ok(())
}

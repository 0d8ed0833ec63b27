//! A cluster that cannot be seen, or that refuses us: blind is not dead. No run ends of it, everybody is told, and
//! what happened meanwhile is seen afterwards.

use std::time::Duration;

use anyhow::{Result, ensure};
use qwex_core::{Flag, Run, RunId, RunStatus};
use qwex_suite::Api;
use qwex_testbed::http_proxy::{Answer, HttpProxy, Rule};
use qwex_testbed::tcp_proxy::{Fault, Faults, TcpProxy};
use qwex_testbed::{require, shared, wait};
use serde_json::{Value, json};

use crate::support::{Bed, LIMIT, running, shell, without_local};

/// Runs until it is told by a file of its own pod's making, so that its end falls where the test wants it.
const SOME_SECONDS: &str = "echo begun; sleep 12; echo over; exit 3";

fn unreachable(run: &Run) -> bool {
    run.flags.contains(&Flag::ClusterUnreachable)
}

async fn why(api: &Api, id: RunId) -> Result<String> {
    let why = api.get(&format!("/v1/runs/{id}/why")).await?.expect(200)?.json();
    Ok(why["summary"].as_str().unwrap_or_default().to_owned())
}

async fn cluster(api: &Api, name: &str) -> Result<Value> {
    Ok(api
        .get(&format!("/v1/clusters/{name}"))
        .await?
        .expect(200)?
        .json())
}

/// What the run came to, as if nothing had been.
async fn ended_right(bed: &Bed, id: RunId) -> Result<()> {
    let run = bed.server.api.until_sealed(id, LIMIT).await?;
    ensure!(
        (run.status, run.exit_code) == (RunStatus::Failed, Some(3)),
        "{run:#?}"
    );
    ensure!(!unreachable(&run), "{run:#?}");
    ensure!(bed.server.api.log(id).await? == "begun\nover\n", "{run:#?}");
    bed.settle().await
}

#[tokio::test]
async fn c25_a_cluster_that_cannot_be_reached_is_flagged_and_ends_no_run() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::prepare(shared::alpha().await?, without_local()).await?;
    let proxy = TcpProxy::start(bed.cluster.api_addr()).await?;
    let through = |text: &str| text.replace(&bed.cluster.api_addr().to_string(), &proxy.addr().to_string());
    bed.register(&through(&bed.kubeconfig)).await?;
    let api = &bed.server.api;
    let id = api.submit(&shell(SOME_SECONDS)).await?.id;
    api.until(id, LIMIT, "running", running).await?;

    proxy.set(Faults::both(Fault::BlackHole));
    proxy.refuse(true).await?;
    proxy.reset_open();
    let run = api.until(id, LIMIT, "flagged", unreachable).await?;
    assert_eq!(run.status, RunStatus::Running, "{run:#?}");
    let summary = why(api, id).await?;
    assert!(summary.contains("cannot be reached now"), "{summary}");
    let seen = cluster(api, bed.cluster.name()).await?;
    assert_eq!(seen["reachable"], false, "{seen}");
    // The command ends while nobody looks.
    bed.pod(id, "over", |pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Failed")
    })
    .await?;
    let run = api.run(id).await?;
    assert!(run.status == RunStatus::Running && unreachable(&run), "{run:#?}");

    proxy.set(Faults::NONE);
    proxy.refuse(false).await?;
    ended_right(&bed, id).await?;
    let kinds = api.event_kinds(id).await?;
    let first = kinds.iter().find(|kind| kind.contains("reachable"));
    assert_eq!(first.map(String::as_str), Some("unreachable"), "{kinds:?}");
    Ok(())
}

/// The credentials are revoked while the watch runs; later they are good again.
#[tokio::test]
async fn c26_revoked_credentials_end_no_run_and_are_told() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::prepare(shared::alpha().await?, without_local()).await?;
    let proxy = HttpProxy::for_user(&bed.kubeconfig).await?;
    let line = TcpProxy::start(proxy.addr()).await?;
    let kubeconfig = proxy.kubeconfig_text()?;
    bed.register(&kubeconfig.replace(&proxy.addr().to_string(), &line.addr().to_string()))
        .await?;
    let api = &bed.server.api;
    let id = api.submit(&shell(SOME_SECONDS)).await?.id;
    api.until(id, LIMIT, "running", running).await?;

    proxy.rule(Rule::new(Answer::status(401)));
    // The open watch is cut, as any is in time; the next one is refused.
    line.reset_open();
    let run = api.until(id, LIMIT, "flagged", unreachable).await?;
    assert_eq!(run.status, RunStatus::Running, "{run:#?}");
    wait::until_ok(LIMIT, "the cause to be told", || async {
        let seen = cluster(api, bed.cluster.name())
            .await
            .map_err(|error| error.to_string())?;
        let told = seen["reachable"] == json!(false) && seen.to_string().contains("scripted 401");
        told.then_some(()).ok_or(seen.to_string())
    })
    .await?;
    // Who submits now is told why it waits, and nothing is lost.
    let waits = api.submit(&shell("exit 0")).await?.id;
    bed.pod(id, "over", |pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Failed")
    })
    .await?;
    let run = api.run(id).await?;
    assert!(run.status == RunStatus::Running && unreachable(&run), "{run:#?}");
    let run = api.run(waits).await?;
    assert_eq!(run.status, RunStatus::Pending, "{run:#?}");

    proxy.clear();
    let run = api.until_sealed(waits, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:#?}");
    ended_right(&bed, id).await?;
    let log = bed.server.log()?;
    assert!(log.contains("401"), "the log does not tell of it");
    wait::until(Duration::from_secs(40), "the cluster to be seen", || async {
        let seen = cluster(api, bed.cluster.name()).await.ok()?;
        (seen["reachable"] == json!(true)).then_some(())
    })
    .await?;
    Ok(())
}

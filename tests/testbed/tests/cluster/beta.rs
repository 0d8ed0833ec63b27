//! The simulated nodes: every ending a pod can ask for.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, LogParams, Patch, PatchParams, WatchEvent, WatchParams};
use qwex_testbed::{require, shared, wait};
use serde_json::json;

use crate::objects::{LIMIT, ending, phase, simulate, state, waiting_for};

#[tokio::test]
async fn a_pod_succeeds_unless_it_asks_otherwise_and_has_a_log() -> Result<()> {
    require!(Go);
    let pods = simulate(shared::beta().await?, &[]).await?;
    assert_eq!(
        ending(&phase(&pods, "Succeeded").await?),
        (0, "Completed".to_owned())
    );
    let log = pods.logs("test", &LogParams::default()).await?;
    assert_eq!(log, "simulated line 1\nsimulated line 2\nsimulated line 3\n");
    Ok(())
}

#[tokio::test]
async fn a_pod_ends_with_the_code_and_reason_it_asks_for() -> Result<()> {
    require!(Go);
    let wishes = [
        ("exit-code", "42"),
        ("reason", "ContainerCannotRun"),
        ("message", "no such \"file\""),
    ];
    let pods = simulate(shared::beta().await?, &wishes).await?;
    let pod = phase(&pods, "Failed").await?;
    assert_eq!(ending(&pod), (42, "ContainerCannotRun".to_owned()));
    let message = state(&pod).terminated.and_then(|end| end.message);
    assert_eq!(message.as_deref(), Some("no such \"file\""));
    Ok(())
}

#[tokio::test]
async fn a_pod_can_ask_to_be_oom_killed() -> Result<()> {
    require!(Go);
    let pods = simulate(shared::beta().await?, &[("ending", "oom-killed")]).await?;
    assert_eq!(
        ending(&phase(&pods, "Failed").await?),
        (137, "OOMKilled".to_owned())
    );
    Ok(())
}

#[tokio::test]
async fn a_pod_can_ask_to_be_evicted_or_preempted() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    for (wish, reason, by) in [
        ("evicted", Some("Evicted"), "TerminationByKubelet"),
        ("preempted", None, "PreemptionByScheduler"),
    ] {
        let pods = simulate(beta, &[("ending", wish)]).await?;
        let status = phase(&pods, "Failed").await?.status.unwrap_or_default();
        assert_eq!(status.reason.as_deref(), reason);
        let target = status
            .conditions
            .into_iter()
            .flatten()
            .find(|one| one.type_ == "DisruptionTarget");
        assert_eq!(target.and_then(|one| one.reason).as_deref(), Some(by));
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_can_ask_never_to_start() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    for (wish, reason) in [
        ("image-pull-backoff", "ImagePullBackOff"),
        ("invalid-image-name", "InvalidImageName"),
        ("create-error", "CreateContainerConfigError"),
    ] {
        waiting_for(&simulate(beta, &[("ending", wish)]).await?, reason).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_deleted_pod_ends_before_it_is_gone() -> Result<()> {
    require!(Go);
    let pods = simulate(shared::beta().await?, &[("ending", "never")]).await?;
    let running = phase(&pods, "Running").await?;
    let since = running.metadata.resource_version.unwrap_or_default();
    let mut changes = pods.watch(&WatchParams::default(), &since).await?.boxed();
    pods.delete("test", &DeleteParams::default()).await?;
    let mut endings = Vec::new();
    let gone = async {
        while let Some(change) = changes.try_next().await? {
            match change {
                WatchEvent::Modified(pod) if state(&pod).terminated.is_some() => endings.push(ending(&pod)),
                WatchEvent::Deleted(_) => return Ok(()),
                _ => {}
            }
        }
        anyhow::bail!("the watch ended before the pod was gone")
    };
    tokio::time::timeout(LIMIT, gone).await??;
    endings.dedup();
    assert_eq!(endings, [(143, "Error".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn a_node_can_fall_silent_and_come_back() -> Result<()> {
    require!(Go);
    let nodes: Api<Node> = Api::all(shared::beta().await?.client().await?);
    for (silent, status, tainted) in [(Some("true"), "Unknown", true), (None, "True", false)] {
        let label = json!({ "metadata": { "labels": { "testbed.qwex.dev/silent": silent } } });
        nodes
            .patch("node-2", &PatchParams::default(), &Patch::Merge(label))
            .await?;
        let seen = || async {
            let node = nodes.get("node-2").await.ok()?;
            let ready = node
                .status?
                .conditions?
                .into_iter()
                .find(|one| one.type_ == "Ready")?
                .status;
            let mut taints = node.spec.unwrap_or_default().taints.into_iter().flatten();
            let unreachable = taints.any(|taint| taint.key == "node.kubernetes.io/unreachable");
            (ready == status && unreachable == tainted).then_some(())
        };
        wait::until(LIMIT, &format!("the node to be Ready={status}"), seen).await?;
    }
    Ok(())
}

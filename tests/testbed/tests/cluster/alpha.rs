//! The real node.

use anyhow::Result;
use kube::api::{AttachParams, LogParams};
use qwex_testbed::cluster::{Cluster, Component};
use qwex_testbed::{require, shared};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::objects::{ending, phase, run, waiting_for};

#[tokio::test]
async fn the_server_tells_a_version_that_parses() -> Result<()> {
    require!(Root, Containerd, Go);
    let version = shared::alpha().await?.client().await?.apiserver_version().await?;
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "34"));
    Ok(())
}

#[tokio::test]
async fn a_pod_ends_with_its_exit_code_and_its_log_is_whole() -> Result<()> {
    require!(Root, Containerd, Go);
    let pods = run(
        shared::alpha().await?,
        &["sh", "-c", "echo out; echo err >&2; exit 3"],
        json!({}),
    )
    .await?;
    assert_eq!(ending(&phase(&pods, "Failed").await?), (3, "Error".to_owned()));
    let log = pods.logs("test", &LogParams::default()).await?;
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_takes_too_much_memory_is_oom_killed() -> Result<()> {
    require!(Root, Containerd, Go);
    let hog = json!({ "containers": [{
        "name": "main", "image": qwex_testbed::images::BUSYBOX, "command": ["tail", "/dev/zero"],
        "resources": { "limits": { "memory": "32Mi" } },
    }] });
    let pods = run(shared::alpha().await?, &[], hog).await?;
    assert_eq!(
        ending(&phase(&pods, "Failed").await?),
        (137, "OOMKilled".to_owned())
    );
    Ok(())
}

#[tokio::test]
async fn an_image_that_nobody_serves_is_backed_off_from() -> Result<()> {
    require!(Root, Containerd, Go);
    let absent = json!({ "containers": [{ "name": "main", "image": "127.0.0.1:1/absent:1" }] });
    let pods = run(shared::alpha().await?, &[], absent).await?;
    waiting_for(&pods, "ImagePullBackOff").await
}

#[tokio::test]
async fn a_pod_past_its_deadline_fails_with_that_reason() -> Result<()> {
    require!(Root, Containerd, Go);
    let pods = run(
        shared::alpha().await?,
        &["sleep", "1000"],
        json!({ "activeDeadlineSeconds": 1 }),
    )
    .await?;
    let status = phase(&pods, "Failed").await?.status.unwrap_or_default();
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    Ok(())
}

#[tokio::test]
async fn a_command_can_be_run_in_a_pod() -> Result<()> {
    require!(Root, Containerd, Go);
    let pods = run(shared::alpha().await?, &["sleep", "1000"], json!({})).await?;
    phase(&pods, "Running").await?;
    let mut process = pods
        .exec("test", ["echo", "inside"], &AttachParams::default().stderr(false))
        .await?;
    let mut out = String::new();
    process
        .stdout()
        .expect("stdout was asked for")
        .read_to_string(&mut out)
        .await?;
    assert_eq!(out, "inside\n");
    Ok(())
}

#[tokio::test]
async fn a_pod_outlives_its_kubelet_and_containerd_and_its_end_is_told_by_the_next() -> Result<()> {
    require!(Root, Containerd, Go);
    let cluster = Cluster::alpha().await?;
    let pods = run(
        &cluster,
        &["sh", "-c", "echo before; sleep 3; echo after; exit 5"],
        json!({}),
    )
    .await?;
    phase(&pods, "Running").await?;
    for component in [Component::Kubelet, Component::Containerd] {
        cluster.kill(component).await?;
    }
    for component in [Component::Containerd, Component::Kubelet] {
        cluster.start_again(component).await?;
    }
    assert_eq!(ending(&phase(&pods, "Failed").await?), (5, "Error".to_owned()));
    assert_eq!(pods.logs("test", &LogParams::default()).await?, "before\nafter\n");
    Ok(())
}

#[tokio::test]
async fn a_confined_pod_of_an_ordinary_user_runs() -> Result<()> {
    require!(Root, Containerd, Go);
    let confined = json!({
        "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{
            "name": "main", "image": qwex_testbed::images::BUSYBOX, "command": ["id", "-u"],
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "readOnlyRootFilesystem": true,
            },
        }],
    });
    let pods = run(shared::alpha().await?, &[], confined).await?;
    phase(&pods, "Succeeded").await?;
    assert_eq!(pods.logs("test", &LogParams::default()).await?, "65532\n");
    Ok(())
}

//! Files that can never be sent: whoever submits may make Jobs, and may not reach into their pods.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams};
use qwex_suite::{binary, person};
use qwex_testbed::{Cluster, require, shared, wait};
use serde_json::Value;
use tokio::process::Command;

use crate::bed::{IMAGE, LIMIT};

const EXEC: &str = "pods/exec";

/// Who may not reach into pods, by a kubeconfig of that namespace.
async fn without_exec(cluster: &Cluster, namespace: &str) -> Result<Value> {
    let kubeconfig = person(cluster, namespace, Some(EXEC)).await?;
    let theirs: Api<Job> = Api::namespaced(cluster.client_as(namespace, &[]).await?, namespace);
    wait::until_ok(LIMIT, "the rights to be known", || async {
        theirs.list(&ListParams::default()).await.map(drop)
    })
    .await?;
    let mut config: Value = serde_saphyr::from_str(&kubeconfig)?;
    config["contexts"][0]["context"]["namespace"] = namespace.into();
    Ok(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_files_can_never_be_sent_ends_with_the_reason_and_leaves_nothing() -> Result<()> {
    require!(Root, Containerd, Go);
    let cluster = shared::alpha().await?;
    let namespace = cluster.namespace("unsendable").await?;
    let home = tempfile::tempdir()?;
    let kubeconfig = home.path().join("kubeconfig");
    std::fs::write(&kubeconfig, without_exec(cluster, &namespace).await?.to_string())?;
    std::fs::write(home.path().join("in"), "never sent\n")?;
    let qwexctl = async |words: &[&str]| {
        let mut command = Command::new(binary("qwexctl")?);
        command
            .args(words)
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", std::env::var_os("PATH").context("no PATH")?)
            .env("KUBECONFIG", &kubeconfig)
            .current_dir(home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        tokio::time::timeout(LIMIT, command.output())
            .await
            .with_context(|| format!("{words:?} did not end"))?
            .map_err(anyhow::Error::from)
    };
    let ran = qwexctl(&[
        "run",
        "--backend",
        "k8s",
        "--image",
        IMAGE,
        "--send",
        "--",
        "cat",
        "in",
    ])
    .await?;
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    ensure!(ran.status.code() == Some(125), "{:?}: {told}", ran.status);
    let got = qwexctl(&["get", "@latest", "-o", "json"]).await?;
    let run: Value = serde_json::from_slice(&got.stdout)?;
    let reason = run["failure"]["message"].as_str().unwrap_or_default();
    ensure!(
        run["status"] == "failed" && run["failure"]["code"] == "rejected",
        "{run:#}"
    );
    ensure!(reason.contains(EXEC), "{reason:?}");
    ensure!(told.contains(reason), "{reason:?} is not told: {told}");
    let why = qwexctl(&["why", "@latest"]).await?;
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    ensure!(why.contains(EXEC), "{why}");
    // Nothing of it waits there for files that never come.
    let jobs: Api<Job> = Api::namespaced(cluster.client().await?, &namespace);
    wait::until_ok(LIMIT, "the Job to be removed", || async {
        let left = jobs.list(&ListParams::default()).await?.items;
        ensure!(left.is_empty(), "{} are left", left.len());
        Ok(())
    })
    .await?;
    Ok(())
}

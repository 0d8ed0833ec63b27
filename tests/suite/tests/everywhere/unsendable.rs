//! Files that can never be sent: whoever submits may make Jobs, and may not reach into their pods.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, ListParams, PostParams};
use qwex_suite::binary;
use qwex_testbed::{Cluster, require, shared, wait};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::bed::{IMAGE, LIMIT};

const EXEC: &str = "pods/exec";

/// A new user with the rights of `deploy/k8s/user.yaml` but one, by a kubeconfig of that namespace.
async fn without_exec(cluster: &Cluster, namespace: &str) -> Result<Value> {
    let client = cluster.client().await?;
    let mut role: Role = serde_saphyr::from_str(include_str!("../../../../deploy/k8s/user.yaml"))?;
    let mut rules = role.rules.take().unwrap_or_default();
    let all = rules.len();
    rules.retain(|rule| !rule.resources.iter().flatten().any(|one| one == EXEC));
    ensure!(
        rules.len() + 1 == all,
        "the right is not given by a rule of its own"
    );
    role.rules = Some(rules);
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "qwex-user" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "qwex-user" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": namespace }],
    }))?;
    let post = PostParams::default();
    Api::namespaced(client.clone(), namespace)
        .create(&post, &role)
        .await?;
    Api::namespaced(client, namespace).create(&post, &binding).await?;
    let theirs: Api<Job> = Api::namespaced(cluster.client_as(namespace, &[]).await?, namespace);
    wait::until_ok(LIMIT, "the rights to be known", || async {
        theirs.list(&ListParams::default()).await.map(drop)
    })
    .await?;
    let mut config: Value = serde_saphyr::from_str(&cluster.mint_user(namespace, &[])?)?;
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

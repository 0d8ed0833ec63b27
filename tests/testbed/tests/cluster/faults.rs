//! What can be done to a cluster, and users with few rights.

use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use qwex_testbed::cluster::{Cluster, Component};
use qwex_testbed::{require, shared, wait};

use crate::objects::LIMIT;

#[tokio::test]
async fn a_killed_api_server_comes_back_with_everything() -> Result<()> {
    require!(Go);
    let cluster = Cluster::beta("faults").await?;
    let namespace = cluster.namespace("kept").await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client().await?);
    cluster.kill(Component::ApiServer).await?;
    assert!(
        namespaces.get(&namespace).await.is_err(),
        "a killed API server answers"
    );
    cluster.start_again(Component::ApiServer).await?;
    namespaces.get(&namespace).await?;

    cluster.pause(Component::ApiServer)?;
    let silent =
        tokio::time::timeout(std::time::Duration::from_millis(300), namespaces.get(&namespace)).await;
    assert!(silent.is_err(), "a paused API server answers");
    cluster.resume(Component::ApiServer)?;
    namespaces.get(&namespace).await?;
    Ok(())
}

#[tokio::test]
async fn a_minted_user_may_do_nothing_and_is_in_the_audit_log() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let client = beta.client_as("nobody-special", &["some-group"]).await?;
    let refused = Api::<Namespace>::all(client)
        .list(&ListParams::default())
        .await
        .expect_err("it has no right");
    assert!(refused.to_string().contains("nobody-special"), "{refused}");
    let seen = || async {
        std::fs::read_to_string(beta.audit_log())
            .ok()?
            .contains("nobody-special")
            .then_some(())
    };
    wait::until(LIMIT, "the request in the audit log", seen).await?;
    Ok(())
}

#[tokio::test]
async fn what_another_process_runs_can_be_used_but_not_harmed() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let attached = Cluster::attach(beta.dir())?;
    let client = attached.client_as("second", &["system:masters"]).await?;
    Api::<Namespace>::all(client).get("default").await?;
    assert!(attached.kill(Component::ApiServer).await.is_err());
    Ok(())
}

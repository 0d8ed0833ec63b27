//! What a look at a cluster finds.

use anyhow::Result;
use qwex_runner_k8s::{ConnectError, K8sBackend};
use qwex_testbed::{require, shared};

use crate::rig::{Rig, config};

#[tokio::test]
async fn an_admin_may_everything() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let report = rig.backend.probe().await?;
    assert!(report.version.starts_with("v1."), "{report:?}");
    assert!(report.identity.is_some());
    assert!(report.is_usable());
    assert!(report.checks.iter().all(|check| check.ok));
    Ok(())
}

#[tokio::test]
async fn missing_rights_are_named_one_by_one() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let nobody = beta.mint_user("nobody-probe", &[])?;
    let backend = K8sBackend::connect(config(&nobody, "default")).await?;
    let report = backend.probe().await?;
    assert!(!report.is_usable());
    assert_eq!(report.identity, None);
    let create = report
        .checks
        .iter()
        .find(|check| check.name == "create jobs in namespace default");
    let create = create.expect("asked for");
    assert!(!create.ok && create.required);
    assert_eq!(
        create.sentence,
        "qwex may not create jobs in namespace default, which it needs to start runs; grant `create` on `jobs` to its user"
    );
    Ok(())
}

#[tokio::test]
async fn a15_another_cluster_at_the_address_is_refused() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let mut pinned = config(beta.kubeconfig(), "default");
    let report = K8sBackend::connect(pinned.clone()).await?.probe().await?;
    pinned.identity = report.identity;
    K8sBackend::connect(pinned.clone()).await?;
    pinned.identity = Some("00000000-0000-0000-0000-000000000000".to_owned());
    let error = K8sBackend::connect(pinned).await.err();
    assert!(
        matches!(error, Some(ConnectError::OtherCluster { .. })),
        "{error:?}"
    );
    Ok(())
}

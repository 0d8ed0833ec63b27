//! Mounts, users and accounts in real pods.

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, PostParams};
use qwex_core::{Ending, Mount, MountKind};
use qwex_runner::backend::Backend;
use qwex_testbed::{require, shared};

use crate::rig::{Rig, shell};

fn mount(kind: MountKind, source: Option<&str>, target: &str) -> Mount {
    Mount {
        kind,
        source: source.map(str::to_owned),
        target: target.to_owned(),
        read_only: false,
        size: None,
    }
}

#[tokio::test]
async fn what_is_mounted_is_seen() -> Result<()> {
    require!(Root, Go, Containerd);
    let on_node = tempfile::tempdir()?;
    std::fs::write(on_node.path().join("file"), "from the node\n")?;
    let path = on_node.path().display().to_string();
    let rig = Rig::direct(shared::alpha().await?, |config| {
        config.host_paths = vec![path.clone()]
    })
    .await?;
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    let maps: Api<ConfigMap> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let map = ConfigMap {
        metadata: named("settings"),
        data: Some([("level".to_owned(), "info\n".to_owned())].into()),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map).await?;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let secret = Secret {
        metadata: named("keys"),
        string_data: Some([("key".to_owned(), "opened\n".to_owned())].into()),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &secret).await?;
    let mut work =
        shell("cat /etc/app/level /keys/key /node/file; echo s > /scratch/f; cat /scratch/f; id -u; id -g");
    work.spec.mounts = vec![
        mount(MountKind::ConfigMap, Some("settings"), "/etc/app"),
        mount(MountKind::Secret, Some("keys"), "/keys"),
        mount(MountKind::Bind, Some(&path), "/node"),
        mount(MountKind::EmptyDir, None, "/scratch"),
    ];
    work.spec.user = Some("1000:100".to_owned());
    assert!(rig.backend.validate(&work.spec).is_empty());
    std::fs::set_permissions(
        on_node.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let listener = rig.listen();
    rig.submit(&work).await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), "info\nopened\nfrom the node\ns\n1000\n100\n");
    Ok(())
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_before_anything_is_made() -> Result<()> {
    require!(Go);
    let rig = Rig::direct(shared::beta().await?, |config| {
        config.service_accounts = Some(Vec::new());
    })
    .await?;
    let mut work = shell("true");
    work.spec.mounts = vec![mount(MountKind::Bind, Some("/etc"), "/host")];
    work.spec.service_account = Some("admin".to_owned());
    work.spec.user = Some("somebody".to_owned());
    work.spec.resources.pids = Some(7);
    let problems = rig.backend.validate(&work.spec);
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/resources/pids", "/mounts/0/kind", "/user", "/service_account"],
        "{problems:#?}"
    );
    assert!(rig.submit(&work).await.is_err());
    Ok(())
}

//! Mounts, users and accounts in real pods.

use anyhow::Result;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount,
};
use kube::api::{Api, ObjectMeta, PostParams};
use qwex_core::{Ending, Fact, Mount, MountKind, PendingCode};
use qwex_runner::Watcher as _;
use qwex_runner::backend::Backend;
use qwex_testbed::{require, shared};
use serde_json::json;

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

async fn create<K>(rig: &Rig, object: serde_json::Value) -> Result<()>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + k8s_openapi::serde::de::DeserializeOwned
        + k8s_openapi::serde::Serialize
        + Clone
        + std::fmt::Debug,
{
    let objects: Api<K> = Api::namespaced(rig.client.clone(), &rig.namespace);
    objects
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

/// A claim `data` of the namespace on a directory of the node.
async fn claim(rig: &Rig, path: &std::path::Path) -> Result<()> {
    let class = &rig.namespace;
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": { "name": class },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "hostPath": { "path": path },
        },
    }))?;
    let volumes: Api<PersistentVolume> = Api::all(rig.client.clone());
    volumes.create(&PostParams::default(), &volume).await?;
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    create::<PersistentVolumeClaim>(rig, claim).await
}

#[tokio::test]
async fn a_claim_keeps_what_one_run_leaves_for_the_next() -> Result<()> {
    require!(Root, Go, Containerd);
    let on_node = tempfile::tempdir()?;
    let rig = Rig::direct(shared::alpha().await?, |_| {}).await?;
    claim(&rig, on_node.path()).await?;
    let listener = rig.listen();
    let on_claim = |script: &str, read_only| {
        let mut work = shell(script);
        work.spec.mounts = vec![Mount {
            read_only,
            ..mount(MountKind::Pvc, Some("data"), "/data")
        }];
        work
    };
    let writes = on_claim("echo kept > /data/file", false);
    rig.submit(&writes).await?;
    assert_eq!(
        listener.ending(&writes).await?,
        Ending::Succeeded { verified: true }
    );
    let reads = on_claim(
        "cat /data/file; touch /data/other 2>/dev/null || echo refused",
        true,
    );
    rig.submit(&reads).await?;
    let log = rig.whole_log(&listener.log_of(&reads).await?).await?;
    assert_eq!(log.text(), "kept\nrefused\n");
    Ok(())
}

/// Its kubelet tells it in an event and nowhere else.
#[tokio::test]
async fn what_cannot_be_mounted_is_told_and_the_run_begins_once_it_is_there() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::direct(shared::alpha().await?, |_| {}).await?;
    let listener = rig.listen();
    let mut work = shell("cat /etc/app/level");
    work.spec.mounts = vec![mount(MountKind::ConfigMap, Some("late"), "/etc/app")];
    let handle = rig.submit(&work).await?;
    let words = "FailedMount: ";
    let message = listener.waiting(&work, PendingCode::Starting, words).await?;
    assert!(message.contains("configmap \"late\" not found"), "{message}");
    // And to whoever only looks.
    let seen = rig.backend.observe(&handle).await?;
    let told = seen.iter().any(|seen| {
        matches!(&seen.fact, Fact::Waiting { code: PendingCode::Starting, message, .. } if message.starts_with(words))
    });
    assert!(told, "{seen:?}");
    let late = json!({ "metadata": { "name": "late" }, "data": { "level": "info\n" } });
    create::<ConfigMap>(&rig, late).await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), "info\n");
    Ok(())
}

#[tokio::test]
async fn a_run_has_the_account_it_names_and_else_none() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::direct(shared::alpha().await?, |config| {
        config.service_accounts = Some(vec!["builder".to_owned()]);
    })
    .await?;
    create::<ServiceAccount>(&rig, json!({ "metadata": { "name": "builder" } })).await?;
    let listener = rig.listen();
    let token = "cut -d. -f2 /var/run/secrets/kubernetes.io/serviceaccount/token";
    let mut named = shell(token);
    named.spec.service_account = Some("builder".to_owned());
    let unnamed = shell(&format!("{token} 2>/dev/null || echo none"));
    rig.submit(&named).await?;
    rig.submit(&unnamed).await?;
    let log = rig.whole_log(&listener.log_of(&named).await?).await?;
    use base64::Engine as _;
    let engine = &base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = String::from_utf8(engine.decode(log.text().trim())?)?;
    assert!(
        claims.contains(&format!("system:serviceaccount:{}:builder", rig.namespace)),
        "{claims}"
    );
    let log = rig.whole_log(&listener.log_of(&unnamed).await?).await?;
    assert_eq!(log.text(), "none\n");
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

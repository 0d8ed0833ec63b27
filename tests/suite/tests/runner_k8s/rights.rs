//! The backend with exactly the rights of `deploy/k8s/rbac.yaml`, in a namespace that enforces
//! restricted pod security, as that file makes it; and the command line's with those of `deploy/k8s/user.yaml`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use qwex_core::Ending;
use qwex_runner::backend::Backend;
use qwex_runner::{CancelProgress, Runner as _, Transfer, Watcher as _};
use qwex_runner_k8s::{K8sBackend, K8sDirectConfig};
use qwex_suite::person;
use qwex_testbed::{Cluster, require, shared, wait};
use serde_json::{Value, json};

use crate::files::{Desk, write};
use crate::rig::{LIMIT, Rig, config, shell};

const RBAC: &str = include_str!("../../../../deploy/k8s/rbac.yaml");

/// Gives the rights of the file to a new user of the cluster, in `namespace`.
async fn grant(cluster: &Cluster, namespace: &str) -> Result<String> {
    let client = cluster.client().await?;
    let text = RBAC
        .replace("qwex-dispatcher", namespace)
        .replace("namespace: qwex", &format!("namespace: {namespace}"));
    for document in text.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document)?;
        let kind = object["kind"].as_str().context("a kind")?.to_owned();
        let resource = |plural: &str| {
            let gvk = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", &kind);
            ApiResource::from_gvk_with_plural(&gvk, plural)
        };
        let objects: Api<DynamicObject> = match kind.as_str() {
            "Role" => Api::namespaced_with(client.clone(), namespace, &resource("roles")),
            "RoleBinding" => Api::namespaced_with(client.clone(), namespace, &resource("rolebindings")),
            "ClusterRole" => Api::all_with(client.clone(), &resource("clusterroles")),
            "ClusterRoleBinding" => Api::all_with(client.clone(), &resource("clusterrolebindings")),
            // The ServiceAccount's own has nothing to be patched.
            "Namespace" if object["metadata"]["name"] == "qwex" => {
                let labels = Patch::Merge(json!({ "metadata": { "labels": object["metadata"]["labels"] } }));
                let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
                namespaces
                    .patch(namespace, &PatchParams::default(), &labels)
                    .await?;
                continue;
            }
            _ => continue,
        };
        objects
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
    }
    cluster.mint_user(
        &format!("system:serviceaccount:{namespace}-system:{namespace}"),
        &[],
    )
}

#[test]
fn f10_the_deployed_role_has_the_verbs_that_are_used_and_no_other() -> Result<()> {
    let mut granted = BTreeSet::new();
    for document in RBAC.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document)?;
        if object["kind"] != "Role" {
            continue;
        }
        for rule in object["rules"].as_array().context("rules")? {
            for (group, resource, verb) in words(rule, "apiGroups")
                .flat_map(|group| words(rule, "resources").map(move |resource| (group, resource)))
                .flat_map(|(group, resource)| words(rule, "verbs").map(move |verb| (group, resource, verb)))
            {
                granted.insert((group.to_owned(), resource.to_owned(), verb.to_owned()));
            }
        }
    }
    let used: BTreeSet<_> = qwex_runner_k8s::probe::rights()
        .map(|(group, resource, verb)| (group.to_owned(), resource, verb.to_owned()))
        .collect();
    assert_eq!(granted, used);
    Ok(())
}

/// A run may name every Secret of its namespace.
#[test]
fn f10_the_dispatchers_token_does_not_lie_where_runs_are() -> Result<()> {
    let objects: Vec<Value> = RBAC
        .split("\n---\n")
        .map(serde_saphyr::from_str)
        .collect::<Result<_, _>>()?;
    let namespaces = |kind: &str| -> BTreeSet<String> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind
            .map(|object| object["metadata"]["namespace"].to_string())
            .collect()
    };
    assert_eq!(namespaces("Role"), BTreeSet::from(["\"qwex\"".to_owned()]));
    assert!(!namespaces("Secret").is_empty());
    assert!(namespaces("Role").is_disjoint(&namespaces("Secret")));
    Ok(())
}

fn words<'a>(rule: &'a Value, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    rule[field]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[tokio::test]
async fn f10_the_deployed_rights_are_enough_for_a_whole_run() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let namespace = alpha.namespace("rights").await?;
    let user = grant(alpha, &namespace).await?;
    let rig = Rig::with(config(&user, &namespace), alpha.client().await?).await?;
    let report = rig.backend.probe().await?;
    assert!(report.is_usable(), "{report:#?}");
    assert!(report.identity.is_some());

    let listener = rig.listen();
    let work = shell("id -u; echo done");
    let handle = rig.submit(&work).await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), "65532\ndone\n");
    assert!(!rig.backend.observe(&handle).await?.is_empty());
    rig.backend.release(&handle).await?;
    wait::until(LIMIT, "the cancel", || async {
        matches!(rig.backend.cancel(&handle).await, Ok(CancelProgress::Stopped)).then_some(())
    })
    .await?;
    assert_eq!(listener.errors(), Vec::<String>::new());
    Ok(())
}

/// The backend of the command line for whom a kubeconfig stands.
pub async fn direct(kubeconfig: &str, namespace: &str) -> Result<K8sBackend> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig)?;
    let config = K8sDirectConfig {
        kubeconfig: Some(path),
        namespace: Some(namespace.to_owned()),
        ..K8sDirectConfig::default()
    };
    Ok(K8sBackend::connect_direct(config).await?)
}

/// That backend, once it has all the rights of `deploy/k8s/user.yaml`.
pub async fn entitled(kubeconfig: &str, namespace: &str) -> Result<K8sBackend> {
    let backend = direct(kubeconfig, namespace).await?;
    let known = || async {
        let notes = Backend::probe(&backend).await.ok()?.notes;
        notes.is_empty().then_some(())
    };
    wait::until(LIMIT, "the rights to be known", known).await?;
    Ok(backend)
}

#[tokio::test]
async fn the_role_for_people_is_enough_for_files_and_secrets() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let namespace = alpha.namespace("person").await?;
    let user = person(alpha, &namespace, None).await?;
    let desk = Desk::at(Rig {
        backend: entitled(&user, &namespace).await?,
        namespace,
        client: alpha.client().await?,
    })?;
    write(desk.dir.path(), "in", b"sent\n")?;
    let mut work = desk.script(
        "cat in; test -n \"$P\" && echo done > out",
        Transfer::Everything,
        &["out"],
    );
    work.spec.secrets = [("P".to_owned(), "env:PATH".to_owned())].into();
    let listener = desk.rig.listen();
    let (handle, _supplying) = desk.submit(&work).await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let log = desk.rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), "sent\n");
    assert_eq!(desk.collect(&work, &handle).await?, [PathBuf::from("out")]);
    desk.rig.backend.remove(&handle).await?;
    assert_eq!(listener.errors(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn f09_a_hostile_pod_made_with_our_rights_is_refused_by_the_second_wall() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let namespace = beta.namespace("rights").await?;
    let user = grant(beta, &namespace).await?;
    let rig = Rig::with(config(&user, &namespace), beta.client().await?).await?;
    let listener = rig.listen();
    let work = shell("true");
    rig.create(&work, |job| {
        let pod = job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
        if let Some(pod) = pod {
            pod.host_network = Some(true);
        }
    })
    .await?;
    let scheduling = qwex_core::PendingCode::Scheduling;
    let message = listener
        .waiting(&work, scheduling, "violates PodSecurity")
        .await?;
    assert!(message.contains("hostNetwork"), "{message}");
    Ok(())
}

//! Pods for these tests, and waiting for what becomes of them.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::api::{Api, PostParams};
use qwex_testbed::{Cluster, images, wait};
use serde_json::{Value, json};

/// Long, because the machine may build at the same time; each wait ends as soon as it can.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Creates a pod `test` that runs the command in busybox in a new namespace; `patch` is merged over its spec.
pub async fn run(cluster: &Cluster, command: &[&str], patch: Value) -> Result<Api<Pod>> {
    let container = json!({ "name": "main", "image": images::BUSYBOX, "command": command });
    create(cluster, json!({}), container, patch).await
}

/// Creates a pod that asks a simulated node for its end.
pub async fn simulate(cluster: &Cluster, annotations: &[(&str, &str)]) -> Result<Api<Pod>> {
    let wishes: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(wish, value)| (format!("testbed.qwex.dev/{wish}"), json!(value)))
        .collect();
    create(
        cluster,
        Value::Object(wishes),
        json!({ "name": "main", "image": "any" }),
        json!({}),
    )
    .await
}

async fn create(cluster: &Cluster, annotations: Value, container: Value, patch: Value) -> Result<Api<Pod>> {
    let namespace = cluster.namespace("test").await?;
    let mut pod = json!({
        "metadata": { "name": "test", "annotations": annotations },
        "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container] },
    });
    for (field, value) in patch.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, &namespace);
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    Ok(pods)
}

/// Waits until the pod is in the phase.
pub async fn phase(pods: &Api<Pod>, phase: &str) -> Result<Pod> {
    let what = format!("the pod to be {phase}");
    let seen = wait::until_ok(LIMIT, &what, || async {
        let pod = pods.get("test").await.map_err(|error| error.to_string())?;
        let status = pod.status.clone().unwrap_or_default();
        match status.phase.as_deref() == Some(phase) {
            true => Ok(pod),
            false => Err(format!("{status:?}")),
        }
    });
    Ok(seen.await?)
}

/// The state of the pod's container.
pub fn state(pod: &Pod) -> ContainerState {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .and_then(|all| all.first()?.state.clone())
        .unwrap_or_default()
}

/// Exit code and reason of the pod's ended container.
pub fn ending(pod: &Pod) -> (i32, String) {
    let end = state(pod).terminated.expect("the container has ended");
    (end.exit_code, end.reason.unwrap_or_default())
}

/// Waits until the container waits for this reason.
pub async fn waiting_for(pods: &Api<Pod>, reason: &str) -> Result<()> {
    let what = format!("the container to wait with {reason}");
    let seen = wait::until(LIMIT, &what, || async {
        let waiting = state(&pods.get("test").await.ok()?).waiting?;
        (waiting.reason.as_deref() == Some(reason)).then_some(())
    });
    Ok(seen.await?)
}

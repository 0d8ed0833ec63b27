//! Paths of the API server for the few resources we use.

/// Jobs of a namespace, or of all.
pub(crate) fn jobs(namespace: Option<&str>) -> String {
    resource("/apis/batch/v1", namespace, "jobs")
}

pub(crate) fn job(namespace: &str, name: &str) -> String {
    format!("{}/{name}", jobs(Some(namespace)))
}

pub(crate) fn pods(namespace: Option<&str>) -> String {
    resource("/api/v1", namespace, "pods")
}

pub(crate) fn pod(namespace: &str, name: &str) -> String {
    format!("{}/{name}", pods(Some(namespace)))
}

pub(crate) fn secrets(namespace: &str) -> String {
    resource("/api/v1", Some(namespace), "secrets")
}

pub(crate) fn secret(namespace: &str, name: &str) -> String {
    format!("{}/{name}", secrets(namespace))
}

pub(crate) fn events(namespace: &str) -> String {
    resource("/api/v1", Some(namespace), "events")
}

/// A resource of Kueue in the version the cluster serves.
pub(crate) fn kueue(version: &str, namespace: Option<&str>, plural: &str) -> String {
    resource(&format!("/apis/kueue.x-k8s.io/{version}"), namespace, plural)
}

/// What a metrics server last heard of one pod.
pub(crate) fn pod_metrics(namespace: &str, name: &str) -> String {
    format!("{}/{name}", all_pod_metrics(Some(namespace)))
}

/// The same of all pods.
pub(crate) fn all_pod_metrics(namespace: Option<&str>) -> String {
    resource("/apis/metrics.k8s.io/v1beta1", namespace, "pods")
}

/// The counters of a kubelet.
pub(crate) fn node_stats(node: &str) -> String {
    format!("/api/v1/nodes/{node}/proxy/stats/summary")
}

fn resource(root: &str, namespace: Option<&str>, plural: &str) -> String {
    match namespace {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

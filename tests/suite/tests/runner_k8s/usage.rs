//! What runs use: from a metrics server where one is, and nothing, without a word, where nobody tells. That a kubelet is
//! asked where we may is a law of the conformance suite.

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use qwex_core::{Ending, Usage};
use qwex_runner::backend::Backend;
use qwex_runner::{Handle, Runner as _, Watcher as _};
use qwex_suite::person;
use qwex_testbed::http_proxy::{Entry, HttpProxy};
use qwex_testbed::{Cluster, require, shared, wait};
use serde_json::{Value, json};

use crate::rig::{LIMIT, Rig, shell};
use crate::rights::entitled;

/// `metrics.k8s.io` as an API server serves it, with objects instead of a metrics server behind it.
async fn serve_metrics(rig: &Rig) -> Result<Api<DynamicObject>> {
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "metadata": {
            "name": "pods.metrics.k8s.io",
            "annotations": { "api-approved.kubernetes.io": "unapproved, a stand-in for tests" },
        },
        "spec": {
            "group": "metrics.k8s.io", "scope": "Namespaced",
            "names": { "plural": "pods", "singular": "pod", "kind": "PodMetrics", "listKind": "PodMetricsList" },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true, "schema": { "openAPIV3Schema": any } }],
        },
    });
    let definitions: Api<CustomResourceDefinition> = Api::all(rig.client.clone());
    definitions
        .create(&PostParams::default(), &serde_json::from_value(definition)?)
        .await?;
    let gvk = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "pods");
    let metrics: Api<DynamicObject> = Api::namespaced_with(rig.client.clone(), &rig.namespace, &resource);
    wait::until(LIMIT, "the metrics to be served", || async {
        metrics.list(&Default::default()).await.ok().map(|_| ())
    })
    .await?;
    Ok(metrics)
}

/// What a metrics server says of a pod.
fn metrics_of(name: &str, run_id: &str, at: &str, cpu: &str, memory: &str) -> Value {
    json!({
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": { "name": name, "labels": {
            "qwex.dev/run-id": run_id, "app.kubernetes.io/managed-by": "qwex",
        }},
        "timestamp": at, "window": "10s",
        "containers": [{ "name": "main", "usage": { "cpu": cpu, "memory": memory } }],
    })
}

async fn told(rig: &Rig, handle: &Handle, wanted: impl Fn(&Usage) -> bool) -> Result<Usage> {
    let look = || async { rig.backend.details(handle).await.ok()?.usage.filter(&wanted) };
    Ok(wait::until(LIMIT, "the usage", look).await?)
}

#[tokio::test]
async fn a_metrics_server_is_read_for_one_run_and_for_many() -> Result<()> {
    require!(Go);
    let cluster = Cluster::beta("metrics").await?;
    let rig = Rig::direct(&cluster, |_| {}).await?;
    let metrics = serve_metrics(&rig).await?;
    let detail = Backend::probe(&rig.backend).await?.detail;
    assert!(detail.ends_with("usage from metrics.k8s.io"), "{detail}");
    let _listener = rig.listen();
    let mut runs = Vec::new();
    for (cpu, memory) in [("500m", "3Mi"), ("1500000000n", "5000Ki")] {
        let work = shell("true");
        let handle = rig.simulate(&work, &[("run-for", "10m")]).await?;
        // By whoever looks at it, it is measured.
        rig.backend.observe(&handle).await?;
        let pod = rig.running_pod(&work).await?;
        let name = pod.metadata.name.context("a name")?;
        let object = metrics_of(
            &name,
            &work.run_id.to_string(),
            "2027-01-15T08:00:10Z",
            cpu,
            memory,
        );
        metrics
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        let wanted = if runs.is_empty() {
            (5_000, 3 << 20)
        } else {
            (15_000, 5000 << 10)
        };
        let usage = told(&rig, &handle, |_| true).await?;
        assert_eq!(
            (usage.cpu_ms, usage.max_memory_bytes, usage.sampled),
            (Some(wanted.0), Some(wanted.1), true)
        );
        runs.push((name, handle));
    }
    // The next window is added, and memory that was given back still counts.
    let (name, handle) = &runs[0];
    let next = json!({
        "timestamp": "2027-01-15T08:00:20Z",
        "containers": [{ "name": "main", "usage": { "cpu": "100m", "memory": "1Mi" } }],
    });
    metrics
        .patch(name, &PatchParams::default(), &Patch::Merge(next))
        .await?;
    let usage = told(&rig, handle, |usage| usage.cpu_ms > Some(5_000)).await?;
    assert_eq!(
        (usage.cpu_ms, usage.max_memory_bytes),
        (Some(6_000), Some(3 << 20))
    );
    Ok(())
}

#[tokio::test]
async fn who_may_not_ask_has_runs_without_usage_and_no_error() -> Result<()> {
    require!(Root, Go, Containerd);
    let alpha = shared::alpha().await?;
    let namespace = alpha.namespace("person").await?;
    let proxy = HttpProxy::for_user(&person(alpha, &namespace, None).await?).await?;
    let rig = Rig {
        backend: entitled(&proxy.kubeconfig_text()?, &namespace).await?,
        namespace,
        client: alpha.client().await?,
    };
    let detail = Backend::probe(&rig.backend).await?.detail;
    assert!(detail.ends_with("usage not told"), "{detail}");
    let listener = rig.listen();
    let work = shell("sleep 600");
    let handle = rig.submit(&work).await?;
    // No metrics are served, and the kubelet is the last to be asked.
    let refused = |entry: &Entry| entry.request.path.ends_with("/stats/summary") && entry.status == Some(403);
    proxy
        .wait_for(LIMIT, "the kubelet to be asked in vain", refused)
        .await?;
    let details = rig.backend.details(&handle).await?;
    assert!(details.host.is_some() && details.usage.is_none(), "{details:?}");
    // The watch that was refused goes on to the end of the run.
    rig.backend.cancel(&handle).await?;
    let ending = listener.ending(&work).await?;
    assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
    assert_eq!(rig.backend.details(&handle).await?.usage, None);
    assert_eq!(listener.errors(), Vec::<String>::new());
    Ok(())
}

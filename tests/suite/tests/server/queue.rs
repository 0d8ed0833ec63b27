//! Runs in a queue. With `QWEX_TEST_KUEUE_KUBECONFIG` before the real Kueue, else before the stand-in.

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use qwex_core::{PendingCode, RunStatus};
use qwex_suite::Server;
use qwex_testbed::{require, shared, wait};
use serde_json::{Value, json};

use crate::support::{LIMIT, add_cluster, shell, without_local};

async fn create(
    client: &Client,
    kind: &str,
    plural: &str,
    namespace: Option<&str>,
    object: Value,
) -> Result<()> {
    let gvk = GroupVersionKind::gvk("kueue.x-k8s.io", "v1beta2", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let mut object = object;
    object["apiVersion"] = json!("kueue.x-k8s.io/v1beta2");
    object["kind"] = json!(kind);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

/// A namespace with a LocalQueue `main` before a ClusterQueue of one CPU.
async fn one_cpu(client: &Client) -> Result<String> {
    let namespace: Namespace =
        serde_json::from_value(json!({ "metadata": { "generateName": "suite-queue-" } }))?;
    let name = Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?
        .name_any();
    let meta = json!({ "name": name });
    create(
        client,
        "ResourceFlavor",
        "resourceflavors",
        None,
        json!({ "metadata": meta, "spec": {} }),
    )
    .await?;
    let quota = json!([{ "name": "cpu", "nominalQuota": "1" }]);
    let flavors = json!([{ "name": name, "resources": quota }]);
    let spec = json!({
        "namespaceSelector": {},
        "resourceGroups": [{ "coveredResources": ["cpu"], "flavors": flavors }],
    });
    create(
        client,
        "ClusterQueue",
        "clusterqueues",
        None,
        json!({ "metadata": meta, "spec": spec }),
    )
    .await?;
    let queue = json!({ "metadata": { "name": "main" }, "spec": { "clusterQueue": name } });
    create(client, "LocalQueue", "localqueues", Some(&name), queue).await?;
    Ok(name)
}

/// A Job of somebody else that holds most of the quota until it is deleted.
async fn hold(jobs: &Api<Job>) -> Result<()> {
    let requests = json!({ "cpu": "700m" });
    let template = json!({
        "metadata": { "annotations": { "testbed.qwex.dev/ending": "never" } },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "any", "command": ["sleep", "3600"],
                "resources": { "requests": requests, "limits": requests },
            }],
        },
    });
    let job = json!({
        "metadata": { "name": "holder", "labels": { "kueue.x-k8s.io/queue-name": "main" } },
        "spec": { "suspend": true, "backoffLimit": 0, "template": template },
    });
    jobs.create(&PostParams::default(), &serde_json::from_value(job)?)
        .await?;
    let admitted = wait::until(LIMIT, "the holder to be admitted", || async {
        let job = jobs.get("holder").await.ok()?;
        (job.spec?.suspend == Some(false)).then_some(())
    });
    Ok(admitted.await?)
}

#[tokio::test]
async fn a_run_waits_for_quota_says_so_and_is_admitted_when_there_is_some() -> Result<()> {
    require!(Go, Postgres);
    let kubeconfig = shared::queued().await?;
    let config = Kubeconfig::from_yaml(&kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let namespace = one_cpu(&client).await?;
    let jobs: Api<Job> = Api::namespaced(client, &namespace);
    hold(&jobs).await?;

    let server = Server::start_with(without_local()).await?;
    let added = add_cluster(&server, "queued", &kubeconfig, &namespace).await?;
    assert_eq!(added["cluster"]["queues"], json!(["main"]), "{added}");
    let api = &server.api;
    let mut body = shell("true");
    body["queue"] = json!("main");
    body["resources"] = json!({ "cpu": "700m" });
    let run = api.submit(&body).await?.id;
    let waits = api.until(run, LIMIT, "waiting for quota", |run| {
        let pending = run.pending.as_ref();
        pending.is_some_and(|why| {
            why.code == PendingCode::Admission && why.message.contains("insufficient unused quota")
        })
    });
    let message = waits.await?.pending.unwrap().message;
    assert!(
        message.contains("main") && message.contains("400m more needed"),
        "{message}"
    );
    let why = api.get(&format!("/v1/runs/{run}/why")).await?.expect(200)?.json();
    assert!(
        why["summary"]
            .as_str()
            .unwrap_or_default()
            .contains("insufficient unused quota"),
        "{why}"
    );

    jobs.delete("holder", &DeleteParams::background()).await?;
    let run = api.until_sealed(run, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:#?}");
    server.settle(&[]).await
}

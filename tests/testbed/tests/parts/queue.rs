//! The queue, as the tests of qwex need it: a Job waits, is admitted, ends; missing, stopped and drained queues;
//! preemption and what comes after. With `QWEX_TEST_KUEUE_KUBECONFIG` the same tests run against the real Kueue, so
//! they use nothing that only the stand-in has, and the reasons are those Kueue gives.

use std::time::Duration;

use anyhow::{Result, anyhow};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use qwex_testbed::queue::QueueStandIn;
use qwex_testbed::{Cluster, require, shared, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
/// Longer than any test: such a Job ends only when it is deleted or evicted.
const FOREVER: &str = "1h";

/// A namespace with a LocalQueue `main` before a ClusterQueue of 1 CPU and 1 GPU, all of its own.
struct Bed {
    client: Client,
    name: String,
}

fn api(client: &Client, kind: &str, plural: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("kueue.x-k8s.io", "v1beta2", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

impl Bed {
    async fn start() -> Result<Self> {
        let config = Kubeconfig::from_yaml(&shared::queued().await?)?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let namespace: Namespace =
            serde_json::from_value(json!({ "metadata": { "generateName": "queue-" } }))?;
        let name = Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?
            .name_any();
        let bed = Self { client, name };
        let meta = json!({ "name": bed.name });
        bed.create("ResourceFlavor", json!({ "metadata": meta, "spec": {} }))
            .await?;
        let quotas = json!([{ "name": "cpu", "nominalQuota": "1" }, { "name": "nvidia.com/gpu", "nominalQuota": "1" }]);
        let group = json!({
            "coveredResources": ["cpu", "nvidia.com/gpu"],
            "flavors": [{ "name": bed.name, "resources": quotas }],
        });
        let spec = json!({
            "namespaceSelector": {}, "resourceGroups": [group],
            "preemption": { "withinClusterQueue": "LowerPriority" },
        });
        bed.create("ClusterQueue", json!({ "metadata": meta, "spec": spec }))
            .await?;
        bed.local_queue("main").await?;
        Ok(bed)
    }

    async fn create(&self, kind: &str, mut object: Value) -> Result<()> {
        object["apiVersion"] = json!("kueue.x-k8s.io/v1beta2");
        object["kind"] = json!(kind);
        let kinds = match kind {
            "ResourceFlavor" => api(&self.client, kind, "resourceflavors", None),
            "ClusterQueue" => self.cluster_queues(),
            "LocalQueue" => self.local_queues(),
            other => api(&self.client, other, "workloadpriorityclasses", None),
        };
        kinds
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        Ok(())
    }

    fn cluster_queues(&self) -> Api<DynamicObject> {
        api(&self.client, "ClusterQueue", "clusterqueues", None)
    }

    fn local_queues(&self) -> Api<DynamicObject> {
        api(&self.client, "LocalQueue", "localqueues", Some(&self.name))
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    async fn local_queue(&self, name: &str) -> Result<()> {
        let spec = json!({ "clusterQueue": self.name });
        self.create(
            "LocalQueue",
            json!({ "metadata": { "name": name }, "spec": spec }),
        )
        .await
    }

    async fn stop_policy(&self, policy: &str) -> Result<()> {
        let change = Patch::Merge(json!({ "spec": { "stopPolicy": policy } }));
        self.local_queues()
            .patch("main", &PatchParams::default(), &change)
            .await?;
        Ok(())
    }

    /// A suspended Job of one pod that asks for these resources and runs this long.
    async fn job(&self, name: &str, labels: Value, requests: Value, run_for: &str) -> Result<()> {
        let mut all = json!({ "kueue.x-k8s.io/queue-name": "main" });
        all.as_object_mut()
            .unwrap()
            .extend(labels.as_object().unwrap().clone());
        let container = json!({
            "name": "main", "image": "any", "resources": { "requests": requests, "limits": requests },
        });
        let template = json!({
            "metadata": { "annotations": { "testbed.qwex.dev/run-for": run_for } },
            "spec": { "restartPolicy": "Never", "containers": [container] },
        });
        let spec = json!({ "suspend": true, "backoffLimit": 0, "template": template });
        let job =
            serde_json::from_value(json!({ "metadata": { "name": name, "labels": all }, "spec": spec }))?;
        self.jobs().create(&PostParams::default(), &job).await?;
        Ok(())
    }

    async fn workload(&self, job: &str) -> Option<DynamicObject> {
        let uid = self.jobs().get(job).await.ok()?.uid()?;
        let workloads = api(&self.client, "Workload", "workloads", Some(&self.name));
        let all = workloads.list(&ListParams::default()).await.ok()?;
        all.items
            .into_iter()
            .find(|workload| workload.owner_references().iter().any(|owner| owner.uid == uid))
    }

    /// Waits until a condition of the Job's Workload is like this, for one of these reasons (`A|B`: their names differ
    /// between versions of Kueue), and gives its message.
    async fn condition(&self, job: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
        let what = format!("{kind}={status} {reason} of {job}");
        let found = wait::until_ok(LIMIT, &what, || async {
            let workload = self.workload(job).await.ok_or("no Workload")?;
            let conditions = workload.data["status"]["conditions"].clone();
            let all = conditions.as_array().cloned().unwrap_or_default();
            let one = all.iter().find(|one| {
                let named = reason.split('|').any(|name| one["reason"] == name);
                one["type"] == kind && one["status"] == status && named
            });
            one.map(|one| one["message"].as_str().unwrap_or_default().to_owned())
                .ok_or(conditions.to_string())
        });
        Ok(found.await?)
    }

    async fn suspended(&self, job: &str, suspended: bool) -> Result<()> {
        let what = format!("{job} to have suspend: {suspended}");
        let probe = || async {
            let job = self.jobs().get(job).await.ok()?;
            (job.spec?.suspend == Some(suspended)).then_some(())
        };
        Ok(wait::until(LIMIT, &what, probe).await?)
    }

    /// Waits until the Job has exactly this many pods that have not ended.
    async fn pods(&self, job: &str, count: usize) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let probe = || async {
            let live = |pod: &Pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
                !matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
            };
            let all = pods.list(&of_job).await.ok()?;
            (all.iter().filter(|pod| live(pod)).count() == count).then_some(())
        };
        Ok(wait::until(LIMIT, &format!("{job} to have {count} live pods"), probe).await?)
    }
}

fn cpu(amount: &str) -> Value {
    json!({ "cpu": amount })
}

#[tokio::test]
async fn a_job_waits_for_quota_is_admitted_and_finishes() -> Result<()> {
    require!(Go);
    let bed = Bed::start().await?;
    bed.job("first", json!({}), cpu("700m"), FOREVER).await?;
    let message = bed
        .condition("first", "QuotaReserved", "True", "QuotaReserved")
        .await?;
    assert_eq!(message, format!("Quota reserved in ClusterQueue {}", bed.name));
    assert_eq!(
        bed.condition("first", "Admitted", "True", "Admitted").await?,
        "The workload is admitted"
    );
    bed.suspended("first", false).await?;
    bed.condition("first", "PodsReady", "True", "Started").await?;

    bed.job("second", json!({}), cpu("700m"), "100ms").await?;
    let message = bed
        .condition("second", "QuotaReserved", "False", "WaitingForQuota|Pending")
        .await?;
    let expected = format!(
        "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor {}, 400m more needed",
        bed.name
    );
    assert_eq!(message, expected);
    bed.condition("second", "Admitted", "False", "NoReservation")
        .await?;
    bed.condition("second", "PodsReady", "False", "WaitForStart")
        .await?;
    bed.suspended("second", true).await?;
    let workload = bed.workload("second").await.unwrap();
    assert!(
        workload.name_any().starts_with("job-second-"),
        "{}",
        workload.name_any()
    );
    assert_eq!(workload.data["spec"]["queueName"], "main");
    assert_eq!(workload.data["spec"]["podSets"][0]["name"], "main");

    bed.jobs().delete("first", &DeleteParams::background()).await?;
    bed.condition("second", "Admitted", "True", "Admitted").await?;
    bed.condition("second", "Finished", "True", "Succeeded").await?;
    Ok(())
}

#[tokio::test]
async fn the_quota_of_a_finished_job_goes_to_the_next() -> Result<()> {
    require!(Go);
    let bed = Bed::start().await?;
    let gpu = || json!({ "nvidia.com/gpu": "1" });
    for name in ["one", "two", "three"] {
        bed.job(name, json!({}), json!({ "cpu": "1" }), "200ms").await?;
    }
    for name in ["one", "two", "three"] {
        bed.condition(name, "Finished", "True", "Succeeded").await?;
    }
    bed.job("greedy", json!({}), json!({ "nvidia.com/gpu": "2" }), FOREVER)
        .await?;
    bed.job("modest", json!({}), gpu(), FOREVER).await?;
    let message = bed
        .condition("greedy", "QuotaReserved", "False", "ExceedsMaxQuota|Pending")
        .await?;
    assert!(
        message.contains("nvidia.com/gpu") && message.contains("maximum capacity (1)"),
        "{message}"
    );
    bed.condition("modest", "QuotaReserved", "True", "QuotaReserved")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_missing_queue_keeps_the_job_until_it_is_there() -> Result<()> {
    require!(Go);
    let bed = Bed::start().await?;
    bed.job(
        "early",
        json!({ "kueue.x-k8s.io/queue-name": "later" }),
        cpu("100m"),
        FOREVER,
    )
    .await?;
    let message = bed
        .condition("early", "QuotaReserved", "False", "Misconfigured|Inadmissible")
        .await?;
    assert!(message.contains("LocalQueue later"), "{message}");
    bed.suspended("early", true).await?;
    bed.local_queue("later").await?;
    bed.condition("early", "Admitted", "True", "Admitted").await?;
    Ok(())
}

#[tokio::test]
async fn a_stopped_queue_holds_and_a_drained_one_evicts() -> Result<()> {
    require!(Go);
    let bed = Bed::start().await?;
    bed.job("running", json!({}), cpu("100m"), FOREVER).await?;
    bed.pods("running", 1).await?;
    bed.stop_policy("Hold").await?;
    bed.job("held", json!({}), cpu("100m"), FOREVER).await?;
    let message = bed
        .condition("held", "QuotaReserved", "False", "Suspended|Inadmissible")
        .await?;
    assert!(message.contains("LocalQueue main"), "{message}");
    bed.condition("running", "Admitted", "True", "Admitted").await?;

    bed.stop_policy("HoldAndDrain").await?;
    assert_eq!(
        bed.condition("running", "Evicted", "True", "LocalQueueStopped")
            .await?,
        "The LocalQueue is stopped"
    );
    bed.suspended("running", true).await?;
    bed.pods("running", 0).await?;
    bed.condition("running", "QuotaReserved", "False", "Suspended|Inadmissible")
        .await?;
    bed.condition("running", "Requeued", "False", "LocalQueueStopped")
        .await?;

    bed.stop_policy("None").await?;
    bed.condition("running", "Requeued", "True", "LocalQueueRestarted")
        .await?;
    bed.condition("running", "Admitted", "True", "Admitted").await?;
    bed.condition("held", "Admitted", "True", "Admitted").await?;
    bed.suspended("running", false).await?;
    bed.pods("running", 1).await
}

#[tokio::test]
async fn a_higher_priority_preempts_and_the_loser_comes_back() -> Result<()> {
    require!(Go);
    let bed = Bed::start().await?;
    bed.create(
        "WorkloadPriorityClass",
        json!({ "metadata": { "name": bed.name }, "value": 1000 }),
    )
    .await?;
    bed.job("low", json!({}), cpu("800m"), FOREVER).await?;
    bed.pods("low", 1).await?;
    let high = json!({ "kueue.x-k8s.io/priority-class": bed.name });
    bed.job("high", high, cpu("800m"), FOREVER).await?;

    let message = bed
        .condition("low", "Preempted", "True", "InClusterQueue")
        .await?;
    assert!(
        message.starts_with("Preempted to accommodate a workload (UID: "),
        "{message}"
    );
    bed.condition("low", "Requeued", "True", "Preempted").await?;
    bed.suspended("low", true).await?;
    bed.pods("low", 0).await?;
    bed.condition("high", "Admitted", "True", "Admitted").await?;
    bed.condition("low", "QuotaReserved", "False", "WaitingForQuota|Pending")
        .await?;

    bed.jobs().delete("high", &DeleteParams::background()).await?;
    bed.condition("low", "Evicted", "False", "QuotaReserved").await?;
    bed.condition("low", "Admitted", "True", "Admitted").await?;
    bed.suspended("low", false).await?;
    bed.pods("low", 1).await
}

#[tokio::test]
async fn an_execution_time_that_is_over_deactivates() -> Result<()> {
    require!(Go);
    let bed = Bed::start().await?;
    bed.job(
        "long",
        json!({ "kueue.x-k8s.io/max-exec-time-seconds": "1" }),
        cpu("100m"),
        FOREVER,
    )
    .await?;
    bed.condition(
        "long",
        "Evicted",
        "True",
        "DeactivatedDueToMaximumExecutionTimeExceeded",
    )
    .await?;
    bed.suspended("long", true).await?;
    bed.pods("long", 0).await?;
    let workload = bed
        .workload("long")
        .await
        .ok_or_else(|| anyhow!("the Workload is gone"))?;
    assert_eq!(workload.data["spec"]["active"], false);
    Ok(())
}

#[tokio::test]
async fn queues_count_what_they_hold() -> Result<()> {
    require!(Go);
    let bed = Bed::start().await?;
    bed.job("holds", json!({}), cpu("600m"), FOREVER).await?;
    bed.job("waits", json!({}), cpu("600m"), FOREVER).await?;
    let counted = |queue: DynamicObject| {
        let status = &queue.data["status"];
        let counts = [&status["pendingWorkloads"], &status["reservingWorkloads"]].map(Value::as_i64);
        if counts == [Some(1), Some(1)] {
            Ok(status.clone())
        } else {
            Err(status.to_string())
        }
    };
    for (api, name) in [
        (bed.local_queues(), "main"),
        (bed.cluster_queues(), bed.name.as_str()),
    ] {
        let status = wait::until_ok(LIMIT, "the counts of the queue", || async {
            counted(api.get(name).await.map_err(|error| error.to_string())?)
        });
        let status = status.await?;
        let used = status["flavorsReservation"][0]["resources"].as_array().unwrap();
        assert!(
            used.iter()
                .any(|one| one["name"] == "cpu" && one["total"] == "600m"),
            "{status}"
        );
        assert_eq!(status["conditions"][0]["status"], "True");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_stand_in_waits_until_the_first_is_gone() -> Result<()> {
    require!(Go);
    // A cluster of its own: the shared one already has a stand-in, and the real thing needs no second.
    let beta = Cluster::beta("queue").await?;
    let first = QueueStandIn::start(beta.kubeconfig()).await?;
    let leases: Api<Lease> = Api::namespaced(beta.client().await?, "kube-system");
    let holder = || async { leases.get("qwex-testbed-queue").await.ok()?.spec?.holder_identity };
    let one = wait::until(LIMIT, "the first to hold the Lease", holder).await?;
    let _second = QueueStandIn::start(beta.kubeconfig()).await?;
    drop(first);
    let other = || async { holder().await.filter(|holder| *holder != one) };
    wait::until(LIMIT, "the second to hold the Lease", other).await?;
    Ok(())
}

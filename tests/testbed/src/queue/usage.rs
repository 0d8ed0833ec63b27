//! Status of LocalQueues and ClusterQueues: counts, use of quota, whether they take work. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::admit::has_flavors;
use super::api::{self, ClusterQueue, LocalQueue, StopPolicy, Verdict};
use super::plan::{Draft, Write, cluster_queue};
use super::quota::{self, Usage};
use super::world::World;

/// The statuses that are not as they should be.
pub fn statuses(world: &World, drafts: &[Draft<'_>]) -> Vec<Write> {
    let mut writes = Vec::new();
    for (key, queue) in world.local_queues.iter() {
        let mine = |draft: &&Draft<'_>| draft.key.0 == key.0 && draft.spec.queue_name == key.1;
        let verdict = local_verdict(world, queue);
        let status = status(
            queue.status.as_ref(),
            queue.metadata.generation,
            verdict,
            drafts.iter().filter(mine),
            None,
        );
        if queue.status.as_ref() != Some(&status) {
            writes.push(Write::LocalQueueStatus(key.clone(), status));
        }
    }
    for (key, queue) in world.cluster_queues.iter() {
        let mine = |draft: &&Draft<'_>| cluster_queue(world, draft).is_some_and(|(name, _)| name == key.1);
        let verdict = cluster_verdict(world, queue);
        let status = status(
            queue.status.as_ref(),
            queue.metadata.generation,
            verdict,
            drafts.iter().filter(mine),
            Some(queue),
        );
        if queue.status.as_ref() != Some(&status) {
            writes.push(Write::ClusterQueueStatus(key.clone(), status));
        }
    }
    writes
}

fn local_verdict(world: &World, queue: &LocalQueue) -> Verdict<'static> {
    let cluster = world
        .cluster_queues
        .get(&(String::new(), queue.spec.cluster_queue.clone()));
    let (status, reason, message) = match (queue.spec.stop_policy, cluster) {
        (StopPolicy::Hold | StopPolicy::HoldAndDrain, _) => (false, "Stopped", "LocalQueue is stopped"),
        (StopPolicy::None, None) => (
            false,
            "ClusterQueueDoesNotExist",
            "Can't submit new workloads to clusterQueue",
        ),
        (StopPolicy::None, Some(cluster)) if !cluster_verdict(world, cluster).status => (
            false,
            "ClusterQueueIsInactive",
            "Can't submit new workloads to clusterQueue",
        ),
        (StopPolicy::None, Some(_)) => (true, "Ready", "Can submit new workloads to localQueue"),
    };
    Verdict {
        kind: "Active",
        status,
        reason,
        message,
    }
}

fn cluster_verdict(world: &World, queue: &ClusterQueue) -> Verdict<'static> {
    let (status, reason, message) = match queue.spec.stop_policy {
        StopPolicy::Hold | StopPolicy::HoldAndDrain => {
            (false, "Stopped", "Can't admit new workloads: is stopped.")
        }
        StopPolicy::None if !has_flavors(world, &queue.spec) => (
            false,
            "FlavorNotFound",
            "Can't admit new workloads: references missing ResourceFlavor(s).",
        ),
        StopPolicy::None => (true, "Ready", "Can admit new workloads"),
    };
    Verdict {
        kind: "Active",
        status,
        reason,
        message,
    }
}

fn status<'a>(
    before: Option<&Value>,
    generation: Option<i64>,
    verdict: Verdict<'_>,
    mine: impl Iterator<Item = &'a Draft<'a>>,
    cluster: Option<&ClusterQueue>,
) -> Value {
    let known = before.and_then(|status| serde_json::from_value(status.get("conditions")?.clone()).ok());
    let mut conditions: Vec<Condition> = known.unwrap_or_default();
    api::set(&mut conditions, generation, verdict);
    let (mut pending, mut reserving, mut admitted, mut used) = (0, 0, 0, Usage::new());
    for draft in mine.filter(|draft| draft.is_open()) {
        pending += i32::from(!draft.is("QuotaReserved"));
        reserving += i32::from(draft.is("QuotaReserved"));
        // Quota reserved is admitted here: the stand-in knows no admission checks.
        admitted += i32::from(draft.is("QuotaReserved"));
        if let Some(admission) = &draft.status.admission {
            quota::add(&mut used, admission);
        }
    }
    let usage = cluster.map_or_else(|| flavors(&used), |queue| quota_flavors(queue, &used));
    json!({
        "conditions": conditions, "pendingWorkloads": pending, "reservingWorkloads": reserving,
        "admittedWorkloads": admitted, "flavorsReservation": usage, "flavorsUsage": usage,
    })
}

/// Every flavor in use.
fn flavors(used: &Usage) -> Value {
    let mut by_flavor: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for ((flavor, resource), amount) in used {
        let total = json!({ "name": resource, "total": quota::show(resource, *amount) });
        by_flavor.entry(flavor).or_default().push(total);
    }
    by_flavor
        .into_iter()
        .map(|(name, resources)| json!({ "name": name, "resources": resources }))
        .collect()
}

/// Every flavor and resource that has a quota, used or not.
fn quota_flavors(queue: &ClusterQueue, used: &Usage) -> Value {
    let flavor = |flavor: &api::FlavorQuotas| {
        let resource = |quota: &api::ResourceQuota| {
            let amount = used
                .get(&(flavor.name.clone(), quota.name.clone()))
                .copied()
                .unwrap_or(0);
            json!({ "name": quota.name, "total": quota::show(&quota.name, amount), "borrowed": "0" })
        };
        json!({ "name": flavor.name, "resources": flavor.resources.iter().map(resource).collect::<Value>() })
    };
    queue
        .spec
        .resource_groups
        .iter()
        .flat_map(|group| &group.flavors)
        .map(flavor)
        .collect()
}

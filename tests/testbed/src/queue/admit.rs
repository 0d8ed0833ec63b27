//! Gives out quota: who is kept out and why, who fits, who waits, who is preempted. Pure.

use kube::ResourceExt;

use super::api::{ClusterQueueSpec, StopPolicy};
use super::plan::{Draft, arrival, cluster_queue};
use super::quota::{self, NoFit, Usage};
use super::world::World;

/// Goes over every ClusterQueue, highest priority first, then oldest first.
pub fn admit(world: &World, drafts: &mut [Draft<'_>]) {
    for draft in drafts.iter_mut().filter(|draft| is_out(draft)) {
        if let Some((reason, message)) = blocker(world, draft) {
            draft.refuse(reason, &message);
        }
    }
    for (key, queue) in world.cluster_queues.iter() {
        let mut waiting: Vec<usize> = (0..drafts.len())
            .filter(|at| waits(&drafts[*at]) && blocker(world, &drafts[*at]).is_none())
            .filter(|at| cluster_queue(world, &drafts[*at]).is_some_and(|(name, _)| name == key.1))
            .collect();
        waiting.sort_by_key(|at| (std::cmp::Reverse(drafts[*at].priority()), arrival(&drafts[*at])));
        let strict = queue.spec.queueing_strategy.as_deref() == Some("StrictFIFO");
        for at in waiting {
            if !reserve(&key.1, &queue.spec, drafts, at) && strict {
                break;
            }
        }
    }
}

/// Holds no quota, and would take part in queueing.
fn is_out(draft: &Draft<'_>) -> bool {
    draft.is_open() && draft.spec.is_active() && !draft.is("QuotaReserved")
}

/// As [`is_out`], and not put on hold by an eviction.
fn waits(draft: &Draft<'_>) -> bool {
    let requeued = draft.status.condition("Requeued");
    is_out(draft) && requeued.is_none_or(|condition| condition.status == "True")
}

/// Why no ClusterQueue is even asked.
fn blocker(world: &World, draft: &Draft<'_>) -> Option<(&'static str, String)> {
    let local = &draft.spec.queue_name;
    let Some(queue) = world.local_queues.get(&(draft.key.0.clone(), local.clone())) else {
        return Some(("Misconfigured", format!("LocalQueue {local} doesn't exist")));
    };
    if queue.spec.stop_policy != StopPolicy::None {
        return Some(("Suspended", format!("LocalQueue {local} is stopped")));
    }
    let name = &queue.spec.cluster_queue;
    let Some(cluster) = world.cluster_queues.get(&(String::new(), name.clone())) else {
        return Some(("Misconfigured", format!("ClusterQueue {name} doesn't exist")));
    };
    if cluster.spec.stop_policy != StopPolicy::None {
        return Some(("Suspended", format!("ClusterQueue {name} is stopped")));
    }
    if !has_flavors(world, &cluster.spec) {
        return Some(("Suspended", format!("ClusterQueue {name} is inactive")));
    }
    // Without a selector a ClusterQueue takes no namespace; `{}` takes all.
    let closed = cluster.spec.namespace_selector.is_none();
    closed.then(|| {
        (
            "Misconfigured",
            "Workload namespace doesn't match ClusterQueue selector".to_owned(),
        )
    })
}

/// Whether every flavor a ClusterQueue names is there.
pub fn has_flavors(world: &World, queue: &ClusterQueueSpec) -> bool {
    let mut named = queue.resource_groups.iter().flat_map(|group| &group.flavors);
    named.all(|flavor| world.flavors.get(&(String::new(), flavor.name.clone())).is_some())
}

/// Reserves quota for one Workload, or says why not and preempts where that helps.
fn reserve(name: &str, queue: &ClusterQueueSpec, drafts: &mut [Draft<'_>], at: usize) -> bool {
    let used = used(name, drafts, |_| true);
    let trouble = match quota::assign(name, queue, &used, &drafts[at].spec.pod_sets) {
        Ok(admission) => {
            let draft = &mut drafts[at];
            draft.status.admission = Some(admission);
            draft.set(
                "QuotaReserved",
                true,
                "QuotaReserved",
                &format!("Quota reserved in ClusterQueue {name}"),
            );
            for kind in ["Evicted", "Preempted"] {
                if let Some(before) = draft
                    .status
                    .condition(kind)
                    .filter(|before| before.status == "True")
                {
                    let message = format!("Previously: {}", before.message);
                    draft.set(kind, false, "QuotaReserved", &message);
                }
            }
            return true;
        }
        Err(trouble) => trouble,
    };
    let going = preempt(name, queue, drafts, at, &trouble);
    let draft = &mut drafts[at];
    if going == 0 {
        draft.refuse(trouble.reason, &trouble.message);
    } else {
        let message = format!(
            "{}. Pending the preemption of {going} workload(s)",
            trouble.message
        );
        draft.refuse("WaitingForPreemptedWorkloads", &message);
    }
    false
}

fn used(name: &str, drafts: &[Draft<'_>], counts: impl Fn(&Draft<'_>) -> bool) -> Usage {
    let mut usage = Usage::new();
    for draft in drafts
        .iter()
        .filter(|draft| draft.is_open() && draft.is("QuotaReserved") && counts(draft))
    {
        if let Some(admission) = draft
            .status
            .admission
            .as_ref()
            .filter(|held| held.cluster_queue == name)
        {
            quota::add(&mut usage, admission);
        }
    }
    usage
}

/// Evicts the lowest and newest Workloads until this one would fit; how many are on their way out for it.
fn preempt(
    name: &str,
    queue: &ClusterQueueSpec,
    drafts: &mut [Draft<'_>],
    at: usize,
    trouble: &NoFit,
) -> usize {
    let policy = queue
        .preemption
        .as_ref()
        .and_then(|preemption| preemption.within_cluster_queue.as_deref());
    if !matches!(policy, Some("LowerPriority" | "LowerOrNewerEqualPriority")) || !trouble.may_fit_later() {
        return 0;
    }
    let below = |draft: &Draft<'_>| draft.priority() < drafts[at].priority();
    let held = |draft: &Draft<'_>| {
        draft
            .status
            .admission
            .as_ref()
            .is_some_and(|held| held.cluster_queue == name)
    };
    let mut victims: Vec<usize> = (0..drafts.len())
        .filter(|other| drafts[*other].is_open() && held(&drafts[*other]))
        .filter(|other| drafts[*other].is("Evicted") || below(&drafts[*other]))
        .collect();
    // Those that go anyway first, then the lowest, then the newest.
    victims.sort_by_key(|other| {
        let draft = &drafts[*other];
        (
            !draft.is("Evicted"),
            draft.priority(),
            std::cmp::Reverse(arrival(draft)),
        )
    });
    let fits_without = |count: usize| {
        let gone = &victims[..count];
        let keys: Vec<_> = gone.iter().map(|other| drafts[*other].key).collect();
        let left = used(name, drafts, |draft| !keys.contains(&draft.key));
        quota::assign(name, queue, &left, &drafts[at].spec.pod_sets).is_ok()
    };
    let Some(count) = (1..=victims.len()).find(|count| fits_without(*count)) else {
        return 0;
    };
    let preemptor = drafts[at].workload;
    let message = format!(
        "Preempted to accommodate a workload (UID: {}, JobUID: {}) due to prioritization in the ClusterQueue; \
         preemptor path: /{name}; preemptee path: /{name}",
        preemptor.uid().unwrap_or_default(),
        preemptor
            .labels()
            .get(super::api::JOB_UID_LABEL)
            .map_or("UNKNOWN", String::as_str),
    );
    victims.truncate(count);
    for other in victims {
        if !drafts[other].is("Evicted") {
            drafts[other].evict("Preempted", &message);
            drafts[other].set("Preempted", true, "InClusterQueue", &message);
        }
    }
    count
}

//! Gives out quota: who is kept out and why, who fits, who waits, who is preempted. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::api::{Admission, ClusterQueueSpec, JOB_UID_LABEL, StopPolicy};
use super::plan::{Draft, arrival, cluster_queue};
use super::quota::{self, Amounts, NoFit, Usage};
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
        let mut desk = Desk {
            name: &key.1,
            queue: &queue.spec,
            claims: Usage::new(),
        };
        let mut unfit = Vec::new();
        for at in waiting {
            let shape = shape(&drafts[at]);
            // What is new and asks for the same as one that does not fit is not tried, and is told no reason.
            let is_new = drafts[at].status.condition("QuotaReserved").is_none();
            if !strict && is_new && unfit.contains(&shape) {
                continue;
            }
            if desk.reserve(drafts, at) {
                continue;
            }
            if strict {
                break;
            }
            let preempts = |reserved: &Condition| reserved.reason == "WaitingForPreemptedWorkloads";
            if !drafts[at].status.condition("QuotaReserved").is_some_and(preempts) {
                unfit.push(shape);
            }
        }
    }
}

/// What decides whether a Workload fits.
fn shape(draft: &Draft<'_>) -> (i32, Vec<Amounts>) {
    let sets = draft.spec.pod_sets.iter();
    (draft.priority(), sets.map(quota::requests).collect())
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
        return Some(("Suspended", format!("LocalQueue {local} is inactive")));
    }
    let name = &queue.spec.cluster_queue;
    let Some(cluster) = world.cluster_queues.get(&(String::new(), name.clone())) else {
        return Some(("Misconfigured", format!("ClusterQueue {name} doesn't exist")));
    };
    if cluster.spec.stop_policy != StopPolicy::None {
        return Some(("Suspended", format!("ClusterQueue {name} is inactive")));
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

/// Where the quota of one ClusterQueue is given out in one round.
struct Desk<'a> {
    name: &'a str,
    queue: &'a ClusterQueueSpec,
    /// Kept free for those that preempt others: else what leaves would be taken by the next in line, who would be
    /// preempted in turn, for ever.
    claims: Usage,
}

impl Desk<'_> {
    /// Reserves quota for one Workload, or says why not and preempts where that helps.
    fn reserve(&mut self, drafts: &mut [Draft<'_>], at: usize) -> bool {
        let trouble = match self.assign(drafts, at, &[]) {
            Ok(admission) => {
                take(&mut drafts[at], admission);
                return true;
            }
            Err(trouble) => trouble,
        };
        let going = if trouble.may_fit_later() {
            self.preempt(drafts, at)
        } else {
            0
        };
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

    /// Flavors for one Workload, as if some others were gone.
    fn assign(&self, drafts: &[Draft<'_>], at: usize, gone: &[usize]) -> Result<Admission, NoFit> {
        let mut used = self.claims.clone();
        for other in (0..drafts.len()).filter(|other| !gone.contains(other)) {
            if let Some(admission) = self.held(&drafts[other]) {
                quota::add(&mut used, admission);
            }
        }
        quota::assign(self.name, self.queue, &used, &drafts[at].spec.pod_sets)
    }

    fn held<'d>(&self, draft: &'d Draft<'_>) -> Option<&'d Admission> {
        let admission = draft
            .status
            .admission
            .as_ref()
            .filter(|_| draft.is_open() && draft.is("QuotaReserved"));
        admission.filter(|admission| admission.cluster_queue == self.name)
    }

    /// Evicts the lowest and newest Workloads until this one would fit; how many are on their way out for it.
    fn preempt(&mut self, drafts: &mut [Draft<'_>], at: usize) -> usize {
        let mut victims = self.candidates(drafts, at);
        let Some(count) =
            (1..=victims.len()).find(|count| self.assign(drafts, at, &victims[..*count]).is_ok())
        else {
            return 0;
        };
        victims.truncate(count);
        // The last made room enough that some before it can stay.
        for victim in victims
            .clone()
            .into_iter()
            .filter(|victim| !drafts[*victim].is("Evicted"))
        {
            let fewer: Vec<usize> = victims.iter().copied().filter(|other| *other != victim).collect();
            if self.assign(drafts, at, &fewer).is_ok() {
                victims = fewer;
            }
        }
        if let Ok(claim) = self.assign(drafts, at, &victims) {
            quota::add(&mut self.claims, &claim);
        }
        let message = self.message(&drafts[at]);
        for victim in &victims {
            let draft = &mut drafts[*victim];
            if !draft.is("Evicted") {
                draft.evict("Preempted", &message);
                draft.set("Preempted", true, "InClusterQueue", &message);
            }
        }
        victims.len()
    }

    /// Who may go for this one: those that go anyway first, then the lowest, then the newest.
    fn candidates(&self, drafts: &[Draft<'_>], at: usize) -> Vec<usize> {
        let policy = self
            .queue
            .preemption
            .as_ref()
            .and_then(|preemption| preemption.within_cluster_queue.as_deref());
        let equals = match policy {
            Some("LowerPriority") => false,
            Some("LowerOrNewerEqualPriority") => true,
            Some(_) | None => return Vec::new(),
        };
        let preemptor = &drafts[at];
        let newer = |draft: &Draft<'_>| equals && arrival(draft) > arrival(preemptor);
        let below = |draft: &Draft<'_>| {
            let (theirs, ours) = (draft.priority(), preemptor.priority());
            theirs < ours || theirs == ours && newer(draft)
        };
        let goes = |draft: &Draft<'_>| self.held(draft).is_some() && (draft.is("Evicted") || below(draft));
        let mut candidates: Vec<usize> = (0..drafts.len()).filter(|other| goes(&drafts[*other])).collect();
        candidates.sort_by_key(|other| {
            let draft = &drafts[*other];
            (
                !draft.is("Evicted"),
                draft.priority(),
                std::cmp::Reverse(arrival(draft)),
            )
        });
        candidates
    }

    fn message(&self, preemptor: &Draft<'_>) -> String {
        let labels = preemptor.workload.labels();
        format!(
            "Preempted to accommodate a workload (UID: {}, JobUID: {}) due to prioritization in the ClusterQueue; \
             preemptor path: /{name}; preemptee path: /{name}",
            preemptor.workload.uid().unwrap_or_default(),
            labels.get(JOB_UID_LABEL).map_or("UNKNOWN", String::as_str),
            name = self.name,
        )
    }
}

/// The Workload has its quota; an eviction before is history.
fn take(draft: &mut Draft<'_>, admission: Admission) {
    let message = format!("Quota reserved in ClusterQueue {}", admission.cluster_queue);
    draft.status.admission = Some(admission);
    draft.set("QuotaReserved", true, "QuotaReserved", &message);
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
}

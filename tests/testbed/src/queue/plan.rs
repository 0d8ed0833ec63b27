//! Decides what the stand-in writes next, from what it knows. Pure and level-based: the same world gives the same
//! writes, and a world in which everything is as it should be gives none. The loop in `queue.rs` carries them out.
//!
//! Order of one round: ends of Jobs, evictions, releases, reservations, then the conditions that follow from them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::api::{self, ClusterQueueSpec, StopPolicy, Verdict, Workload, WorkloadSpec, WorkloadStatus};
use super::world::{Key, World};
use super::{admit, jobs, usage};

/// One change to the cluster.
#[derive(Debug, Clone)]
pub enum Write {
    CreateWorkload(Box<Workload>),
    WorkloadStatus(Key, WorkloadStatus),
    /// `spec.active: false`.
    Deactivate(Key),
    /// `spec.suspend` of a Job.
    Suspend(Key, bool),
    LocalQueueStatus(Key, serde_json::Value),
    ClusterQueueStatus(Key, serde_json::Value),
}

/// A Workload on its way to its next status.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    pub key: &'a Key,
    pub workload: &'a Workload,
    pub spec: &'a WorkloadSpec,
    pub status: WorkloadStatus,
    job: Option<&'a Job>,
}

impl Draft<'_> {
    pub fn is(&self, kind: &str) -> bool {
        self.status.is(kind)
    }

    pub fn set(&mut self, kind: &str, status: bool, reason: &str, message: &str) {
        let verdict = Verdict {
            kind,
            status,
            reason,
            message,
        };
        api::set(
            &mut self.status.conditions,
            self.workload.metadata.generation,
            verdict,
        );
    }

    /// No reservation, with the reason.
    pub fn refuse(&mut self, reason: &str, message: &str) {
        self.set("QuotaReserved", false, reason, message);
        self.status.admission = None;
    }

    /// Marks for eviction; the reservation stays until the pods are gone.
    pub fn evict(&mut self, reason: &str, message: &str) {
        self.set("Evicted", true, reason, message);
    }

    /// Takes part in queueing or holds quota.
    pub fn is_open(&self) -> bool {
        !self.is("Finished")
    }

    pub fn priority(&self) -> i32 {
        self.spec.priority.unwrap_or(0)
    }
}

/// What to write next; empty when nothing is left to do until something changes.
pub fn plan(world: &World, now: Timestamp) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut by_workload = BTreeMap::new();
    for (key, job) in world
        .jobs
        .iter()
        .filter(|(_, job)| job.metadata.deletion_timestamp.is_none())
    {
        let workload_key = jobs::workload_key(job);
        let workload = world.workloads.get(&workload_key);
        if workload.is_none() && jobs::end(job).is_none() {
            writes.push(Write::CreateWorkload(Box::new(jobs::workload(world, job))));
        }
        if let Some(suspend) = jobs::wrong_suspend(job, workload) {
            writes.push(Write::Suspend(key.clone(), suspend));
        }
        by_workload.insert(workload_key, job);
    }
    let mut drafts = drafts(world, &by_workload);
    for draft in drafts.iter_mut().filter(|draft| draft.is_open()) {
        finish(draft);
        deactivate(draft, now, &mut writes);
        stop(world, draft);
        release(draft);
        resume(world, draft);
    }
    admit::admit(world, &mut drafts);
    for draft in drafts.iter_mut().filter(|draft| draft.is_open()) {
        follow(draft, now);
    }
    writes.extend(usage::statuses(world, &drafts));
    // What gives quota back is written before what takes it.
    drafts.sort_by_key(|draft| draft.is_open() && draft.is("QuotaReserved"));
    for draft in drafts {
        if draft.workload.status.as_ref() != Some(&draft.status) {
            writes.push(Write::WorkloadStatus(draft.key.clone(), draft.status));
        }
    }
    writes
}

/// When the plan changes by time alone: the next end of an execution time.
pub fn next_deadline(world: &World) -> Option<Timestamp> {
    world
        .workloads
        .iter()
        .filter_map(|(_, workload)| deadline(&workload.spec, workload.status.as_ref()?))
        .min()
}

fn deadline(spec: &WorkloadSpec, status: &WorkloadStatus) -> Option<Timestamp> {
    let limit = spec.maximum_execution_time_seconds?;
    let admitted = status
        .condition("Admitted")
        .filter(|_| status.is("Admitted") && !status.is("Finished"))?;
    let left = limit - status.accumulated_past_execution_time_seconds.unwrap_or(0);
    let running = !status.is("DeactivationTarget");
    running.then(|| {
        admitted.last_transition_time.0 + std::time::Duration::from_secs(u64::try_from(left).unwrap_or(0))
    })
}

fn drafts<'a>(world: &'a World, by_workload: &BTreeMap<Key, &'a Job>) -> Vec<Draft<'a>> {
    let draft = |(key, workload): (&'a Key, &'a Workload)| Draft {
        key,
        workload,
        spec: &workload.spec,
        status: workload.status.clone().unwrap_or_default(),
        job: by_workload.get(key).copied(),
    };
    world.workloads.iter().map(draft).collect()
}

/// The Job ended: so did the Workload, and its quota is free.
fn finish(draft: &mut Draft<'_>) {
    if let Some((reason, message)) = draft.job.and_then(jobs::end) {
        draft.set("Finished", true, reason, &message);
    }
}

/// Execution time used up, or `active: false` by anyone, also while it waits.
fn deactivate(draft: &mut Draft<'_>, now: Timestamp, writes: &mut Vec<Write>) {
    const TOO_LONG: &str = "exceeding the maximum execution time";
    const DEACTIVATED: &str = "The workload is deactivated";
    if deadline(draft.spec, &draft.status).is_some_and(|at| at <= now) {
        draft.set(
            "DeactivationTarget",
            true,
            "MaximumExecutionTimeExceeded",
            TOO_LONG,
        );
    }
    let target = draft
        .status
        .condition("DeactivationTarget")
        .filter(|target| target.status == "True")
        .cloned();
    match target {
        Some(_) if draft.spec.is_active() => writes.push(Write::Deactivate(draft.key.clone())),
        _ if draft.spec.is_active() || draft.is("Evicted") => {}
        Some(target) => {
            let reason = format!("DeactivatedDueTo{}", target.reason);
            draft.evict(
                &reason,
                &format!("The workload is deactivated due to {}", target.message),
            );
            // Done with: activated again later, the Workload starts a new life.
            draft
                .status
                .conditions
                .retain(|condition| condition.type_ != "DeactivationTarget");
        }
        None => draft.evict("Deactivated", DEACTIVATED),
    }
    if !draft.spec.is_active() && !draft.is("QuotaReserved") {
        draft.refuse("Deactivated", DEACTIVATED);
    }
}

/// A drained queue evicts what it has admitted.
fn stop(world: &World, draft: &mut Draft<'_>) {
    if !draft.is("Admitted") || draft.is("Evicted") {
        return;
    }
    if local_policy(world, draft) == Some(StopPolicy::HoldAndDrain) {
        draft.evict("LocalQueueStopped", "The LocalQueue is stopped");
    } else if cluster_queue(world, draft)
        .is_some_and(|(_, queue)| queue.stop_policy == StopPolicy::HoldAndDrain)
    {
        draft.evict("ClusterQueueStopped", "The ClusterQueue is stopped");
    }
}

/// The pods of an evicted Workload are gone: its quota is free, and it may queue again.
fn release(draft: &mut Draft<'_>) {
    let still = draft
        .job
        .is_some_and(|job| !jobs::is_suspended(job) || jobs::has_pods(job));
    // Before the eviction is written the Job has not even been asked to stop.
    let written = draft
        .workload
        .status
        .as_ref()
        .is_some_and(|status| status.is("Evicted"));
    if still || !written || !draft.is("QuotaReserved") {
        return;
    }
    let Some(evicted) = draft.status.condition("Evicted").cloned() else {
        return;
    };
    draft.set(
        "Requeued",
        evicted.reason == "Preempted",
        &evicted.reason,
        &evicted.message,
    );
    draft.refuse("PendingEvaluation", &evicted.message);
}

/// What kept an evicted Workload out is over.
fn resume(world: &World, draft: &mut Draft<'_>) {
    let open = |policy| policy == Some(StopPolicy::None);
    let cluster_policy = cluster_queue(world, draft).map(|(_, queue)| queue.stop_policy);
    let out = |reason| draft.status.is_false_because("Requeued", reason);
    if out("LocalQueueStopped") && open(local_policy(world, draft)) {
        draft.set(
            "Requeued",
            true,
            "LocalQueueRestarted",
            "The LocalQueue was restarted after being stopped",
        );
    } else if out("ClusterQueueStopped") && open(cluster_policy) {
        draft.set(
            "Requeued",
            true,
            "ClusterQueueRestarted",
            "The ClusterQueue was restarted after being stopped",
        );
    } else if draft.spec.is_active()
        && draft
            .status
            .condition("Requeued")
            .is_some_and(|c| c.status == "False" && c.reason.starts_with("Deactivated"))
    {
        draft.set("Requeued", true, "Reactivated", "The workload was reactivated");
    }
}

/// `Admitted` and `PodsReady` follow from the reservation and the Job.
fn follow(draft: &mut Draft<'_>, now: Timestamp) {
    if draft.is("QuotaReserved") {
        draft.set("Admitted", true, "Admitted", "The workload is admitted");
    } else if draft.status.condition("QuotaReserved").is_some() {
        if let Some(admitted) = draft
            .status
            .condition("Admitted")
            .filter(|_| draft.is("Admitted"))
        {
            let ran = now.as_second() - admitted.last_transition_time.0.as_second();
            *draft
                .status
                .accumulated_past_execution_time_seconds
                .get_or_insert(0) += ran.max(0);
        }
        draft.set(
            "Admitted",
            false,
            "NoReservation",
            "The workload has no reservation",
        );
    }
    let ready = draft.is("Admitted")
        && draft
            .job
            .is_some_and(|job| !jobs::is_suspended(job) && jobs::is_ready(job));
    let started = draft.is("Admitted") && draft.is("PodsReady");
    if ready {
        draft.set(
            "PodsReady",
            true,
            "Started",
            "All pods reached readiness and the workload is running",
        );
    } else if started || draft.status.is_false_because("PodsReady", "WaitForRecovery") && draft.is("Admitted")
    {
        let message = "At least one pod has failed, waiting for recovery";
        draft.set("PodsReady", false, "WaitForRecovery", message);
    } else {
        draft.set(
            "PodsReady",
            false,
            "WaitForStart",
            "Not all pods are ready or succeeded",
        );
    }
}

fn local_policy(world: &World, draft: &Draft<'_>) -> Option<StopPolicy> {
    let key = (draft.key.0.clone(), draft.spec.queue_name.clone());
    world.local_queues.get(&key).map(|queue| queue.spec.stop_policy)
}

/// The ClusterQueue a Workload holds quota of, else the one its LocalQueue names.
pub fn cluster_queue<'a>(world: &'a World, draft: &Draft<'_>) -> Option<(String, &'a ClusterQueueSpec)> {
    let admitted = draft
        .status
        .admission
        .as_ref()
        .map(|admission| admission.cluster_queue.clone());
    let local = (draft.key.0.clone(), draft.spec.queue_name.clone());
    let name = admitted.or_else(|| Some(world.local_queues.get(&local)?.spec.cluster_queue.clone()))?;
    let queue = world.cluster_queues.get(&(String::new(), name.clone()))?;
    Some((name, &queue.spec))
}

/// Order of arrival: older first, then by UID as the real thing does, because creation times have whole seconds.
pub fn arrival(draft: &Draft<'_>) -> (Option<Timestamp>, String) {
    (
        draft.workload.creation_timestamp().map(|time| time.0),
        draft.workload.uid().unwrap_or_default(),
    )
}

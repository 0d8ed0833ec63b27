//! What we read of the API's objects, and nothing more: small structs decode several times faster
//! than the full types and keep the in-memory view small. Every field may be missing, unknown ones
//! are skipped, so that a newer or odd object is still an object.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qwex_core::{Attempt, ObjectUid, RunId};
use serde::{Deserialize, Deserializer};

use crate::names;
use crate::place::Place;

/// `metadata` of any object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    /// Counts the changes of its spec, from 1 on.
    pub generation: i64,
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "ours_only")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_as_default")]
    pub owner_references: Vec<Owner>,
    #[serde(deserialize_with = "null_as_default")]
    pub finalizers: Vec<String>,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<Timestamp>,
    pub deletion_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: Option<bool>,
}

/// A condition of any object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobView {
    pub metadata: Meta,
    pub spec: JobViewSpec,
    pub status: JobViewStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobViewSpec {
    pub suspend: Option<bool>,
    pub active_deadline_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobViewStatus {
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<Condition>,
    pub start_time: Option<Timestamp>,
    pub completion_time: Option<Timestamp>,
    pub active: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodView {
    pub metadata: Meta,
    pub spec: PodViewSpec,
    pub status: PodViewStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodViewSpec {
    pub node_name: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub init_containers: Vec<ContainerSpecView>,
    #[serde(deserialize_with = "null_as_default")]
    pub containers: Vec<ContainerSpecView>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSpecView {
    pub name: String,
    pub image: String,
    pub resources: ResourcesView,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourcesView {
    #[serde(deserialize_with = "null_as_default")]
    pub limits: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodViewStatus {
    pub phase: String,
    pub reason: String,
    pub message: String,
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<Condition>,
    #[serde(deserialize_with = "null_as_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "null_as_default")]
    pub container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    /// The image that runs, by digest: `docker.io/library/busybox@sha256:…`.
    #[serde(rename = "imageID")]
    pub image_id: String,
    pub restart_count: u32,
    pub state: ContainerState,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    pub waiting: Option<StateWaiting>,
    pub running: Option<StateRunning>,
    pub terminated: Option<StateTerminated>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateWaiting {
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateRunning {
    pub started_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateTerminated {
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub reason: String,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// A Kueue Workload; the same in v1beta1 and v1beta2 as far as we read it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadView {
    pub metadata: Meta,
    pub spec: WorkloadViewSpec,
    pub status: WorkloadViewStatus,
    /// Not of the object: where it stands among the others that wait, set by who knows them.
    #[serde(skip)]
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadViewSpec {
    pub queue_name: String,
    pub active: Option<bool>,
    pub priority: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadViewStatus {
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<Condition>,
    #[serde(deserialize_with = "null_as_default")]
    pub requeue_state: RequeueState,
    #[serde(deserialize_with = "null_as_default")]
    pub admission_checks: Vec<AdmissionCheckState>,
}

/// When Kueue will look again at a Workload that it sent back.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequeueState {
    pub requeue_at: Option<Timestamp>,
}

/// What one admission check says of a Workload that has its quota.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AdmissionCheckState {
    pub name: String,
    /// `Pending`, `Ready`, `Retry` or `Rejected`.
    pub state: String,
    pub message: String,
}

/// The API writes `null` for empty lists and maps of some objects.
fn null_as_default<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Annotations may weigh 256 KiB; only our own are kept.
fn ours_only<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut all: BTreeMap<String, String> = null_as_default(from)?;
    all.retain(|key, _| key == names::SPEC_HASH || key == names::TIMEOUT);
    Ok(all)
}

/// Anything with `metadata`.
pub(crate) trait Object {
    fn meta(&self) -> &Meta;
}

macro_rules! object {
    ($($type:ty),*) => { $(impl Object for $type {
        fn meta(&self) -> &Meta { &self.metadata }
    })* };
}
object!(JobView, PodView, WorkloadView);

impl Meta {
    /// The attempt an object of ours belongs to, by its labels.
    #[must_use]
    pub fn attempt(&self) -> Option<(RunId, Attempt)> {
        if self.labels.get(names::MANAGED_BY).map(String::as_str) != Some(names::QWEX) {
            return None;
        }
        let run_id = self.labels.get(names::RUN_ID)?.parse().ok()?;
        let attempt = self.labels.get(names::ATTEMPT)?.parse().ok()?;
        Some((run_id, Attempt(attempt)))
    }

    #[must_use]
    pub fn object_uid(&self) -> ObjectUid {
        ObjectUid(self.uid.clone())
    }

    /// UID of the Job that owns this object.
    #[must_use]
    pub fn owner_job(&self) -> Option<&str> {
        let owner = self.owner_references.iter().find(|owner| owner.kind == "Job")?;
        Some(&owner.uid)
    }
}

impl JobView {
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.status.conditions, kind)
    }

    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Whether the Job controller has given its verdict.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        ["Complete", "Failed"]
            .into_iter()
            .any(|kind| self.condition(kind).is_some_and(Condition::is_true))
    }

    /// See `Fact::Running::round`.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.condition("Suspended")
            .and_then(|condition| condition.last_transition_time)
            .map_or(0, |at| u64::try_from(at.as_second()).unwrap_or(0))
    }
}

impl ContainerStatus {
    /// When it started, whether it runs still or not.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        match (&self.state.running, &self.state.terminated) {
            (Some(running), _) => running.started_at,
            (None, ended) => ended.as_ref()?.started_at,
        }
    }
}

impl PodView {
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.status.conditions, kind)
    }

    /// Status of our container.
    #[must_use]
    pub fn main(&self) -> Option<&ContainerStatus> {
        self.status
            .container_statuses
            .iter()
            .find(|status| status.name == names::CONTAINER)
    }

    /// Status of the helper that takes in the files of the workspace before the command starts.
    #[must_use]
    pub fn files_in(&self) -> Option<&ContainerStatus> {
        self.status
            .init_container_statuses
            .iter()
            .find(|status| status.name == names::FILES_IN)
    }

    /// Status of the helper that keeps the outputs after the command has ended.
    #[must_use]
    pub fn files_out(&self) -> Option<&ContainerStatus> {
        self.status
            .container_statuses
            .iter()
            .find(|status| status.name == names::FILES_OUT)
    }

    /// Whether outputs of the command are to be fetched, so that the pod outlives it.
    #[must_use]
    pub fn keeps_outputs(&self) -> bool {
        self.spec
            .containers
            .iter()
            .any(|container| container.name == names::FILES_OUT)
    }

    /// What the pod waits for: while a helper has not started, that one; it has the command's image or its own.
    #[must_use]
    pub fn waiting(&self) -> Option<&StateWaiting> {
        let of = |status: &'_ ContainerStatus| status.state.waiting.is_some();
        let helper = self.files_in().filter(|helper| of(helper));
        helper.or(self.main())?.state.waiting.as_ref()
    }

    /// What was asked for our container.
    #[must_use]
    pub fn main_spec(&self) -> Option<&ContainerSpecView> {
        self.spec
            .containers
            .iter()
            .find(|container| container.name == names::CONTAINER)
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}

impl WorkloadView {
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.status.conditions, kind)
    }
}

fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

impl Condition {
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// Reason and message in one sentence, word for word.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.reason.is_empty(), self.message.is_empty()) {
            (_, true) => self.reason.clone(),
            (true, false) => self.message.clone(),
            (false, false) => format!("{}: {}", self.reason, self.message),
        }
    }
}

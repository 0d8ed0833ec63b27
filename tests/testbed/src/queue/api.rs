//! The objects of `kueue.x-k8s.io/v1beta2` as far as the stand-in reads and writes them. Unknown fields are dropped on
//! reading and never written back: every write is a patch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::{ApiResource, GroupVersionKind, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub const GROUP: &str = "kueue.x-k8s.io";
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";
pub const PRIORITY_LABEL: &str = "kueue.x-k8s.io/priority-class";
pub const MAX_TIME_LABEL: &str = "kueue.x-k8s.io/max-exec-time-seconds";
pub const JOB_UID_LABEL: &str = "kueue.x-k8s.io/job-uid";

pub type Workload = Object<WorkloadSpec, WorkloadStatus>;
pub type LocalQueue = Object<LocalQueueSpec, Value>;
pub type ClusterQueue = Object<ClusterQueueSpec, Value>;
pub type ResourceFlavor = kube::core::DynamicObject;
pub type PriorityClass = kube::core::DynamicObject;

/// The resource of one of the stand-in's kinds.
pub fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1beta2", kind), plural)
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    pub pod_sets: Vec<PodSet>,
    pub queue_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_ref: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_execution_time_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSet {
    pub name: String,
    pub count: i64,
    pub template: PodTemplateSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    pub conditions: Vec<Condition>,
    /// Serialised as null when absent, so that a merge patch removes it.
    pub admission: Option<Admission>,
    pub accumulated_past_execution_time_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Admission {
    pub cluster_queue: String,
    pub pod_set_assignments: Vec<PodSetAssignment>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSetAssignment {
    pub name: String,
    pub flavors: BTreeMap<String, String>,
    pub resource_usage: BTreeMap<String, Quantity>,
    pub count: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalQueueSpec {
    pub cluster_queue: String,
    pub stop_policy: StopPolicy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopPolicy {
    #[default]
    None,
    /// Nothing new is admitted.
    Hold,
    /// As `Hold`, and what is admitted is evicted.
    HoldAndDrain,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterQueueSpec {
    pub resource_groups: Vec<ResourceGroup>,
    pub queueing_strategy: Option<String>,
    pub namespace_selector: Option<Value>,
    pub preemption: Option<Preemption>,
    pub stop_policy: StopPolicy,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preemption {
    pub within_cluster_queue: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceGroup {
    pub covered_resources: Vec<String>,
    pub flavors: Vec<FlavorQuotas>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlavorQuotas {
    pub name: String,
    pub resources: Vec<ResourceQuota>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceQuota {
    pub name: String,
    pub nominal_quota: Quantity,
}

impl WorkloadSpec {
    pub fn is_active(&self) -> bool {
        self.active.unwrap_or(true)
    }
}

impl WorkloadStatus {
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    pub fn is(&self, kind: &str) -> bool {
        self.condition(kind)
            .is_some_and(|condition| condition.status == "True")
    }

    pub fn is_false_because(&self, kind: &str, reason: &str) -> bool {
        self.condition(kind)
            .is_some_and(|condition| condition.status == "False" && condition.reason == reason)
    }
}

/// A new value of a condition.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    pub kind: &'a str,
    pub status: bool,
    pub reason: &'a str,
    pub message: &'a str,
}

/// Sets a condition as the API machinery does: the transition time moves only with the status.
pub fn set(conditions: &mut Vec<Condition>, generation: Option<i64>, verdict: Verdict<'_>) {
    let status = if verdict.status { "True" } else { "False" };
    let at = conditions
        .iter()
        .position(|condition| condition.type_ == verdict.kind)
        .unwrap_or_else(|| {
            conditions.push(Condition {
                type_: verdict.kind.to_owned(),
                ..new_condition()
            });
            conditions.len() - 1
        });
    let condition = &mut conditions[at];
    let same = condition.status == status
        && condition.reason == verdict.reason
        && condition.message == verdict.message;
    if same {
        return;
    }
    if condition.status != status {
        condition.last_transition_time = now();
    }
    condition.status = status.to_owned();
    condition.reason = verdict.reason.to_owned();
    condition.message = verdict.message.to_owned();
    condition.observed_generation = generation;
}

fn new_condition() -> Condition {
    Condition {
        last_transition_time: now(),
        message: String::new(),
        observed_generation: None,
        reason: String::new(),
        status: String::new(),
        type_: String::new(),
    }
}

/// Now, in whole seconds like every Kubernetes time.
fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).expect("the clock is within jiff's range"))
}

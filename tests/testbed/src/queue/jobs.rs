//! The side of the Jobs: the Workload each of them gets, and whether it may run. Pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::api::{self, JOB_UID_LABEL, MAX_TIME_LABEL, PRIORITY_LABEL, QUEUE_LABEL};
use super::api::{PodSet, Workload, WorkloadSpec};
use super::world::{Key, World};

/// What the real thing cuts names to.
const LONGEST_NAME: usize = 63;
const HASH: usize = 5;
/// Set on the template by the Job controller; not part of what was asked for.
const MANAGED: &[&str] = &["controller-uid", "batch.kubernetes.io/controller-uid", "job-name"];

/// `job-<job>-<hash>`.
pub fn workload_name(job: &Job) -> String {
    let text = format!(
        "Job\nbatch\n{}\n{}",
        job.name_any(),
        job.uid().unwrap_or_default()
    );
    let hash = hex::encode(Sha256::digest(text));
    let mut prefix = format!("job-{}", job.name_any());
    prefix.truncate(LONGEST_NAME - 1 - HASH);
    format!("{prefix}-{}", &hash[..HASH])
}

pub fn workload_key(job: &Job) -> Key {
    (job.namespace().unwrap_or_default(), workload_name(job))
}

/// How many pods run at once.
fn pods(job: &Job) -> i64 {
    let spec = job.spec.as_ref();
    let parallelism = spec.and_then(|spec| spec.parallelism).unwrap_or(1);
    let completions = spec.and_then(|spec| spec.completions).unwrap_or(parallelism);
    i64::from(parallelism.min(completions))
}

/// The Workload of a Job that has none yet.
pub fn workload(world: &World, job: &Job) -> Workload {
    let mut template = job
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    if let Some(labels) = template
        .metadata
        .as_mut()
        .and_then(|metadata| metadata.labels.as_mut())
    {
        labels.retain(|label, _| !MANAGED.contains(&label.as_str()));
    }
    let class = job.labels().get(PRIORITY_LABEL);
    let reference =
        |name: &String| json!({ "group": api::GROUP, "kind": "WorkloadPriorityClass", "name": name });
    let spec = WorkloadSpec {
        pod_sets: vec![PodSet {
            name: "main".to_owned(),
            count: pods(job),
            template,
        }],
        queue_name: job.labels().get(QUEUE_LABEL).cloned().unwrap_or_default(),
        priority: Some(class.map_or(0, |class| world.priority(class))),
        priority_class_ref: class.map(reference),
        active: Some(true),
        maximum_execution_time_seconds: job
            .labels()
            .get(MAX_TIME_LABEL)
            .and_then(|text| text.parse().ok()),
    };
    let resource = api::resource("Workload", "workloads");
    let mut workload =
        Workload::new(&workload_name(job), &resource, spec).within(&job.namespace().unwrap_or_default());
    let uid = job.uid().unwrap_or_default();
    workload
        .labels_mut()
        .insert(JOB_UID_LABEL.to_owned(), uid.clone());
    workload.owner_references_mut().push(OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: job.name_any(),
        uid,
        controller: Some(true),
        block_owner_deletion: Some(true),
    });
    workload
}

/// How a Job ended: reason and message for its Workload.
pub fn end(job: &Job) -> Option<(&'static str, String)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|condition| {
        condition.status == "True" && (condition.type_ == "Complete" || condition.type_ == "Failed")
    })?;
    let reason = if ended.type_ == "Complete" {
        "Succeeded"
    } else {
        "Failed"
    };
    Some((reason, ended.message.clone().unwrap_or_default()))
}

pub fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false)
}

/// Whether pods of it may still run.
pub fn has_pods(job: &Job) -> bool {
    job.status.as_ref().and_then(|status| status.active).unwrap_or(0) != 0
}

/// Whether all its pods are ready or through.
pub fn is_ready(job: &Job) -> bool {
    let Some(status) = &job.status else { return false };
    i64::from(status.ready.unwrap_or(0) + status.succeeded.unwrap_or(0)) >= pods(job)
}

/// The value of `spec.suspend` a Job should have, when it has another.
pub fn wrong_suspend(job: &Job, workload: Option<&Workload>) -> Option<bool> {
    if end(job).is_some() {
        return None;
    }
    let status = workload.and_then(|workload| workload.status.as_ref());
    let runs =
        status.is_some_and(|status| status.is("Admitted") && !status.is("Evicted") && !status.is("Finished"));
    (is_suspended(job) == runs).then_some(!runs)
}

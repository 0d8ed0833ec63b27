//! One attempt of a run → the Job it becomes. Pure. An allow-list: every field of the Job is written
//! here from a typed field of the spec; no user YAML is ever merged in, and no user string forms a
//! name or a label.
//!
//! Called by `submit`. Must not read anything but its arguments.

mod env;
mod files;
mod mounts;
mod security;

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec as K8sJobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use qwex_core::spec::PullPolicy;
use qwex_core::{JobSpec, QueueName, SpecProblem};
use qwex_runner::Work;

use self::files::Files;
use self::security::Security;
use crate::check;
use crate::config::K8sConfig;
use crate::names;

/// Most bytes of user labels that are copied onto the Job, of the 256 KiB all annotations may have.
const LABELS_CAP: usize = 16 * 1024;
/// Why an attempt cannot become a Job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("{}: {}", .0.pointer, .0.detail)]
    Refused(SpecProblem),
    #[error("the command is empty")]
    NoCommand,
    #[error("the secret reference {reference:?} of {variable} must be `secret` or `secret/key`")]
    BadSecret { variable: String, reference: String },
}

/// The Job of one attempt as `config` wants Jobs, suspended where it waits in a queue.
///
/// # Errors
/// The spec asks for what Kubernetes or the policy refuses.
pub fn job(work: &Work, config: &K8sConfig, queue: Option<&QueueName>) -> Result<Job, ManifestError> {
    let spec = &work.spec;
    let policy = &config.policy;
    let refused = check::problems("k8s", &check::features(policy), policy, spec);
    if let Some(problem) = refused.into_iter().find(|problem| !is_placement(problem)) {
        return Err(ManifestError::Refused(problem));
    }
    let mut labels = names::own_labels(work);
    let files = Files::of(work, policy);
    let pod = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(work, config, files.as_ref())?),
    };
    if let Some(queue) = queue {
        labels.insert(names::QUEUE.to_owned(), queue.to_string());
        if let Some(class) = &spec.priority_class {
            labels.insert(names::PRIORITY.to_owned(), class.to_string());
        }
    }
    let deadline = spec.timeout.map(|timeout| clamp(timeout.as_secs_ceil()));
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(work.object_name()),
            namespace: Some(config.namespace_of(&work.project)),
            labels: Some(labels),
            annotations: Some(annotations(work, files.as_ref())),
            ..ObjectMeta::default()
        },
        spec: Some(K8sJobSpec {
            backoff_limit: Some(0),
            parallelism: Some(1),
            completions: Some(1),
            // A pod that keeps outputs outlives its command: there the command has a deadline of its own.
            active_deadline_seconds: deadline.filter(|_| !files.as_ref().is_some_and(Files::keeps_outputs)),
            suspend: queue.map(|_| true),
            template: pod,
            ..K8sJobSpec::default()
        }),
        status: None,
    })
}

/// Where a run goes was decided before it came here.
fn is_placement(problem: &SpecProblem) -> bool {
    problem.pointer == "/cluster" || problem.pointer.starts_with("/placement")
}

fn clamp(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn annotations(work: &Work, files: Option<&Files<'_>>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(names::SPEC_HASH.to_owned(), work.spec.hash())]);
    if let Some(timeout) = files.and_then(Files::deadline) {
        all.insert(names::TIMEOUT.to_owned(), timeout.to_string());
    }
    if let Some(name) = &work.name {
        all.insert(names::RUN_NAME.to_owned(), name.to_string());
    }
    if !work.labels.is_empty() {
        all.insert(names::USER_LABELS.to_owned(), capped_json(&work.labels));
    }
    all
}

/// As many labels, in order, as fit under the cap.
fn capped_json(labels: &BTreeMap<String, String>) -> String {
    let mut size = 2;
    let fitting: BTreeMap<&String, &String> = labels
        .iter()
        .take_while(|(key, value)| {
            // Worst case of JSON escapes: six bytes for one.
            size += 6 * (key.len() + value.len()) + 6;
            size <= LABELS_CAP
        })
        .collect();
    serde_json::to_string(&fitting).expect("a map of strings serialises")
}

fn pod_spec(work: &Work, config: &K8sConfig, files: Option<&Files<'_>>) -> Result<PodSpec, ManifestError> {
    let security = Security::of(work, config);
    let mut main = main_container(work, files)?;
    main.security_context = Some(security.container());
    let (mut volumes, mounts) = mounts::of(&work.spec);
    main.volume_mounts = Some(mounts);
    let mut pod = PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: work.spec.service_account.clone(),
        // A run that names an account wants its rights.
        automount_service_account_token: Some(work.spec.service_account.is_some()),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        security_context: Some(security.pod()),
        ..PodSpec::default()
    };
    if let Some(files) = files {
        files.add_to(&mut pod, &mut main, &mut volumes, &security);
    }
    main.volume_mounts = main.volume_mounts.filter(|mounts| !mounts.is_empty());
    pod.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
    pod.containers.insert(0, main);
    Ok(pod)
}

fn main_container(work: &Work, files: Option<&Files<'_>>) -> Result<Container, ManifestError> {
    let spec = &work.spec;
    if spec.command.is_empty() {
        return Err(ManifestError::NoCommand);
    }
    Ok(Container {
        name: names::CONTAINER.to_owned(),
        image: spec.image.clone(),
        image_pull_policy: Some(pull_policy(spec.pull_policy).to_owned()),
        command: Some(spec.command.iter().map(|word| literal(word)).collect()),
        working_dir: spec
            .working_dir
            .clone()
            .or_else(|| files.map(|_| names::WORKSPACE.to_owned())),
        env: Some(env::env(work)?),
        resources: resources(spec),
        // `FallbackToLogsOnError` would copy log text into the pod's status and from there into SQL.
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    })
}

/// Kubernetes reads `$(NAME)` and `$$` in commands and values; doubling every `$` gives the container
/// the very bytes the user wrote.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn pull_policy(policy: Option<PullPolicy>) -> &'static str {
    match policy {
        Some(PullPolicy::Always) => "Always",
        Some(PullPolicy::IfNotPresent) | None => "IfNotPresent",
        Some(PullPolicy::Never) => "Never",
    }
}

/// Request and limit are the same, so that what a run is promised is what it may use.
fn resources(spec: &JobSpec) -> Option<ResourceRequirements> {
    let asked = &spec.resources;
    if asked.is_empty() {
        return None;
    }
    let amounts: BTreeMap<String, Quantity> = [
        ("cpu", asked.cpu.clone()),
        ("memory", asked.memory.clone()),
        ("nvidia.com/gpu", asked.gpu.map(|count| count.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, amount)| Some((name.to_owned(), Quantity(amount?))))
    .collect();
    Some(ResourceRequirements {
        limits: Some(amounts.clone()),
        requests: Some(amounts),
        claims: None,
    })
}

#[cfg(test)]
mod tests;

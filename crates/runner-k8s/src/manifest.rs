//! One attempt of a run → the Job it becomes. Pure. An allow-list: every field of the Job is written
//! here from a typed field of the spec; no user YAML is ever merged in, and no user string forms a
//! name or a label.
//!
//! Called by `submit`. Must not read anything but its arguments.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec as K8sJobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, EnvVarSource, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use qwex_core::JobSpec;
use qwex_core::spec::PullPolicy;
use qwex_runner::Work;

use crate::names;

/// Most bytes of user labels that are copied onto the Job, of the 256 KiB all annotations may have.
const LABELS_CAP: usize = 16 * 1024;
/// Set by qwex alone; a user's variable of that name is left out.
const OWN_VARIABLES: [&str; 2] = ["QWEX_RUN_ID", "QWEX_ATTEMPT"];

/// Why an attempt cannot become a Job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("a run on Kubernetes needs a container image")]
    NoImage,
    #[error("the command is empty")]
    NoCommand,
    #[error("the secret reference {reference:?} of {variable} must be `secret` or `secret/key`")]
    BadSecret { variable: String, reference: String },
}

/// The Job of one attempt in `namespace`. `run_as_user`: see [`crate::Tuning::run_as_user`].
pub fn job(work: &Work, namespace: &str, run_as_user: Option<i64>) -> Result<Job, ManifestError> {
    let spec = &work.spec;
    let mut labels = own_labels(work);
    let pod = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(work, run_as_user)?),
    };
    if let Some(queue) = &spec.queue {
        labels.insert(names::QUEUE.to_owned(), queue.to_string());
    }
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(work.object_name()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations(work)),
            ..ObjectMeta::default()
        },
        spec: Some(K8sJobSpec {
            backoff_limit: Some(0),
            parallelism: Some(1),
            completions: Some(1),
            active_deadline_seconds: spec.timeout.map(|timeout| clamp(timeout.as_secs_ceil())),
            suspend: spec.queue.as_ref().map(|_| true),
            template: pod,
            ..K8sJobSpec::default()
        }),
        status: None,
    })
}

fn clamp(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn own_labels(work: &Work) -> BTreeMap<String, String> {
    [
        (names::RUN_ID, work.run_id.to_string()),
        (names::ATTEMPT, work.attempt.to_string()),
        (names::PROJECT, work.project.to_string()),
        (names::MANAGED_BY, names::QWEX.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn annotations(work: &Work) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(names::SPEC_HASH.to_owned(), work.spec.hash())]);
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

fn pod_spec(work: &Work, run_as_user: Option<i64>) -> Result<PodSpec, ManifestError> {
    Ok(PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user,
            run_as_group: run_as_user,
            fs_group: run_as_user,
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(work)?],
        ..PodSpec::default()
    })
}

fn container(work: &Work) -> Result<Container, ManifestError> {
    let spec = &work.spec;
    if spec.command.is_empty() {
        return Err(ManifestError::NoCommand);
    }
    Ok(Container {
        name: names::CONTAINER.to_owned(),
        image: Some(spec.image.clone().ok_or(ManifestError::NoImage)?),
        image_pull_policy: Some(pull_policy(spec.pull_policy).to_owned()),
        command: Some(spec.command.iter().map(|word| literal(word)).collect()),
        working_dir: spec.working_dir.clone(),
        env: Some(env(work)?),
        resources: resources(spec),
        // `FallbackToLogsOnError` would copy log text into the pod's status and from there into SQL.
        termination_message_policy: Some("File".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
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

fn env(work: &Work) -> Result<Vec<EnvVar>, ManifestError> {
    let ours = [work.run_id.to_string(), work.attempt.to_string()];
    let users = work
        .spec
        .env
        .iter()
        .filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
        .map(|(name, value)| plain(name, literal(value)));
    let secrets = work
        .spec
        .secrets
        .iter()
        .filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
        .map(|(name, reference)| secret(name, reference));
    let own = OWN_VARIABLES
        .into_iter()
        .zip(ours)
        .map(|(name, value)| Ok(plain(name, value)));
    users.map(Ok).chain(secrets).chain(own).collect()
}

fn plain(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    }
}

/// `secret` or `secret/key`; the key defaults to the variable's name.
fn secret(variable: &str, reference: &str) -> Result<EnvVar, ManifestError> {
    let (name, key) = reference.split_once('/').unwrap_or((reference, variable));
    if name.is_empty() || key.is_empty() || key.contains('/') {
        return Err(ManifestError::BadSecret {
            variable: variable.to_owned(),
            reference: reference.to_owned(),
        });
    }
    Ok(EnvVar {
        name: variable.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: name.to_owned(),
                key: key.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    })
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
#[path = "manifest_tests.rs"]
mod tests;

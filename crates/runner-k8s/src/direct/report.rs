//! What was found on a cluster, in sentences, for `doctor`. Pure.

use qwex_runner::RunnerError;
use qwex_runner::backend::Probe;

use super::Word;
use crate::config::{Access, K8sConfig};
use crate::probe::{Check, ProbeReport};

pub(super) fn probe(config: &K8sConfig, found: &ProbeReport, may_exec: Check) -> Probe {
    let namespace = config.namespace.as_deref().unwrap_or("default");
    let queues: Vec<&str> = found
        .kueue
        .iter()
        .flat_map(|kueue| kueue.queues.iter().map(|queue| queue.name.as_str()))
        .collect();
    let kueue = match (&found.kueue, queues.as_slice()) {
        (None, _) => "no Kueue".to_owned(),
        (Some(kueue), []) => format!("Kueue {} without a LocalQueue", kueue.version),
        (Some(kueue), names) => format!("Kueue {} with {}", kueue.version, names.join(", ")),
    };
    let mut notes: Vec<String> = missing(found, namespace).into_iter().collect();
    let lacking = found.checks.iter().filter(|check| !check.ok && !check.required);
    notes.extend(lacking.map(|check| check.sentence.clone()));
    if !may_exec.ok {
        notes.push(may_exec.sentence);
    }
    if config.word == Word::Kueue {
        notes.extend(queue_trouble(config, found, &queues));
    }
    Probe {
        version: Some(found.version.clone()),
        detail: format!(
            "context {}, namespace {namespace}, {kueue} (by {})",
            config.address.as_deref().unwrap_or("none"),
            origin(config)
        ),
        notes,
        skew: None,
    }
}

/// All rights that are missing, in one sentence that can be handed to whoever grants them.
fn missing(found: &ProbeReport, namespace: &str) -> Option<String> {
    let lacking: Vec<&str> = found
        .checks
        .iter()
        .filter(|check| check.required && !check.ok)
        .map(|check| check.name.as_str())
        .collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "runs cannot be made: you may not {}; ask for a Role in namespace {namespace} with `jobs` (create, get, list, \
             watch, patch, delete), `pods` (get, list, watch) and `pods/log` (get), as in deploy/k8s/user.yaml of qwex",
            lacking.join(", ")
        )
    })
}

fn queue_trouble(config: &K8sConfig, found: &ProbeReport, queues: &[&str]) -> Option<String> {
    if found.kueue.is_none() {
        return Some("this cluster has no Kueue: use the backend k8s, or have Kueue installed".to_owned());
    }
    match (&config.queue, queues) {
        (Some(queue), _) if !queues.contains(&queue.as_str()) => Some(format!(
            "the LocalQueue {queue} is not in this namespace; it has: {}",
            list(queues)
        )),
        (None, [] | [_, _, ..]) => Some(format!(
            "name a LocalQueue with --queue or in the config; this namespace has: {}",
            list(queues)
        )),
        (Some(_), _) | (None, [_]) => None,
    }
}

fn list(queues: &[&str]) -> String {
    if queues.is_empty() {
        "none".to_owned()
    } else {
        queues.join(", ")
    }
}

fn origin(config: &K8sConfig) -> &str {
    match &config.access {
        Access::Own { origin, .. } => origin,
        Access::Kubeconfig { .. } => "a kubeconfig",
        Access::InCluster => "the pod's service account",
    }
}

/// The same error, with the way that led to it.
pub(super) fn unusable(config: &K8sConfig, error: RunnerError) -> RunnerError {
    let way = format!(
        " (context {} of {})",
        config.address.as_deref().unwrap_or("none"),
        origin(config)
    );
    let doubt = |message| format!("{message}{way}; is the cluster up, and the context the right one?");
    match error {
        RunnerError::NoConnection { message } => RunnerError::NoConnection {
            message: doubt(message),
        },
        RunnerError::Unreachable { message } => RunnerError::Unreachable {
            message: doubt(message),
        },
        // What says which right to ask for says enough.
        RunnerError::Unauthorized { message } if message.contains("; ask for ") => {
            RunnerError::Unauthorized {
                message: format!("{message}{way}"),
            }
        }
        RunnerError::Unauthorized { message } => RunnerError::Unauthorized {
            message: format!("{message}{way}; log in again, or ask for the right"),
        },
        other => other,
    }
}

/// The error of a submit, with the way that led to it where that is the user's own.
pub(crate) fn with_way(config: &K8sConfig, error: RunnerError) -> RunnerError {
    match config.access {
        Access::Own { .. } => unusable(config, error),
        Access::Kubeconfig { .. } | Access::InCluster => error,
    }
}

//! Label grammar, as Kubernetes has it: for labels of runs and for the labels a placement requires.

use std::collections::BTreeMap;

use super::{INVALID, MAX_LABELS, Problems, RESERVED, SpecProblem, TOO_LARGE, member, quoted};

/// Domains whose labels have a meaning to qwex, Kubernetes or Kueue. A run that could set them could
/// choose its own queue or hide from its own watcher.
const RESERVED_DOMAINS: [&str; 4] = ["qwex.dev", "kubernetes.io", "k8s.io", "x-k8s.io"];

/// Checks the labels of a run: Kubernetes grammar, at most 32, none of a reserved domain.
pub fn validate_labels(labels: &BTreeMap<String, String>) -> Result<(), Vec<SpecProblem>> {
    let mut problems = Problems::default();
    if labels.len() > MAX_LABELS {
        problems.add(
            TOO_LARGE,
            "/labels",
            format!(
                "the run has {} labels, the most is {MAX_LABELS}; remove some",
                labels.len()
            ),
        );
    }
    check_map("/labels", labels, &mut problems);
    for key in labels.keys() {
        if let Some(domain) = reserved_domain(key) {
            problems.add(
                RESERVED,
                member("/labels", key),
                format!(
                    "labels of {domain} belong to the system; choose a key without it, like {}",
                    quoted(key.rsplit('/').next().unwrap_or("team"))
                ),
            );
        }
    }
    problems.into_result()
}

pub(super) fn check_placement(require: &BTreeMap<String, String>, problems: &mut Problems) {
    check_map("/placement/require", require, problems);
}

fn check_map(map: &str, labels: &BTreeMap<String, String>, problems: &mut Problems) {
    for (key, value) in labels {
        let pointer = member(map, key);
        if !is_key(key) {
            problems.add(
                INVALID,
                pointer.as_str(),
                format!(
                    "{} is not a label key; use at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit, with an optional domain and `/` before",
                    quoted(key)
                ),
            );
        }
        if !value.is_empty() && !is_name(value) {
            problems.add(
                INVALID,
                pointer,
                format!(
                    "{} is not a label value; use at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit, or nothing",
                    quoted(value)
                ),
            );
        }
    }
}

fn reserved_domain(key: &str) -> Option<&'static str> {
    let (prefix, _) = key.split_once('/')?;
    RESERVED_DOMAINS.into_iter().find(|domain| {
        prefix
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

/// The name part of a key, or a value that is not empty.
fn is_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.chars().all(|c| edge(c) || "-_.".contains(c))
        && text.starts_with(edge)
        && text.ends_with(edge)
}

/// A DNS subdomain (RFC 1123): labels of lower-case letters, digits and `-`, joined by dots.
fn is_subdomain(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            label.chars().all(|c| edge(c) || c == '-') && label.starts_with(edge) && label.ends_with(edge)
        })
}

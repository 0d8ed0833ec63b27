//! Finds members of a spec's JSON that no field reads. Reading a [`JobSpec`](crate::JobSpec) skips them, so
//! that old clients read new servers; whoever takes a spec from a user calls this first, so that a
//! misspelt field is an error and not silence.

use serde_json::{Map, Value};

use super::{Problems, SpecProblem, UNKNOWN, member, quoted};

const SPEC: [&str; 20] = [
    "command",
    "image",
    "env",
    "secrets",
    "working_dir",
    "resources",
    "timeout",
    "retry",
    "queue",
    "priority_class",
    "cluster",
    "placement",
    "pull_policy",
    "mounts",
    "network",
    "ports",
    "user",
    "ulimits",
    "service_account",
    "outputs",
];
const PARTS: [(&str, &[&str]); 3] = [
    ("resources", &["cpu", "memory", "gpu", "pids"]),
    ("retry", &["limit", "on", "backoff"]),
    ("placement", &["require"]),
];

/// Members of a spec's JSON that qwex does not know, nested ones included, at most 50, each with the name
/// that was perhaps meant. `also` names members that the caller reads beside the spec. A value that is no
/// object has none; reading it tells what is wrong.
#[must_use]
pub fn unknown_fields(spec: &Value, also: &[&str]) -> Vec<SpecProblem> {
    let mut problems = Problems::default();
    let Value::Object(members) = spec else {
        return problems.0;
    };
    let known: Vec<&str> = SPEC.iter().chain(also).copied().collect();
    check("", members, &known, &mut problems);
    for (part, known) in PARTS {
        if let Some(Value::Object(members)) = members.get(part) {
            check(&format!("/{part}"), members, known, &mut problems);
        }
    }
    problems.0
}

fn check(map: &str, members: &Map<String, Value>, known: &[&str], problems: &mut Problems) {
    for key in members.keys().filter(|key| !known.contains(&key.as_str())) {
        let help = match nearest(key, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        problems.add(
            UNKNOWN,
            member(map, key),
            format!("there is no field {}; {help}", quoted(key)),
        );
    }
}

/// The known name at most two edits away, else one that begins alike.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    if key.len() > 32 {
        return None;
    }
    let key = key.to_lowercase().replace('-', "_");
    let near = known
        .iter()
        .map(|name| (edits(&key, name), *name))
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .min();
    let begins_alike = || {
        known
            .iter()
            .find(|name| key.len() >= 3 && (key.starts_with(**name) || name.starts_with(key.as_str())))
            .copied()
    };
    near.map(|(_, name)| name).or_else(begins_alike)
}

/// Levenshtein distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replace = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

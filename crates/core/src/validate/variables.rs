//! Rules of environment variables and of the secrets behind them. Messages never repeat a value.

use std::collections::BTreeMap;

use super::{
    DUPLICATE, INVALID, MAX_ENV_BYTES, MAX_VARIABLE_BYTES, Problems, RESERVED, TOO_LARGE, member, quoted,
};

use crate::spec::secret_from_env;

/// Names of qwex's own variables (`QWEX_RUN_ID`, `QWEX_ATTEMPT`) begin so.
const OURS: &str = "QWEX_";

pub(super) fn check_env(env: &BTreeMap<String, String>, problems: &mut Problems) {
    for (name, value) in env {
        let pointer = member("/env", name);
        check_name(name, &pointer, problems);
        if value.contains('\0') {
            problems.add(
                INVALID,
                pointer.as_str(),
                "the value has a NUL byte, which no environment can hold; remove it or encode the value",
            );
        }
        let bytes = name.len() + value.len();
        if bytes > MAX_VARIABLE_BYTES {
            problems.add(
                TOO_LARGE,
                pointer,
                format!(
                    "this variable has {bytes} bytes, the most is {MAX_VARIABLE_BYTES}; pass large values as a file"
                ),
            );
        }
    }
    let total: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MAX_ENV_BYTES {
        problems.add(
            TOO_LARGE,
            "/env",
            format!(
                "the environment has {total} bytes, the most is {MAX_ENV_BYTES}; pass large values as files"
            ),
        );
    }
}

pub(super) fn check_secrets(
    secrets: &BTreeMap<String, String>,
    env: &BTreeMap<String, String>,
    problems: &mut Problems,
) {
    for (name, reference) in secrets {
        let pointer = member("/secrets", name);
        check_name(name, &pointer, problems);
        if env.contains_key(name) {
            problems.add(
                DUPLICATE,
                pointer.as_str(),
                format!("{} is set in `env` too; keep one of the two", quoted(name)),
            );
        }
        let known = match secret_from_env(reference) {
            Some(variable) => is_variable(variable),
            None => is_secret_reference(reference),
        };
        if !known {
            problems.add(
                INVALID,
                pointer,
                "this is not a reference to a secret; write the secret's name, or name/key, with a name of at most 63 lower-case letters, digits and `-`; or env:VARIABLE for one of your own environment",
            );
        }
    }
}

fn check_name(name: &str, pointer: &str, problems: &mut Problems) {
    if !is_variable(name) {
        problems.add(
            INVALID,
            pointer,
            format!(
                "{} cannot name an environment variable; use letters, digits and `_`, no digit first",
                quoted(name)
            ),
        );
    } else if name.starts_with(OURS) {
        problems.add(
            RESERVED,
            pointer,
            format!(
                "{} begins with {OURS}, which qwex keeps for its own variables; choose another name",
                quoted(name)
            ),
        );
    }
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name` or `name/key`: the name a DNS label, the key as Kubernetes allows it.
fn is_secret_reference(reference: &str) -> bool {
    let (name, key) = match reference.split_once('/') {
        Some((name, key)) => (name, Some(key)),
        None => (reference, None),
    };
    is_dns_label(name) && key.is_none_or(is_secret_key)
}

fn is_dns_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.chars().all(|c| edge(c) || c == '-')
        && text.starts_with(edge)
        && text.ends_with(edge)
}

fn is_secret_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && key != "."
        && key != ".."
}

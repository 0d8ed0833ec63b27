//! What a run executes: the [`JobSpec`]. Its rules are in [`crate::validate`].
//!
//! Reading is lenient, so that an older client reads what a newer server wrote: unknown fields are
//! skipped here, and refused where requests come in, by [`crate::validate::unknown_fields`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::duration::Span;
use crate::names::{ClusterName, QueueName};
use crate::resources::Resources;
use crate::status::{FailureCode, word_enum};

/// A command and all it needs. The same on every backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobSpec {
    /// Program and arguments, not given to a shell.
    pub command: Vec<String>,
    /// Container image; needed on every backend but local.
    #[serde(default)]
    pub image: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables by reference: variable to `secret` or `secret/key` (the key defaults to
    /// the variable's name). Values never pass through qwex.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Absolute path in which the command starts; `None`: the image's own.
    #[serde(default)]
    pub working_dir: Option<String>,
    #[serde(default)]
    pub resources: Resources,
    /// Longest time the command may run, over all episodes of an attempt.
    #[serde(default)]
    pub timeout: Option<Span>,
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Kueue LocalQueue.
    #[serde(default)]
    pub queue: Option<QueueName>,
    /// The only cluster that may take it; `None`: qwex chooses.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    #[serde(default)]
    pub placement: Placement,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

/// Which clusters may take a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Placement {
    /// Labels a cluster must have, with these values.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
}

word_enum!(
    /// When the image is pulled. Default: `if_not_present`.
    PullPolicy {
        Always = "always",
        IfNotPresent = "if_not_present",
        Never = "never",
    }
);

/// When a failed attempt is followed by another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RetryPolicy {
    /// Attempts after the first; 0 to 100.
    #[serde(default)]
    pub limit: u32,
    /// Failures worth another attempt. Empty: those of [`RetryPolicy::DEFAULT_ON`].
    #[serde(default)]
    pub on: Vec<RetryOn>,
}

/// A failure that a retry policy names.
pub type RetryOn = FailureCode;

impl RetryPolicy {
    /// What is retried when `on` is empty: whatever the same command may survive on another try.
    pub const DEFAULT_ON: &'static [FailureCode] = &[
        FailureCode::ExitCode,
        FailureCode::Signal,
        FailureCode::Oom,
        FailureCode::Evicted,
        FailureCode::Preempted,
        FailureCode::NodeLost,
    ];

    /// Whether `attempts` tries, the last of which failed with `code`, are followed by another. Never
    /// after a loss: what is lost may still be executing.
    #[must_use]
    pub fn allows(&self, attempts: u32, code: FailureCode) -> bool {
        let on = if self.on.is_empty() {
            Self::DEFAULT_ON
        } else {
            &self.on
        };
        attempts <= self.limit && code != FailureCode::Lost && on.contains(&code)
    }
}

impl JobSpec {
    /// A spec that only has a command: what tests and examples start from.
    #[must_use]
    pub fn for_command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// SHA-256 of the canonical JSON of the spec, lower-case hex.
    ///
    /// It is stored as an annotation of every Kubernetes Job and compared when a submit finds its object
    /// there already (same hash: adopt, other hash: refuse), and it tells a repeated submit from a
    /// changed one. So the hash of a given spec must be the same in every version of qwex. Canonical
    /// means: keys sorted, and nothing that is null or an empty map or list, so that a field added by a
    /// later version leaves the hash of every spec without it alone.
    #[must_use]
    pub fn hash(&self) -> String {
        let json = serde_json::to_value(self).expect("a spec of strings and numbers serialises");
        let mut canonical = String::new();
        write_canonical(&json, &mut canonical);
        hex::encode(Sha256::digest(canonical))
    }
}

/// Writes JSON with sorted keys, without members that are null or an empty object or array.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let kept: BTreeMap<&String, &Value> =
                members.iter().filter(|(_, value)| !is_blank(value)).collect();
            out.push('{');
            for (index, (key, value)) in kept.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().all(is_blank),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

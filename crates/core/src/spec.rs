//! What a run executes: the [`JobSpec`] and every rule it must keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
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
    #[serde(default)]
    pub pull_policy: Option<PullPolicy>,
}

/// Which clusters may take a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
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

    /// Whether `attempts` tries, the last of which failed with `code`, are followed by another.
    #[must_use]
    pub fn allows(&self, attempts: u32, code: FailureCode) -> bool {
        let on = if self.on.is_empty() {
            Self::DEFAULT_ON
        } else {
            &self.on
        };
        attempts <= self.limit && on.contains(&code)
    }
}

/// One thing wrong with a spec, with the JSON pointer of the field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecProblem {
    /// JSON pointer (RFC 6901): `/env/FOO`.
    pub pointer: String,
    /// Stable word: `required`, `too_long`, `invalid`…
    pub code: &'static str,
    /// What is wrong and how to mend it.
    pub detail: String,
}

impl JobSpec {
    /// SHA-256 of the canonical JSON of the spec (fields in order, maps sorted), lower-case hex.
    #[must_use]
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a spec of strings and numbers serialises");
        hex::encode(Sha256::digest(json))
    }
}

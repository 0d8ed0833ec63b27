//! What a run executes: the [`JobSpec`]. Its rules are in [`crate::validate`].
//!
//! Reading is lenient, so that an older client reads what a newer server wrote: unknown fields are
//! skipped here, and refused where requests come in, by [`crate::validate::unknown_fields`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::duration::Span;
use crate::ids::Attempt;
use crate::mount::Mount;
use crate::names::{ClusterName, PriorityClass, QueueName};
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
    /// the variable's name). Values never pass through the server; a run without one may also name `env:VARIABLE` of
    /// the caller's environment.
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
    /// Kueue WorkloadPriorityClass, for a run in a queue: who goes first, and who may be preempted by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<PriorityClass>,
    /// The only cluster that may take it; `None`: qwex chooses.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    #[serde(default)]
    pub placement: Placement,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Container network: `none`, `bridge`, `host` or the name of one; engines only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Published ports, `[address:]port:port[/udp]`; engines only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Who the command runs as inside: `uid[:gid]`, or a name that the image knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Limits of the process by the names of `ulimit`: `nofile` to `1024` or `1024:2048` (soft, hard).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, String>,
    /// Kubernetes service account, where the backend's policy allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Globs below the workspace: files brought back after the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
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
    /// The pauses between attempts. Default: 5 s, doubled each time, at most 5 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// Exponential pauses: `initial`, then `factor` times the last one, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Backoff {
    #[serde(default = "Backoff::default_initial")]
    pub initial: Span,
    /// 1 to 10.
    #[serde(default = "Backoff::default_factor")]
    pub factor: u32,
    #[serde(default = "Backoff::default_max")]
    pub max: Span,
}

impl Backoff {
    fn default_initial() -> Span {
        Span::from_secs(5)
    }

    fn default_factor() -> u32 {
        2
    }

    fn default_max() -> Span {
        Span::from_secs(300)
    }

    /// The pause after the attempt `failed`.
    #[must_use]
    pub fn pause(&self, failed: Attempt) -> Duration {
        let times = failed.0.saturating_sub(1);
        let factor = self.factor.max(1).saturating_pow(times);
        self.initial
            .as_duration()
            .saturating_mul(factor)
            .min(self.max.as_duration())
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Self::default_initial(),
            factor: Self::default_factor(),
            max: Self::default_max(),
        }
    }
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

    /// The pause between the attempt `failed` and the next one.
    #[must_use]
    pub fn pause(&self, failed: Attempt) -> Duration {
        self.backoff.unwrap_or_default().pause(failed)
    }

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

/// The variable of the caller's environment that a reference in [`JobSpec::secrets`] names, where it names one.
#[must_use]
pub fn secret_from_env(reference: &str) -> Option<&str> {
    reference.strip_prefix("env:")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A spec with every field set.
    fn full() -> JobSpec {
        serde_json::from_str(
            r#"{"command": ["python", "train.py"], "image": "python:3.12-slim", "env": {"LOG_LEVEL": "info"},
                "secrets": {"HF_TOKEN": "hf"}, "working_dir": "/workspace",
                "resources": {"cpu": "2", "memory": "4Gi", "gpu": 1}, "timeout": "1h",
                "retry": {"limit": 2, "on": ["evicted", "node_lost"]}, "queue": "gpu-queue", "cluster": "alpha",
                "placement": {"require": {"gpu": "a100"}}, "pull_policy": "always"}"#,
        )
        .unwrap()
    }

    fn canonical(spec: &JobSpec) -> String {
        let mut text = String::new();
        write_canonical(&serde_json::to_value(spec).unwrap(), &mut text);
        text
    }

    /// Jobs on clusters carry these hashes. If this test fails, the new version refuses the Jobs that the
    /// old one made: change the code, not the values.
    #[test]
    fn hashes_never_change() {
        assert_eq!(
            canonical(&JobSpec::for_command(["echo", "hi"])),
            r#"{"command":["echo","hi"],"retry":{"limit":0}}"#
        );
        assert_eq!(
            JobSpec::for_command(["echo", "hi"]).hash(),
            "d666947fb66dc61bf024dfdd44fc92e78bba1e2d77f8c3c23f7f7d7385e06da7"
        );
        assert_eq!(
            canonical(&full()),
            concat!(
                r#"{"cluster":"alpha","command":["python","train.py"],"env":{"LOG_LEVEL":"info"},"#,
                r#""image":"python:3.12-slim","placement":{"require":{"gpu":"a100"}},"pull_policy":"always","#,
                r#""queue":"gpu-queue","resources":{"cpu":"2","gpu":1,"memory":"4Gi"},"#,
                r#""retry":{"limit":2,"on":["evicted","node_lost"]},"secrets":{"HF_TOKEN":"hf"},"#,
                r#""timeout":"1h","working_dir":"/workspace"}"#
            )
        );
        assert_eq!(
            full().hash(),
            "26f65fad06c0199278133ce504f17ad6628f16c1d641ec996ebd7951de031740"
        );
    }

    #[test]
    fn a_new_empty_field_leaves_the_hash_alone() {
        let mut json = serde_json::to_value(JobSpec::for_command(["true"])).unwrap();
        let mut before = String::new();
        write_canonical(&json, &mut before);
        for (name, value) in [
            ("tomorrow", serde_json::json!(null)),
            ("mounts", serde_json::json!([])),
            ("network", serde_json::json!({"ports": []})),
        ] {
            json[name] = value;
        }
        let mut after = String::new();
        write_canonical(&json, &mut after);
        assert_eq!(before, after);
    }

    #[test]
    fn every_difference_is_another_hash() {
        let spec = JobSpec::for_command(["echo", "a", ""]);
        let mut others = vec![
            JobSpec::for_command(["echo", "a"]),
            JobSpec::for_command(["echo", "a", "", ""]),
            JobSpec::for_command(["echo", "", "a"]),
        ];
        let with_env = |key: &str, value: &str| {
            let mut other = spec.clone();
            other.env.insert(key.to_owned(), value.to_owned());
            other
        };
        others.extend([with_env("A", ""), with_env("A", "null"), with_env("B", "")]);
        let mut hashes: Vec<String> = others.iter().map(JobSpec::hash).collect();
        hashes.push(spec.hash());
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 7);
    }

    #[test]
    fn reads_what_it_writes_and_skips_what_it_does_not_know() {
        let mut json = serde_json::to_value(full()).unwrap();
        assert_eq!(serde_json::from_value::<JobSpec>(json.clone()).unwrap(), full());
        json["tomorrow"] = serde_json::json!(1);
        json["resources"]["tpu"] = serde_json::json!(4);
        json["placement"]["prefer"] = serde_json::json!({});
        json["retry"]["pause"] = serde_json::json!("1m");
        assert_eq!(serde_json::from_value::<JobSpec>(json).unwrap(), full());
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let policy = RetryPolicy::default();
        let seconds: Vec<u64> = [1, 2, 3, 6, 7, 1000]
            .map(|attempt| policy.pause(Attempt(attempt)).as_secs())
            .to_vec();
        assert_eq!(seconds, [5, 10, 20, 160, 300, 300]);
        let even: Backoff = serde_json::from_str(r#"{"initial": "1s", "factor": 1}"#).unwrap();
        assert_eq!(even.pause(Attempt(9)), Duration::from_secs(1));
    }

    #[test]
    fn retries_what_may_go_better() {
        let policy = RetryPolicy {
            limit: 2,
            ..RetryPolicy::default()
        };
        assert!(policy.allows(1, FailureCode::Evicted));
        assert!(policy.allows(2, FailureCode::ExitCode));
        assert!(
            !policy.allows(3, FailureCode::ExitCode),
            "two retries are three attempts"
        );
        assert!(!policy.allows(1, FailureCode::Image));
        let only = RetryPolicy {
            limit: 2,
            on: vec![FailureCode::Image, FailureCode::Lost],
            backoff: None,
        };
        assert!(only.allows(1, FailureCode::Image));
        assert!(!only.allows(1, FailureCode::Evicted));
        assert!(!only.allows(1, FailureCode::Lost), "it may still be executing");
        assert!(!RetryPolicy::default().allows(1, FailureCode::Evicted));
    }
}

//! The run record: the same JSON in the API, in `.qwex/runs/<id>/run.json` and behind webhooks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, ObjectUid, RunId};
use crate::names::{ClusterName, Project, RunName};
use crate::provenance::{Imported, Provenance, Usage};
use crate::spec::JobSpec;
use crate::status::{Failure, Flags, Pending, RunStatus, word_enum};
use crate::transition::RunState;

/// One execution of a [`JobSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Run {
    pub id: RunId,
    #[serde(default)]
    pub name: Option<RunName>,
    pub project: Project,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub status: RunStatus,
    /// Set only while the status is pending.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// Set only when the status is failed.
    #[serde(default)]
    pub failure: Option<Failure>,
    pub spec: JobSpec,
    /// Set once the run was handed to a backend.
    #[serde(default)]
    pub backend: Option<BackendInfo>,
    pub attempt: Attempt,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub flags: Flags,
    /// Set last, when the log archive is sealed.
    #[serde(default)]
    pub logs: Option<LogSummary>,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub dispatched_at: Option<Timestamp>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub finished_at: Option<Timestamp>,
    /// Who submitted it: `token:<name>` or `local:<user>`.
    pub created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Of the last attempt, set after its end where the backend counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The run ended elsewhere and was brought to the server that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

impl Run {
    /// The part of the record which observations move. `round` is not in the record: its keeper stores it
    /// beside (it is 0 wherever no queue takes runs back).
    #[must_use]
    pub fn state(&self, round: u64) -> RunState {
        RunState {
            status: self.status,
            pending: self.pending.clone(),
            failure: self.failure.clone(),
            exit_code: self.exit_code,
            attempt: self.attempt,
            round,
            backend: self.backend.clone(),
            flags: self.flags.clone(),
            dispatched_at: self.dispatched_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            retry: self.spec.retry.clone(),
        }
    }

    /// Takes over a state that [`next`](crate::transition::next) made. The retry policy stays the spec's; the
    /// round is for the caller to store.
    pub fn set_state(&mut self, state: RunState) {
        let RunState {
            status,
            pending,
            failure,
            exit_code,
            attempt,
            round: _,
            backend,
            flags,
            dispatched_at,
            started_at,
            finished_at,
            retry: _,
        } = state;
        self.status = status;
        self.pending = pending;
        self.failure = failure;
        self.exit_code = exit_code;
        self.attempt = attempt;
        self.backend = backend;
        self.flags = flags;
        self.dispatched_at = dispatched_at;
        self.started_at = started_at;
        self.finished_at = finished_at;
    }

    /// What makes two records of one id records of different executions: `spec`, `end` or `log`. `None`: both tell of
    /// the same one, whoever keeps them. Times count to the microsecond, as a server keeps them.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.spec.hash() != other.spec.hash() {
            return Some("spec");
        }
        if self.end() != other.end() {
            return Some("end");
        }
        let log = |run: &Self| run.logs.as_ref().map(|logs| (logs.bytes, logs.sha256.clone()));
        (log(self) != log(other)).then_some("log")
    }

    fn end(&self) -> impl PartialEq + use<> {
        let failure = self
            .failure
            .as_ref()
            .map(|failure| (failure.code, failure.exit_code, failure.signal));
        let micros = self.finished_at.map(Timestamp::as_microsecond);
        (self.status, self.attempt, self.exit_code, failure, micros)
    }
}

word_enum!(
    /// The kind of backend that executes a run.
    BackendKind {
        Local = "local",
        Docker = "docker",
        Podman = "podman",
        Ssh = "ssh",
        K8s = "k8s",
    } Unknown
);

/// Where an attempt was handed to, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BackendInfo {
    pub kind: BackendKind,
    /// The registered cluster; `None` for a run without a server.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    /// What it was reached by, for a run without a server: SSH host, kubeconfig context, engine address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default)]
    pub namespace: Option<String>,
    /// Name of the object: `qwex-<run id>-a<attempt>`.
    pub object: String,
    #[serde(default)]
    pub uid: Option<ObjectUid>,
}

word_enum!(
    /// Whether a stored log is whole.
    LogVerdict {
        /// Every byte that the command wrote is stored.
        Complete = "complete",
        /// Bytes are missing; the message of the stream says from when to when.
        Gap = "gap",
        /// The quota was reached: head and tail are kept.
        Truncated = "truncated",
    } Unknown
);

/// The sealed log of a run over all its streams, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogSummary {
    pub verdict: LogVerdict,
    /// Raw bytes.
    pub bytes: u64,
    /// Lines, a last one without newline included.
    pub lines: u64,
    /// SHA-256 of all raw bytes, lower-case hex.
    pub sha256: String,
}

#[cfg(test)]
mod tests;

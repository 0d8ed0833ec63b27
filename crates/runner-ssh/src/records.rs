//! The files of an attempt on a host: small JSON, each written once by one writer. Both supervisors keep
//! them; the names and fields are those of a supervisor on a person's own machine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qwex_core::{Attempt, RunId};
use qwex_runner::supervised;
use serde::{Deserialize, Serialize};

/// `work.json`: what to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkRecord {
    pub run_id: RunId,
    pub attempt: Attempt,
    /// Of the whole spec: the same attempt with another spec is refused.
    pub spec_hash: String,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub working_dir: String,
    pub timeout_ms: Option<u64>,
    pub grace_ms: u64,
    pub output: String,
    pub log_place: String,
    pub unused: Vec<String>,
    pub created_at: Timestamp,
}

/// `supervisor.json` and `start.json`: a process, as `<boot id>/<pid>/<start ticks>`.
pub type ProcessRecord = supervised::StartRecord<String>;

/// `end.json`.
pub type EndRecord = supervised::EndRecord<String>;

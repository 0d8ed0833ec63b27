//! The files of an attempt on a host: small JSON, each written once by one writer. Both supervisors keep
//! them; the names and fields are those of a supervisor on a person's own machine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qwex_core::{Attempt, RunId};
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProcessRecord {
    pub process: String,
    pub started_at: Timestamp,
}

/// `end.json`: how it ended. Exit code and signal are what the kernel said, apart from the cause.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EndRecord {
    pub cause: EndCause,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub message: String,
    pub start: Option<ProcessRecord>,
    pub ended_at: Timestamp,
    #[serde(default)]
    pub max_rss_bytes: Option<u64>,
    #[serde(default)]
    pub cpu_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The command ended by itself or by a signal that we did not send.
    Ended,
    StartError,
    TimedOut,
    OutOfMemory,
    Cancelled,
    /// The supervisor itself was told to stop, as at a shutdown.
    Stopped,
}

//! What lies in the directory of an attempt: small JSON files, each written once by one writer.
//!
//! | file | writer | says |
//! |---|---|---|
//! | `work.json` | submit | what to run |
//! | `supervisor.json` | the supervisor, before anything runs | who watches; its identity is the object's UID |
//! | `start.json` | the supervisor | which process runs the command |
//! | `cancel.json` | cancel | that somebody asked to stop |
//! | `end.json` | the supervisor | how it ended |
//! | `<stream>.emptied` | the supervisor | that the command emptied that log |
//! | `released` | release | that result and logs are stored elsewhere |

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use qwex_core::{Attempt, RunId};
use qwex_runner::Key;
use qwex_runner::durable::{Dir, Durability};
use qwex_runner::supervised;
pub use qwex_runner::supervised::EndCause;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::identity::{Life, Place, ProcessId};
use crate::layout::LogPlace;

pub const WORK: &str = "work.json";
pub const SUPERVISOR: &str = "supervisor.json";
pub const START: &str = "start.json";
pub const CANCEL: &str = "cancel.json";
pub const END: &str = "end.json";
pub const RELEASED: &str = "released";
/// What a supervisor has to say to people.
pub const NOTES: &str = "supervisor.log";
/// What is told of a log whose stream has a file of [`emptied`].
pub const EMPTIED: &str = "the command emptied its own log, as `> /dev/stderr` does: what it had written before is lost \
                           (`>> /dev/stderr` and `>&2` keep it)";
/// Held by whoever may start the command; taken at most once in the life of an attempt.
pub const LOCK: &str = "supervisor.lock";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRecord {
    pub run_id: RunId,
    pub attempt: Attempt,
    /// Of the whole spec: the same attempt with another spec is refused.
    pub spec_hash: String,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub working_dir: PathBuf,
    pub timeout_ms: Option<u64>,
    /// From TERM to KILL.
    pub grace_ms: u64,
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    #[serde(default)]
    pub cpu_millis: Option<u64>,
    pub output: OutputMode,
    pub log_place: LogPlace,
    /// What the spec names and a process of this machine does not get, for people.
    pub unused: Vec<String>,
    pub created_at: Timestamp,
}

/// Into which files the command writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// `stdout.log` and `stderr.log`.
    Split,
    /// `output.log` with both, as a container's log has it.
    Merged,
}

impl OutputMode {
    /// Names of the log streams; `<name>.log` is the file.
    #[must_use]
    pub fn streams(self) -> &'static [&'static str] {
        match self {
            Self::Split => &["stdout", "stderr"],
            Self::Merged => &["output"],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorRecord {
    pub process: ProcessId,
    pub started_at: Timestamp,
    /// The machine that it is on; none in records of earlier versions, which count as of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<String>,
    /// How the limits of the spec are kept, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

impl WorkRecord {
    /// What a cancel leaves in the place of an attempt that is not there: work without a command, which nobody submits.
    #[must_use]
    pub fn forestalled(key: Key, log_place: LogPlace, output: OutputMode) -> Self {
        Self {
            run_id: key.run_id,
            attempt: key.attempt,
            spec_hash: String::new(),
            command: Vec::new(),
            env: BTreeMap::new(),
            working_dir: PathBuf::from("/"),
            timeout_ms: None,
            grace_ms: 0,
            memory_bytes: None,
            cpu_millis: None,
            output,
            log_place,
            unused: Vec::new(),
            created_at: Timestamp::now(),
        }
    }

    #[must_use]
    pub fn is_forestalled(&self) -> bool {
        self.command.is_empty()
    }
}

impl SupervisorRecord {
    /// Of a process of this machine that begins now.
    #[must_use]
    pub fn now(process: ProcessId, limits: Vec<String>) -> Self {
        let place = Place::own().clone();
        Self {
            process,
            started_at: Timestamp::now(),
            machine: Some(place.machine),
            pid_namespace: place.pid_namespace,
            limits,
        }
    }

    /// What became of it, as far as that can be seen from here.
    #[must_use]
    pub fn life(&self) -> Life {
        match &self.machine {
            None => self.process.life(),
            Some(machine) => {
                let there = Place {
                    machine: machine.clone(),
                    pid_namespace: self.pid_namespace.clone(),
                };
                Place::own().life_of(&self.process, &there)
            }
        }
    }
}

/// Who runs the command.
pub type StartRecord = supervised::StartRecord<ProcessId>;

/// How it ended.
pub type EndRecord = supervised::EndRecord<ProcessId>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRecord {
    pub asked_at: Timestamp,
}

/// The empty file that says that the command emptied the log of this stream.
#[must_use]
pub fn emptied(stream: &str) -> String {
    format!("{stream}.emptied")
}

/// Reads a record that a command may have been started on. One that cannot be read is an error: taking
/// it for absent could start the command a second time.
pub fn read<T: DeserializeOwned>(dir: &Dir, name: &str) -> io::Result<Option<T>> {
    let Some(bytes) = dir.read(name)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let path = dir.path().join(name);
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged: {error}", path.display()),
        )
    })
}

/// Reads a record without which the attempt is only less known; a damaged one counts as absent.
pub fn read_or_absent<T: DeserializeOwned>(dir: &Dir, name: &str) -> io::Result<Option<T>> {
    match read(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(%error, "a record counts as absent");
            Ok(None)
        }
        read => read,
    }
}

pub fn write<T: Serialize>(dir: &Dir, name: &str, record: &T, durability: Durability) -> io::Result<()> {
    dir.write(name, &bytes_of(record)?, durability)
}

pub fn bytes_of<T: Serialize>(record: &T) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes)
}

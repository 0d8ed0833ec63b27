//! What a watcher may say: facts seen on a backend. Never an opinion on run state; that is
//! [`crate::transition::next`]'s.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, EpisodeId, ObjectUid, RunId};
use crate::run::BackendInfo;
use crate::status::{Failure, PendingCode};

/// One fact about one attempt of a run. Observations may come twice, late or out of order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub run_id: RunId,
    pub attempt: Attempt,
    /// Identity of the object the fact is about; `None` for facts that need no object (cancel request,
    /// queueing and refusal before an object exists, reachability). Once the attempt is pinned to a UID,
    /// a start or an end without one is refused; `Gone` is refused without one at any time.
    pub uid: Option<ObjectUid>,
    /// When it happened by the backend's clock, else when it was seen. Shown, never compared.
    pub at: Timestamp,
    pub fact: Fact,
}

impl Observation {
    /// UID of the object the fact is about; for a dispatch the one it pins.
    #[must_use]
    pub fn object_uid(&self) -> Option<&ObjectUid> {
        match &self.fact {
            Fact::Dispatched { backend } => backend.uid.as_ref().or(self.uid.as_ref()),
            Fact::Waiting { .. }
            | Fact::Running { .. }
            | Fact::EpisodeStarted { .. }
            | Fact::EpisodeEnded { .. }
            | Fact::DuplicateStart { .. }
            | Fact::Ended { .. }
            | Fact::Gone { .. }
            | Fact::CancelRequested { .. }
            | Fact::Unreachable { .. }
            | Fact::Reachable
            | Fact::LogsIncomplete { .. } => self.uid.as_ref(),
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fact")]
pub enum Fact {
    /// The dispatcher handed the attempt to a backend, or adopted the object it found there. Pins the
    /// UID inside `backend`.
    Dispatched { backend: BackendInfo },
    /// The run waits. `round` grows each time a queue takes a run back (see [`Fact::Running`]).
    Waiting {
        code: PendingCode,
        message: String,
        round: u64,
    },
    /// The command runs. `round` is 0 on backends that never take a run back; on Kubernetes it is the
    /// Unix second of the Job's last `Suspended` transition, which only ever grows for one Job.
    Running { round: u64 },
    /// A pod, container or process of the attempt exists and its command began.
    EpisodeStarted {
        episode: EpisodeId,
        node: Option<String>,
    },
    /// It ended.
    EpisodeEnded { episode: EpisodeId, end: EpisodeEnd },
    /// Two episodes of one attempt ran at the same time.
    DuplicateStart { episodes: Vec<EpisodeId> },
    /// The attempt is over, by the backend's own verdict.
    Ended {
        ending: Ending,
        started_at: Option<Timestamp>,
    },
    /// The pinned object is proven absent and left no verdict.
    Gone { message: String },
    /// Somebody asked to cancel the run.
    CancelRequested { by: String },
    /// The backend cannot be seen. Says nothing about the run.
    Unreachable { message: String },
    /// The backend can be seen again.
    Reachable,
    /// The log archive of the run is sealed with less than every byte.
    LogsIncomplete { message: String },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ending")]
pub enum Ending {
    /// Exit code 0. `verified` is false when the verdict came without the exit code itself.
    Succeeded {
        verified: bool,
    },
    Failed {
        failure: Failure,
    },
    /// It ended because it was stopped from outside; by us if a cancel was requested.
    Stopped {
        message: String,
        exit_code: Option<i32>,
        signal: Option<i32>,
    },
}

/// How one episode ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeEnd {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// The backend's word: `Completed`, `OOMKilled`, `Evicted`…
    pub reason: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

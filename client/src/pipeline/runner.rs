//! What a pipeline asks of whoever executes runs. Implemented by `commands`, over the backends of this machine and the
//! server.

use std::collections::BTreeMap;

use async_trait::async_trait;
use qwex_core::{JobSpec, Run, RunId, RunName};
use qwex_runner::Transfer;

use super::artifacts::Brought;

/// A run to be handed over.
#[derive(Debug, Clone)]
pub struct StageRun {
    pub id: RunId,
    pub name: RunName,
    pub labels: BTreeMap<String, String>,
    /// The word of `--backend`.
    pub backend: String,
    /// Machine of the backend ssh, by the user's name for it.
    pub host: Option<String>,
    /// What its command is run through, for the record.
    pub runs_by: Option<String>,
    pub spec: JobSpec,
    /// What of the project's directory goes over.
    pub send: Transfer,
}

/// A run that is over.
#[derive(Debug, Clone)]
pub struct Over {
    pub run: Run,
    /// What was brought from where it worked; `None`: it worked in the project's directory.
    pub brought: Option<Brought>,
}

/// What came of waiting for a run for a while.
#[derive(Debug, Clone)]
pub enum Waited {
    Over(Box<Over>),
    /// It is not over. Why it does not run yet, or cannot be seen, where that is so.
    On {
        held_up: Option<String>,
    },
}

/// Why a run could not be handed over, looked at or stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// Nothing is known about the run; it may work later, perhaps only once somebody mends something.
    #[error("{message}")]
    Unreachable { message: String },
    /// It will never work, and did nothing.
    #[error("{message}")]
    Refused { message: String },
    /// It is over, and what it made is there and did not come: somebody may bring it yet.
    #[error("{message}")]
    Unbrought { message: String },
    /// Nobody has the run.
    #[error("{message}")]
    Absent { message: String },
}

/// Executes stages. Whoever cannot look at a run says [`StageError::Unreachable`], whatever the reason: blind is not dead.
#[async_trait(?Send)]
pub trait StageRunner {
    /// Hands a run over and returns. A repeat with the same id and spec is the same run. Refused: this try surely started
    /// nothing.
    async fn submit(&self, run: &StageRun) -> Result<(), StageError>;

    /// Whether a run was handed over: somebody has it and sees to it, or saw its end.
    async fn has(&self, backend: &str, id: RunId) -> Result<bool, StageError>;

    /// Returns when the run is over, its log stored and its outputs in the project's directory; from time to time also
    /// before, so that it is known that somebody answers. Refused: it is over, and what it made is lost.
    async fn wait(&self, backend: &str, id: RunId) -> Result<Waited, StageError>;

    /// Has what a run made and did not come asked for once more, if it is over: the wait tells what came of that.
    async fn ask_again(&self, backend: &str, id: RunId) -> Result<(), StageError>;

    /// Asks it to stop; asking twice is asking once. Absent: nobody has it.
    async fn cancel(&self, backend: &str, id: RunId) -> Result<(), StageError>;
}

//! What a pipeline asks of whoever executes runs. Implemented by `commands`, over the backends of this machine and the
//! server.

use std::collections::BTreeMap;

use async_trait::async_trait;
use qwex_core::{JobSpec, Run, RunId, RunName};
use qwex_runner::Transfer;

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

/// Why a run could not be handed over or looked at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// It may work later; nothing is known about the run.
    #[error("{message}")]
    Unreachable { message: String },
    /// It will never work.
    #[error("{message}")]
    Refused { message: String },
}

/// Executes stages.
#[async_trait(?Send)]
pub trait StageRunner {
    /// Hands a run over and returns. A repeat with the same id and spec is the same run.
    async fn submit(&self, run: &StageRun) -> Result<Run, StageError>;

    /// A run that was handed over, as it is now; `None`: nobody has it.
    async fn find(&self, backend: &str, id: RunId) -> Result<Option<Run>, StageError>;

    /// Returns when the run is over, its log stored and its outputs in the project's directory.
    async fn wait(&self, backend: &str, id: RunId) -> Result<Run, StageError>;

    /// Asks it to stop; asking twice is asking once.
    async fn cancel(&self, backend: &str, id: RunId) -> Result<(), StageError>;
}

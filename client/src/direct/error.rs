//! How a run without a server may fail to be started, read or stopped.

use qwex_core::RunId;
use qwex_runner::{RunnerError, StoreError};

use super::keeper::Unkept;

#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// A context, for instance, that is named and is not there.
    #[error("the kubeconfig has no {missing}; it has: {known}")]
    NotInKubeconfig { missing: String, known: String },
    /// A server told other things of a run than it gave.
    #[error("what came is not the whole run: {0}")]
    Told(String),
    /// A run that has no keeper and gets none.
    #[error("run {id} is not kept: {why}")]
    Unkept { id: RunId, why: Unkept },
    /// Its outputs are still on its backend, or its keeper is at work on it.
    #[error("run {id} is over, but {why}")]
    Unstored { id: RunId, why: String },
    /// A run of this machine that was cancelled, and whose supervisor has not ended it yet.
    #[error("run {id} is cancelled, but has not ended yet")]
    Stopping { id: RunId },
    /// No mark can be made.
    #[error("there is no place for the key that marks runs as yours: {source}")]
    Key { source: std::io::Error },
    /// What the run wrote cannot be shown.
    #[error("cannot show the output: {source}")]
    Output { source: std::io::Error },
    /// The process cannot find itself or its directory.
    #[error("cannot find {what}: {source}")]
    Surroundings {
        what: &'static str,
        source: std::io::Error,
    },
}

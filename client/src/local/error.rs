//! How a run without a server may fail to be started, read or stopped.

use qwex_runner::{RunnerError, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The process cannot find itself or its directory.
    #[error("cannot find {what}: {source}")]
    Surroundings {
        what: &'static str,
        source: std::io::Error,
    },
}

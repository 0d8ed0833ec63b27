//! Why the service refuses, told apart by what the asker can do about it.

use qwex_core::{RunId, RunStatus, SpecProblem};

use crate::db::DbError;
use crate::recorder::RecordError;

/// An error of the service `Runs`. `http` turns each into one problem document.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    #[error("the run is not valid")]
    Invalid(Vec<SpecProblem>),
    /// No such run, or one of a project that the asker may not see.
    #[error("there is no run {0}")]
    NotFound(RunId),
    #[error("there is no project {0}")]
    NoProject(String),
    /// The id exists with another spec, or in another project.
    #[error("the id {0} belongs to another run")]
    IdTaken(RunId),
    /// The id exists in the asker's own project, and what is told of it differs.
    #[error("the run {id} is recorded with another {what}")]
    Differs { id: RunId, what: &'static str },
    #[error("this idempotency key was used with another body")]
    KeyMismatch,
    #[error("the run has changed: it is at version {found}")]
    Changed { found: i64 },
    #[error("the run is {status}")]
    WrongState { status: RunStatus },
    #[error("failed to reach the database")]
    Database(#[from] DbError),
    #[error("failed to record")]
    Record(#[from] RecordError),
    /// Its log was so long on its way that it was removed from the archive.
    #[error("the log was given up on its way")]
    GivenUp,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl RunsError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Database(error) => error.is_passing(),
            Self::Record(error) => error.is_passing(),
            Self::Stopping => true,
            Self::Invalid(_)
            | Self::NotFound(_)
            | Self::NoProject(_)
            | Self::IdTaken(_)
            | Self::Differs { .. }
            | Self::KeyMismatch
            | Self::Changed { .. }
            | Self::GivenUp
            | Self::WrongState { .. } => false,
        }
    }
}

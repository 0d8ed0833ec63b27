//! How errors of the services leave the server.

use qwex_api::ErrorCode;

use qwex_api::FieldProblem;

use super::error::HttpError;
use crate::projects::ProjectsError;
use crate::runs::RunsError;

impl From<RunsError> for HttpError {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::Invalid(problems) => Self::fields(problems.into_iter().map(field).collect()),
            RunsError::NotFound(id) => Self::not_found(format!("run {id}")),
            RunsError::NoProject(project) => Self::not_found(format!("project {project}")),
            RunsError::IdTaken(id) => Self::new(
                ErrorCode::RunIdTaken,
                format!("the id {id} belongs to another run"),
            )
            .with_hint("mint a new UUIDv7 for another run; a repeat must have the same spec"),
            RunsError::KeyMismatch => Self::new(
                ErrorCode::IdempotencyMismatch,
                "this Idempotency-Key was used with another body",
            )
            .with_hint("use a new key for a new request"),
            RunsError::Changed { found } => Self::new(
                ErrorCode::PreconditionFailed,
                format!("the run has changed: its ETag is \"{found}\" now"),
            )
            .with_hint("read the run again and decide anew"),
            RunsError::WrongState { status } => {
                Self::new(ErrorCode::WrongState, format!("the run is {status}"))
            }
            RunsError::Database(_) | RunsError::Record(_) | RunsError::Stopping if error.is_passing() => {
                Self::unavailable(error)
            }
            RunsError::Database(_) | RunsError::Record(_) | RunsError::Stopping => Self::internal(error),
        }
    }
}

fn field(problem: qwex_core::SpecProblem) -> FieldProblem {
    FieldProblem {
        pointer: problem.pointer,
        code: problem.code.to_owned(),
        detail: problem.detail,
    }
}

impl From<ProjectsError> for HttpError {
    fn from(error: ProjectsError) -> Self {
        match error {
            ProjectsError::NoProject(project) => Self::not_found(format!("project {project}")),
            ProjectsError::NoToken(id) => Self::not_found(format!("token {id}")),
            ProjectsError::ProjectExists(_) | ProjectsError::TokenExists { .. } => {
                Self::new(ErrorCode::AlreadyExists, error.to_string())
            }
            ProjectsError::TokenName(_) => Self::field("/name", "invalid", error.to_string()),
            ProjectsError::ExpiryTooFar => Self::field("/expires_in", "too_long", error.to_string()),
            ProjectsError::Db(cause) if cause.is_passing() => Self::unavailable(cause),
            ProjectsError::Db(cause) => Self::internal(cause),
        }
    }
}

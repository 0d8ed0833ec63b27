//! How errors of the services leave the server.

use qwex_api::ErrorCode;

use qwex_api::FieldProblem;

use super::error::HttpError;
use crate::clusters::ClustersError;
use crate::logs::LogsError;
use crate::projects::ProjectsError;
use crate::runs::RunsError;
use crate::webhooks::WebhooksError;

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
            RunsError::Differs { id, what } => Self::new(
                ErrorCode::RunIdTaken,
                format!("the run {id} is recorded here with another {what}"),
            )
            .with_hint("read both and compare; what is recorded here stays as it is"),
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
            RunsError::GivenUp => Self::new(
                ErrorCode::LogUnavailable,
                "the log was on its way for more than a day without a byte and was given up; nothing was recorded",
            )
            .with_hint("send the record again with its whole log"),
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

impl From<ClustersError> for HttpError {
    fn from(error: ClustersError) -> Self {
        match error {
            ClustersError::NotFound(name) => Self::not_found(format!("cluster {name}")),
            ClustersError::Exists(_) => Self::new(ErrorCode::AlreadyExists, error.to_string()),
            ClustersError::BadKubeconfig(_) => Self::field("/kubeconfig", "invalid", error.to_string()),
            ClustersError::CheckFailed(checks) => {
                let failed = checks.into_iter().filter(|check| !check.ok);
                failed.fold(
                    Self::new(
                        ErrorCode::ClusterCheckFailed,
                        "the cluster did not pass the checks; nothing was stored",
                    ),
                    |error, check| error.with_field("/kubeconfig", check.check, check.message),
                )
            }
            ClustersError::InUse { .. } => Self::new(ErrorCode::InUse, error.to_string())
                .with_hint("drain the cluster and wait for its runs, or cancel them"),
            ClustersError::Database(cause) if cause.is_passing() => Self::unavailable(cause),
            ClustersError::Database(cause) => Self::internal(cause),
        }
    }
}

impl From<WebhooksError> for HttpError {
    fn from(error: WebhooksError) -> Self {
        match error {
            WebhooksError::NotFound(_) | WebhooksError::NoDelivery(_) => {
                Self::new(ErrorCode::NotFound, error.to_string())
            }
            WebhooksError::Url(_) => Self::new(ErrorCode::EndpointRefused, error.to_string()).with_field(
                "/url",
                "refused",
                error.to_string(),
            ),
            WebhooksError::Event { .. } => Self::field("/events", "invalid", error.to_string()),
            WebhooksError::Description { .. } => Self::field("/description", "too_long", error.to_string()),
            WebhooksError::TooMany { .. } => Self::new(ErrorCode::InUse, error.to_string())
                .with_hint("remove a webhook that is not needed any more"),
            WebhooksError::Disabled => Self::new(ErrorCode::WrongState, error.to_string()),
            WebhooksError::Db(cause) if cause.is_passing() => Self::unavailable(cause),
            WebhooksError::Db(cause) => Self::internal(cause),
        }
    }
}

impl From<LogsError> for HttpError {
    fn from(error: LogsError) -> Self {
        match error {
            LogsError::Store(cause) => Self::new(
                ErrorCode::LogUnavailable,
                "the log archive does not give this log now",
            )
            .with_retry_after(5)
            .with_cause(cause),
            LogsError::Database(cause) if cause.is_passing() => Self::unavailable(cause),
            LogsError::Database(cause) => Self::internal(cause),
        }
    }
}

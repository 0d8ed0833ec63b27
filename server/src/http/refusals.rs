//! How errors of the services leave the server.

use qwex_api::ErrorCode;

use super::error::HttpError;
use crate::projects::ProjectsError;

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

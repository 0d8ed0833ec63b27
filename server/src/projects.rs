//! Projects and tokens as their owners see them: made, listed, revoked. Called by `http` and by the command line.

use jiff::Timestamp;
use qwex_api::project::ProjectInfo;
use qwex_api::token::{CreateToken, CreatedToken, TokenInfo};
use qwex_core::Project;
use sqlx::PgPool;

use crate::auth::{Auth, Principal, Scope, TokenText};
use crate::db::{DbError, project, token};

/// Most characters of a token's name.
const NAME_LENGTH: usize = 63;

/// Why a project or token was not made.
#[derive(Debug, thiserror::Error)]
pub enum ProjectsError {
    #[error("there is no project {0}, or the token may not see it")]
    NoProject(Project),
    #[error("a project {0} exists")]
    ProjectExists(Project),
    #[error("a live token named {name} exists in project {project}")]
    TokenExists { name: String, project: Project },
    #[error("the token name {0:?} is not valid: 1 to 63 letters, digits, `-`, `_` and `.`")]
    TokenName(String),
    #[error("there is no token {0}, or the token may not see it")]
    NoToken(String),
    #[error("the expiry lies beyond what can be stored")]
    ExpiryTooFar,
    #[error("failed to reach the tables of projects and tokens")]
    Db(#[from] DbError),
}

/// The service of projects and tokens.
#[derive(Clone)]
pub struct Projects {
    pool: PgPool,
    auth: Auth,
}

impl Projects {
    #[must_use]
    pub fn new(pool: PgPool, auth: Auth) -> Self {
        Self { pool, auth }
    }

    /// Projects in sight, by name, after `after`; at most `limit`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ProjectInfo>, ProjectsError> {
        let limit = i64::from(limit);
        Ok(project::list_projects(&self.pool, scope.project(), after, limit).await?)
    }

    /// # Errors
    /// The name is taken, or the database does not answer.
    pub async fn create(&self, by: &Principal, name: &Project) -> Result<ProjectInfo, ProjectsError> {
        let made = project::insert_project(&self.pool, name, &by.label()).await?;
        made.ok_or_else(|| ProjectsError::ProjectExists(name.clone()))
    }

    /// Tokens in sight, revoked ones too, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn list_tokens(&self, scope: &Scope) -> Result<Vec<TokenInfo>, ProjectsError> {
        Ok(token::list_tokens(&self.pool, scope.project()).await?)
    }

    /// Makes a token in the caller's project or, where it may enter it, in another.
    ///
    /// # Errors
    /// The project is out of sight, the name is bad or taken, or the database does not answer.
    pub async fn create_token(
        &self,
        by: &Principal,
        request: &CreateToken,
    ) -> Result<CreatedToken, ProjectsError> {
        let target = request.project.clone().unwrap_or_else(|| by.project.clone());
        if !by.may_enter(&target) {
            return Err(ProjectsError::NoProject(target));
        }
        self.issue(&target, request, &by.label()).await
    }

    /// Makes a token without asking who wants it: for the command line beside the database.
    ///
    /// # Errors
    /// As [`Projects::create_token`].
    pub async fn issue(
        &self,
        target: &Project,
        request: &CreateToken,
        created_by: &str,
    ) -> Result<CreatedToken, ProjectsError> {
        check_name(&request.name)?;
        if !project::project_exists(&self.pool, target).await? {
            return Err(ProjectsError::NoProject(target.clone()));
        }
        let expires_at = request
            .expires_in
            .map(|span| {
                Timestamp::now()
                    .checked_add(span.as_duration())
                    .map_err(|_| ProjectsError::ExpiryTooFar)
            })
            .transpose()?;
        let text = TokenText::mint();
        let hash = text.hash();
        let new = token::NewToken {
            id: text.id(),
            project: target,
            name: &request.name,
            role: request.role,
            secret_hash: hash.as_bytes(),
            created_by,
            expires_at,
        };
        match token::insert_token(&self.pool, &new).await {
            Ok(info) => Ok(CreatedToken {
                token: text.reveal().to_owned(),
                info,
            }),
            Err(error) if error.constraint() == Some("token_live_name") => Err(ProjectsError::TokenExists {
                name: request.name.clone(),
                project: target.clone(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Revokes a token; on this replica at once, on others within a second. Again: no change.
    ///
    /// # Errors
    /// There is none in sight, or the database does not answer.
    pub async fn revoke_token(&self, scope: &Scope, id: &str) -> Result<(), ProjectsError> {
        let found = token::revoke_token(&self.pool, scope.project(), id).await?;
        self.auth.forget(id);
        if found {
            Ok(())
        } else {
            Err(ProjectsError::NoToken(id.to_owned()))
        }
    }

    /// Revokes the live token of that name, if there is one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn revoke_named(&self, project: &Project, name: &str) -> Result<(), ProjectsError> {
        Ok(token::revoke_named(&self.pool, project, name).await?)
    }
}

fn check_name(name: &str) -> Result<(), ProjectsError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=NAME_LENGTH).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(ProjectsError::TokenName(name.chars().take(100).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_names() {
        for good in ["ci", "a", "team_1.nightly-2", &"x".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\0", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}

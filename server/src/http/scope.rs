//! Which projects a list shows: the caller's own unless it names another that it may enter.

use qwex_core::Project;
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::{HttpError, HttpResult};
use super::params::optional;
use crate::auth::{Principal, Scope};

/// Parameters of a list that has one page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProjectParams {
    /// Another project than the token's own; for admins of the project `default`
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    pub project: Option<Project>,
}

pub fn of_list(who: &Principal, asked: Option<Project>) -> HttpResult<Scope> {
    match asked {
        None => Ok(Scope::One(who.project.clone())),
        Some(project) if who.may_enter(&project) => Ok(Scope::One(project)),
        Some(project) => Err(HttpError::not_found(format!("project {project}"))),
    }
}

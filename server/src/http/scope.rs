//! Which projects a list shows: the caller's own unless it names another that it may enter.

use qwex_core::Project;

use super::error::{HttpError, HttpResult};
use crate::auth::{Principal, Scope};

pub fn of_list(who: &Principal, asked: Option<Project>) -> HttpResult<Scope> {
    match asked {
        None => Ok(Scope::One(who.project.clone())),
        Some(project) if who.may_enter(&project) => Ok(Scope::One(project)),
        Some(project) => Err(HttpError::not_found(format!("project {project}"))),
    }
}

//! The caller of a request, and the projects it may see.

use jiff::Timestamp;
use qwex_api::token::Role;
use qwex_core::Project;

/// The project whose admins manage clusters and projects and see every project.
const ROOT_PROJECT: &str = "default";

/// Who asks: a live token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub token_id: String,
    pub name: String,
    pub project: Project,
    pub role: Role,
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// `token:<name>`, as it is stored in `created_by`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("token:{}", self.name)
    }

    /// Whether it is an admin of the project `default`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.role == Role::Admin && self.project.as_str() == ROOT_PROJECT
    }

    /// The projects whose objects it may name by id.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.is_root() {
            Scope::All
        } else {
            Scope::One(self.project.clone())
        }
    }

    /// Whether it may see and, as its role allows, change objects of `project`.
    #[must_use]
    pub fn may_enter(&self, project: &Project) -> bool {
        self.scope().holds(project)
    }
}

/// The projects that a query may touch. Every statement that fetches a row of a project takes one into its WHERE:
/// `($n::text IS NULL OR project = $n)` bound to [`Scope::project`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    One(Project),
    /// Every project: admins of the project `default`, and the server itself.
    All,
}

impl Scope {
    /// The one project; `None` means every project.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::One(project) => Some(project.as_str()),
            Self::All => None,
        }
    }

    #[must_use]
    pub fn holds(&self, project: &Project) -> bool {
        match self {
            Self::One(own) => own == project,
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(project: &str, role: Role) -> Principal {
        Principal {
            token_id: "abcdefghij".to_owned(),
            name: "ci".to_owned(),
            project: project.parse().unwrap(),
            role,
            expires_at: None,
        }
    }

    #[test]
    fn only_an_admin_of_the_default_project_sees_every_project() {
        for role in Role::ALL {
            for project in ["default", "other"] {
                let root = *role == Role::Admin && project == "default";
                let scope = principal(project, *role).scope();
                assert_eq!(scope == Scope::All, root, "{role:?} of {project}");
                assert_eq!(scope.project(), (!root).then_some(project));
                assert_eq!(scope.holds(&"third".parse().unwrap()), root);
            }
        }
    }
}

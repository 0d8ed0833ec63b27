//! Projects.

use qwex_api::project::ProjectInfo;
use qwex_core::Project;
use sqlx::PgExecutor;

use super::{DbResult, Ts, read_name};

/// Stores a project; `None` when one of that name exists.
pub async fn insert_project(
    executor: impl PgExecutor<'_>,
    name: &Project,
    created_by: &str,
) -> DbResult<Option<ProjectInfo>> {
    let created_at = sqlx::query_scalar!(
        r#"
        INSERT INTO project (name, created_by) VALUES ($1, $2)
        ON CONFLICT (name) DO NOTHING RETURNING created_at AS "created_at: Ts"
        "#,
        name.as_str(),
        created_by,
    )
    .fetch_optional(executor)
    .await?;
    Ok(created_at.map(|at| ProjectInfo {
        name: name.clone(),
        created_at: at.to_jiff(),
        created_by: created_by.to_owned(),
    }))
}

/// The project of that name; `None` names all of them. By name, after `after`.
pub async fn list_projects(
    executor: impl PgExecutor<'_>,
    only: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> DbResult<Vec<ProjectInfo>> {
    let rows = sqlx::query!(
        r#"
        SELECT name, created_at AS "created_at: Ts", created_by FROM project
        WHERE ($1::text IS NULL OR name = $1) AND ($2::text IS NULL OR name > $2)
        ORDER BY name LIMIT $3
        "#,
        only,
        after,
        limit,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ProjectInfo {
                name: read_name("project", row.name)?,
                created_at: row.created_at.to_jiff(),
                created_by: row.created_by,
            })
        })
        .collect()
}

/// Whether there is a project of that name.
pub async fn project_exists(executor: impl PgExecutor<'_>, name: &Project) -> DbResult<bool> {
    let found = sqlx::query_scalar!("SELECT 1 AS one FROM project WHERE name = $1", name.as_str())
        .fetch_optional(executor)
        .await?;
    Ok(found.is_some())
}

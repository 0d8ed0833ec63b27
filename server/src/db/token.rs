//! Tokens: found by id at each request, listed and revoked by their project.

use jiff::Timestamp;
use qwex_api::token::{Role, TokenInfo};
use qwex_core::Project;
use sqlx::PgExecutor;

use super::{DbError, DbResult, Ts, read_name};

/// A token to be stored; the secret is only its hash.
#[derive(Debug, Clone)]
pub struct NewToken<'t> {
    pub id: &'t str,
    pub project: &'t Project,
    pub name: &'t str,
    pub role: Role,
    pub secret_hash: &'t [u8],
    pub created_by: &'t str,
    pub expires_at: Option<Timestamp>,
}

/// What is needed to let a token in.
#[derive(Clone)]
pub struct LiveToken {
    pub name: String,
    pub project: Project,
    pub role: Role,
    pub secret_hash: Vec<u8>,
    pub expires_at: Option<Timestamp>,
    pub expired: bool,
    /// Whether its last use was noted more than a minute ago.
    pub use_is_stale: bool,
}

/// A token that is not revoked. Whether it has expired is told by the clock of the database.
pub async fn find_live(executor: impl PgExecutor<'_>, id: &str) -> DbResult<Option<LiveToken>> {
    let row = sqlx::query!(
        r#"
        SELECT name, project, role, secret_hash, expires_at AS "expires_at: Ts",
            coalesce(expires_at <= now(), false) AS "expired!",
            coalesce(last_used_at < now() - interval '1 minute', true) AS "use_is_stale!"
        FROM token WHERE id = $1 AND revoked_at IS NULL
        "#,
        id,
    )
    .fetch_optional(executor)
    .await?;
    row.map(|row| {
        Ok(LiveToken {
            name: row.name,
            project: read_name("project", row.project)?,
            role: read_role(&row.role)?,
            secret_hash: row.secret_hash,
            expires_at: row.expires_at.map(Ts::to_jiff),
            expired: row.expired,
            use_is_stale: row.use_is_stale,
        })
    })
    .transpose()
}

/// Notes that a token was used now.
pub async fn update_last_use(executor: impl PgExecutor<'_>, id: &str) -> DbResult<()> {
    sqlx::query!("UPDATE token SET last_used_at = now() WHERE id = $1", id)
        .execute(executor)
        .await?;
    Ok(())
}

/// Stores a token. The constraint `token_live_name` refuses a name that a live token of the project has.
pub async fn insert_token(executor: impl PgExecutor<'_>, token: &NewToken<'_>) -> DbResult<TokenInfo> {
    let created_at = sqlx::query_scalar!(
        r#"
        INSERT INTO token (id, project, name, role, secret_hash, created_by, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        RETURNING created_at AS "created_at: Ts"
        "#,
        token.id,
        token.project.as_str(),
        token.name,
        token.role.as_str(),
        token.secret_hash,
        token.created_by,
        token.expires_at.map(jiff_sqlx::ToSqlx::to_sqlx) as _,
    )
    .fetch_one(executor)
    .await?;
    Ok(TokenInfo {
        id: token.id.to_owned(),
        name: token.name.to_owned(),
        project: token.project.clone(),
        role: token.role,
        created_by: token.created_by.to_owned(),
        created_at: created_at.to_jiff(),
        expires_at: token.expires_at,
        revoked_at: None,
        last_used_at: None,
    })
}

/// Tokens of a project (`None`: of all), revoked ones too, newest first.
pub async fn list_tokens(executor: impl PgExecutor<'_>, project: Option<&str>) -> DbResult<Vec<TokenInfo>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, name, project, role, created_by, created_at AS "created_at: Ts", expires_at AS "expires_at: Ts",
            revoked_at AS "revoked_at: Ts", last_used_at AS "last_used_at: Ts"
        FROM token WHERE ($1::text IS NULL OR project = $1)
        ORDER BY created_at DESC, id LIMIT 1000
        "#,
        project,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(TokenInfo {
                id: row.id,
                name: row.name,
                project: read_name("project", row.project)?,
                role: read_role(&row.role)?,
                created_by: row.created_by,
                created_at: row.created_at.to_jiff(),
                expires_at: row.expires_at.map(Ts::to_jiff),
                revoked_at: row.revoked_at.map(Ts::to_jiff),
                last_used_at: row.last_used_at.map(Ts::to_jiff),
            })
        })
        .collect()
}

/// Revokes a token of a project (`None`: of any). False when there is none; revoking again changes nothing.
pub async fn revoke_token(executor: impl PgExecutor<'_>, project: Option<&str>, id: &str) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE token SET revoked_at = coalesce(revoked_at, now())
        WHERE id = $1 AND ($2::text IS NULL OR project = $2)
        "#,
        id,
        project,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Revokes the live token of that name, so that the name is free again.
pub async fn revoke_named(executor: impl PgExecutor<'_>, project: &Project, name: &str) -> DbResult<()> {
    sqlx::query!(
        "UPDATE token SET revoked_at = now() WHERE project = $1 AND name = $2 AND revoked_at IS NULL",
        project.as_str(),
        name,
    )
    .execute(executor)
    .await?;
    Ok(())
}

fn read_role(word: &str) -> DbResult<Role> {
    Role::from_word(word).ok_or_else(|| DbError::Unreadable {
        column: "role",
        value: word.to_owned(),
    })
}

//! Webhook endpoints: made, listed, rotated, disabled, removed.

use qwex_api::webhook::{WebhookEvent, WebhookInfo};
use qwex_core::Project;
use sqlx::{PgConnection, PgExecutor};

use super::{DbError, DbResult, Ts, read_name};

/// An endpoint to be stored; its secret is sealed.
#[derive(Debug, Clone)]
pub struct NewEndpoint<'e> {
    pub id: &'e str,
    pub project: &'e Project,
    pub url: &'e str,
    pub events: &'e [WebhookEvent],
    pub description: Option<&'e str>,
    pub sealed_secret: &'e [u8],
    pub created_by: &'e str,
}

/// Columns of an endpoint as its owner sees it.
struct Row {
    id: String,
    project: String,
    url: String,
    events: Vec<String>,
    description: Option<String>,
    enabled: bool,
    disabled_reason: Option<String>,
    created_at: Ts,
    created_by: String,
}

impl Row {
    fn read(self) -> DbResult<WebhookInfo> {
        let events = self.events.iter().map(|word| read_event(word));
        Ok(WebhookInfo {
            id: self.id,
            project: read_name("project", self.project)?,
            url: self.url,
            events: events.collect::<DbResult<_>>()?,
            description: self.description,
            enabled: self.enabled,
            disabled_reason: self.disabled_reason,
            created_at: self.created_at.to_jiff(),
            created_by: self.created_by,
        })
    }
}

pub(crate) fn read_event(word: &str) -> DbResult<WebhookEvent> {
    WebhookEvent::from_word(word).ok_or_else(|| DbError::Unreadable {
        column: "event",
        value: word.to_owned(),
    })
}

/// Stores an endpoint unless its project has `most` already; `None` then.
pub async fn insert_endpoint(
    executor: impl PgExecutor<'_>,
    endpoint: &NewEndpoint<'_>,
    most: i64,
) -> DbResult<Option<WebhookInfo>> {
    let events: Vec<String> = endpoint
        .events
        .iter()
        .map(|one| one.as_str().to_owned())
        .collect();
    let row = sqlx::query_as!(
        Row,
        r#"
        INSERT INTO webhook_endpoint (id, project, url, events, description, sealed_secret, created_by)
        SELECT $1, $2, $3, $4, $5, $6, $7
        WHERE (SELECT count(*) FROM webhook_endpoint WHERE project = $2 AND removed_at IS NULL) < $8
        RETURNING id, project, url, events, description, enabled, disabled_reason, created_at AS "created_at: Ts",
            created_by
        "#,
        endpoint.id,
        endpoint.project.as_str(),
        endpoint.url,
        &events,
        endpoint.description,
        endpoint.sealed_secret,
        endpoint.created_by,
        most,
    )
    .fetch_optional(executor)
    .await?;
    row.map(Row::read).transpose()
}

/// Endpoints of a project (`None`: of all), newest first.
pub async fn list_endpoints(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
) -> DbResult<Vec<WebhookInfo>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT id, project, url, events, description, enabled, disabled_reason, created_at AS "created_at: Ts",
            created_by
        FROM webhook_endpoint WHERE ($1::text IS NULL OR project = $1) AND removed_at IS NULL
        ORDER BY created_at DESC, id LIMIT 1000
        "#,
        project,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

/// An endpoint of a project (`None`: of any).
pub async fn find_endpoint(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
    id: &str,
) -> DbResult<Option<WebhookInfo>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        SELECT id, project, url, events, description, enabled, disabled_reason, created_at AS "created_at: Ts",
            created_by
        FROM webhook_endpoint WHERE id = $1 AND ($2::text IS NULL OR project = $2) AND removed_at IS NULL
        "#,
        id,
        project,
    )
    .fetch_optional(executor)
    .await?;
    row.map(Row::read).transpose()
}

/// Puts a new secret in the place of the old one, which signs as well for `overlap_seconds` more.
pub async fn update_secret(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
    id: &str,
    sealed_secret: &[u8],
    overlap_seconds: f64,
) -> DbResult<Option<WebhookInfo>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        UPDATE webhook_endpoint SET sealed_previous_secret = sealed_secret, sealed_secret = $3,
            previous_until = now() + $4 * interval '1 second'
        WHERE id = $1 AND ($2::text IS NULL OR project = $2) AND removed_at IS NULL
        RETURNING id, project, url, events, description, enabled, disabled_reason, created_at AS "created_at: Ts",
            created_by
        "#,
        id,
        project,
        sealed_secret,
        overlap_seconds,
    )
    .fetch_optional(executor)
    .await?;
    row.map(Row::read).transpose()
}

/// Removes an endpoint with its secrets; its deliveries stay as history. False when there is none in sight.
pub async fn remove_endpoint(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
    id: &str,
) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE webhook_endpoint SET removed_at = now(), enabled = false, sealed_secret = '',
            sealed_previous_secret = NULL, previous_until = NULL
        WHERE id = $1 AND ($2::text IS NULL OR project = $2) AND removed_at IS NULL
        "#,
        id,
        project,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that an endpoint takes deliveries. One that was disabled is enabled again: only a test reaches it.
pub async fn update_healthy(conn: &mut PgConnection, id: &str) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE webhook_endpoint SET failing_since = NULL, enabled = true, disabled_reason = NULL
        WHERE id = $1 AND removed_at IS NULL AND (failing_since IS NOT NULL OR NOT enabled)
        "#,
        id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that an endpoint does not take deliveries.
pub async fn update_failing(conn: &mut PgConnection, id: &str) -> DbResult<()> {
    sqlx::query!(
        "UPDATE webhook_endpoint SET failing_since = now() WHERE id = $1 AND failing_since IS NULL",
        id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Disables an endpoint that has failed for so many seconds; true if this call did it.
pub async fn disable_failing(
    conn: &mut PgConnection,
    id: &str,
    failing_seconds: f64,
    reason: &str,
) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE webhook_endpoint SET enabled = false, disabled_reason = $3
        WHERE id = $1 AND enabled AND failing_since <= now() - $2 * interval '1 second'
        "#,
        id,
        failing_seconds,
        reason,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

//! Answers kept under an Idempotency-Key, for every POST but submit (whose key stands in the transaction of the run,
//! in `submit`).

use sqlx::PgExecutor;

use super::DbResult;

/// What a key is unique in, and what was asked under it.
#[derive(Debug, Clone)]
pub struct KeyedRequest {
    pub project: String,
    pub principal: String,
    pub route: String,
    pub key: String,
    pub hash: Vec<u8>,
}

/// What a key stands for.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    pub hash: Vec<u8>,
    /// `None` while the first request is in flight.
    pub status: Option<i32>,
    /// `None` where the answer held a secret.
    pub response: Option<Vec<u8>>,
}

/// Takes a key. True when it is free: never used, used more than a day ago, or taken by a request that died more than
/// two minutes ago.
pub async fn claim(executor: impl PgExecutor<'_>, request: &KeyedRequest) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        INSERT INTO idempotency (project, principal, route, key, request_hash) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (project, principal, route, key) DO UPDATE
            SET request_hash = excluded.request_hash, status = NULL, response = NULL, created_at = now()
            WHERE idempotency.created_at < now() - interval '24 hours'
                OR (idempotency.status IS NULL AND idempotency.created_at < now() - interval '2 minutes')
        "#,
        request.project,
        request.principal,
        request.route,
        request.key,
        request.hash,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The answer that was given under a key.
pub async fn find_answer(
    executor: impl PgExecutor<'_>,
    request: &KeyedRequest,
) -> DbResult<Option<StoredAnswer>> {
    let row = sqlx::query!(
        r#"
        SELECT request_hash, status, response FROM idempotency
        WHERE project = $1 AND principal = $2 AND route = $3 AND key = $4
        "#,
        request.project,
        request.principal,
        request.route,
        request.key,
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| StoredAnswer {
        hash: row.request_hash,
        status: row.status,
        response: row.response,
    }))
}

/// Keeps the answer of the request that took the key.
pub async fn update_answer(
    executor: impl PgExecutor<'_>,
    request: &KeyedRequest,
    status: i32,
    response: Option<&[u8]>,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE idempotency SET status = $5, response = $6
        WHERE project = $1 AND principal = $2 AND route = $3 AND key = $4 AND status IS NULL
        "#,
        request.project,
        request.principal,
        request.route,
        request.key,
        status,
        response,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Frees a key whose request changed nothing.
pub async fn release(executor: impl PgExecutor<'_>, request: &KeyedRequest) -> DbResult<()> {
    sqlx::query!(
        r#"
        DELETE FROM idempotency
        WHERE project = $1 AND principal = $2 AND route = $3 AND key = $4 AND status IS NULL
        "#,
        request.project,
        request.principal,
        request.route,
        request.key,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Forgets keys older than a day; at most `limit` of them.
pub async fn delete_old(executor: impl PgExecutor<'_>, limit: i64) -> DbResult<u64> {
    let done = sqlx::query!(
        r#"
        DELETE FROM idempotency WHERE (project, principal, route, key) IN (
            SELECT project, principal, route, key FROM idempotency
            WHERE created_at < now() - interval '24 hours' ORDER BY created_at LIMIT $1)
        "#,
        limit,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

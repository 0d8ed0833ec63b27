//! Attempts that are over: stopped if need be, archived, released.

use qwex_core::{Attempt, BackendInfo, RunId};
use sqlx::PgExecutor;

use super::record::LeaseGuard;
use super::run::read_id;
use super::{DbResult, Json, read_attempt, to_i32};

/// A clean-up that this replica has claimed.
#[derive(Debug, Clone)]
pub struct ClaimedCleanup {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub backend: BackendInfo,
    pub stop: bool,
    pub tries: i32,
}

/// Claims due clean-ups of a cluster for `seconds`; who has lost the lease of `guard` gets nothing.
pub async fn claim(
    executor: impl PgExecutor<'_>,
    cluster: &str,
    limit: i64,
    seconds: f64,
    guard: &LeaseGuard,
) -> DbResult<Vec<ClaimedCleanup>> {
    let rows = sqlx::query!(
        r#"
        WITH due AS (
            SELECT run_id, attempt FROM cleanup
            WHERE cluster = $1 AND not_before <= now() AND (claimed_until IS NULL OR claimed_until < now())
                AND EXISTS (SELECT FROM lease WHERE name = $4 AND epoch = $5)
            ORDER BY not_before LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        UPDATE cleanup SET claimed_until = now() + $3::double precision * interval '1 second', tries = tries + 1
        FROM due WHERE cleanup.run_id = due.run_id AND cleanup.attempt = due.attempt
        RETURNING cleanup.run_id, cleanup.attempt, cleanup.backend AS "backend: Json<BackendInfo>", cleanup.stop,
            cleanup.tries
        "#,
        cluster,
        limit,
        seconds,
        guard.lease,
        guard.epoch,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ClaimedCleanup {
                run_id: read_id(row.run_id)?,
                attempt: read_attempt(row.attempt)?,
                backend: row.backend.0,
                stop: row.stop,
                tries: row.tries,
            })
        })
        .collect()
}

/// Puts a claimed clean-up back, to go on after `seconds`.
pub async fn put_back(
    executor: impl PgExecutor<'_>,
    run: RunId,
    attempt: Attempt,
    seconds: f64,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE cleanup SET claimed_until = NULL, not_before = now() + $3::double precision * interval '1 second'
        WHERE run_id = $1 AND attempt = $2
        "#,
        run.as_uuid(),
        to_i32(attempt.0),
        seconds,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Nothing is owed to the attempt any more.
pub async fn done(executor: impl PgExecutor<'_>, run: RunId, attempt: Attempt) -> DbResult<()> {
    sqlx::query!(
        "DELETE FROM cleanup WHERE run_id = $1 AND attempt = $2",
        run.as_uuid(),
        to_i32(attempt.0)
    )
    .execute(executor)
    .await?;
    Ok(())
}

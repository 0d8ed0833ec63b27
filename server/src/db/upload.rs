//! Logs of runs that ended elsewhere, on their way into the archive: what is under way, and what was given up. Between
//! the transaction that records the run and the one that gives the upload up, the row decides.

use qwex_core::RunId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::DbResult;
use super::run::read_id;

/// An upload that was given up: its objects may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned {
    pub id: Uuid,
    pub run_id: RunId,
}

/// Before the first byte goes into the archive.
pub async fn begin(executor: impl PgExecutor<'_>, id: Uuid, run: RunId) -> DbResult<()> {
    sqlx::query!(
        "INSERT INTO import_upload (id, run_id) VALUES ($1, $2)",
        id,
        run.as_uuid()
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Says that bytes still come. False: it was given up.
pub async fn touch(executor: impl PgExecutor<'_>, id: Uuid) -> DbResult<bool> {
    let done = sqlx::query!(
        "UPDATE import_upload SET touched_at = now() WHERE id = $1 AND abandoned_at IS NULL",
        id
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Its objects now belong to a run: in the transaction that records it. False: it was given up, and they may be gone.
pub async fn end(conn: &mut PgConnection, id: Uuid) -> DbResult<bool> {
    let done = sqlx::query!(
        "DELETE FROM import_upload WHERE id = $1 AND abandoned_at IS NULL",
        id
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives an upload up. False: its row is gone, with its run recorded or its objects removed.
pub async fn abandon(executor: impl PgExecutor<'_>, id: Uuid) -> DbResult<bool> {
    let done = sqlx::query!(
        "UPDATE import_upload SET abandoned_at = coalesce(abandoned_at, now()) WHERE id = $1",
        id
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives up what was silent for `seconds`, and returns it with all that was given up before and is still there, at most `limit`.
pub async fn abandon_silent(
    executor: impl PgExecutor<'_>,
    seconds: f64,
    limit: i64,
) -> DbResult<Vec<Abandoned>> {
    let rows = sqlx::query!(
        r#"
        WITH silent AS (
            SELECT id FROM import_upload
            WHERE abandoned_at IS NOT NULL OR touched_at < now() - $1::double precision * interval '1 second'
            ORDER BY touched_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        UPDATE import_upload SET abandoned_at = coalesce(abandoned_at, now()), touched_at = now()
        FROM silent WHERE import_upload.id = silent.id
        RETURNING import_upload.id, run_id
        "#,
        seconds,
        limit,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Abandoned {
                id: row.id,
                run_id: read_id(row.run_id)?,
            })
        })
        .collect()
}

/// Whether a run's log lies below this prefix: its upload was recorded.
pub async fn is_recorded(executor: impl PgExecutor<'_>, run: RunId, prefix: &str) -> DbResult<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM log_chunk WHERE run_id = $1 AND starts_with(object_key, $2)) AS "found!""#,
        run.as_uuid(),
        prefix,
    )
    .fetch_one(executor)
    .await?;
    Ok(found)
}

/// Nothing of an upload that was given up lies in the archive any more.
pub async fn forget(executor: impl PgExecutor<'_>, id: Uuid) -> DbResult<()> {
    sqlx::query!(
        "DELETE FROM import_upload WHERE id = $1 AND abandoned_at IS NOT NULL",
        id
    )
    .execute(executor)
    .await?;
    Ok(())
}

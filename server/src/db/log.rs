//! The index of the log archive.

use qwex_api::log::LogStreamInfo;
use qwex_core::{Attempt, EpisodeId, LogSummary, LogVerdict, RunId};
use qwex_runner::{LogPosition, LogSource};
use sqlx::{PgConnection, PgExecutor};

use super::{DbError, DbResult, Json, Ts, read_attempt, to_i32};
use jiff::Timestamp;

/// One stream of a run's log.
#[derive(Debug, Clone)]
pub struct StreamRow {
    pub ordinal: i32,
    pub source: LogSource,
    pub position: LogPosition,
    pub bytes: u64,
    pub lines: u64,
    pub verdict: Option<LogVerdict>,
    pub sha256: Option<String>,
    pub message: Option<String>,
}

impl StreamRow {
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.verdict.is_some()
    }

    #[must_use]
    pub fn into_info(self) -> LogStreamInfo {
        LogStreamInfo {
            ordinal: u32::try_from(self.ordinal).unwrap_or(0),
            attempt: self.source.attempt,
            episode: self.source.episode.0,
            stream: self.source.stream,
            bytes: self.bytes,
            lines: self.lines,
            verdict: self.verdict,
            sha256: self.sha256,
            message: self.message,
        }
    }
}

/// Makes the row of a stream, numbered behind the run's other streams, if it is not there.
pub async fn ensure_stream(executor: impl PgExecutor<'_>, source: &LogSource, cluster: &str) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO log_stream (run_id, ordinal, attempt, episode, stream, cluster, locator)
        SELECT $1, coalesce(max(ordinal) + 1, 0), $2, $3, $4, $5, $6 FROM log_stream WHERE run_id = $1
        ON CONFLICT (run_id, attempt, episode, stream) DO NOTHING
        "#,
        source.run_id.as_uuid(),
        to_i32(source.attempt.0),
        source.episode.0,
        source.stream,
        cluster,
        source.locator,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// The streams of a run in order; of one attempt, if asked for.
pub async fn list_streams(
    executor: impl PgExecutor<'_>,
    run: RunId,
    attempt: Option<Attempt>,
) -> DbResult<Vec<StreamRow>> {
    let rows = sqlx::query!(
        r#"
        SELECT ordinal, attempt, episode, stream, locator, position AS "position: Json<serde_json::Value>", bytes, lines,
            verdict, sha256, message
        FROM log_stream WHERE run_id = $1 AND ($2::integer IS NULL OR attempt = $2) ORDER BY ordinal
        "#,
        run.as_uuid(),
        attempt.map(|attempt| to_i32(attempt.0)),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(StreamRow {
                ordinal: row.ordinal,
                source: LogSource {
                    run_id: run,
                    attempt: read_attempt(row.attempt)?,
                    episode: EpisodeId(row.episode),
                    stream: row.stream,
                    locator: row.locator,
                },
                position: serde_json::from_value(row.position.0).unwrap_or_default(),
                bytes: u64::try_from(row.bytes).unwrap_or(0),
                lines: u64::try_from(row.lines).unwrap_or(0),
                verdict: row.verdict.as_deref().map(read_verdict).transpose()?,
                sha256: row.sha256,
                message: row.message,
            })
        })
        .collect()
}

fn read_verdict(word: &str) -> DbResult<LogVerdict> {
    LogVerdict::from_word(word).ok_or_else(|| DbError::Unreadable {
        column: "verdict",
        value: word.to_owned(),
    })
}

/// A sealed chunk of a stream.
#[derive(Debug, Clone)]
pub struct ChunkRow {
    pub start: u64,
    pub length: u64,
    pub lines: u64,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub object_key: String,
    pub stored_length: u64,
    pub gap_before: Option<String>,
}

/// Stores a chunk's row and moves the stream behind it, so that it waits for the archive no more, in one transaction with the caller's.
pub async fn insert_chunk(
    conn: &mut PgConnection,
    run: RunId,
    ordinal: i32,
    chunk: &ChunkRow,
    first_line: u64,
    position: &LogPosition,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO log_chunk (run_id, ordinal, start, length, first_line, lines, first_at, last_at, object_key,
            stored_length, gap_before)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
        run.as_uuid(),
        ordinal,
        to_i64(chunk.start),
        i32::try_from(chunk.length).unwrap_or(i32::MAX),
        to_i64(first_line),
        i32::try_from(chunk.lines).unwrap_or(i32::MAX),
        chunk.first_at.map(Ts::from) as _,
        chunk.last_at.map(Ts::from) as _,
        chunk.object_key,
        i32::try_from(chunk.stored_length).unwrap_or(i32::MAX),
        chunk.gap_before,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        r#"
        UPDATE log_stream
        SET position = $3, bytes = $4, lines = $5, waiting_for = NULL, waiting_since = NULL, waiting_seen_at = NULL
        WHERE run_id = $1 AND ordinal = $2
        "#,
        run.as_uuid(),
        ordinal,
        Json(position) as _,
        to_i64(chunk.start + chunk.length),
        to_i64(first_line + chunk.lines),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The chunks of a stream that hold bytes at or behind an offset, in order, at most `limit`.
pub async fn list_chunks(
    executor: impl PgExecutor<'_>,
    run: RunId,
    ordinal: i32,
    from: u64,
    limit: i64,
) -> DbResult<Vec<ChunkRow>> {
    let rows = sqlx::query!(
        r#"
        SELECT start, length, lines, first_at AS "first_at: Ts", last_at AS "last_at: Ts", object_key, stored_length, gap_before
        FROM log_chunk WHERE run_id = $1 AND ordinal = $2 AND start + length > $3 ORDER BY start LIMIT $4
        "#,
        run.as_uuid(),
        ordinal,
        to_i64(from),
        limit,
    )
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ChunkRow {
            start: u64::try_from(row.start).unwrap_or(0),
            length: u64::try_from(row.length).unwrap_or(0),
            lines: u64::try_from(row.lines).unwrap_or(0),
            first_at: row.first_at.map(Ts::to_jiff),
            last_at: row.last_at.map(Ts::to_jiff),
            object_key: row.object_key,
            stored_length: u64::try_from(row.stored_length).unwrap_or(0),
            gap_before: row.gap_before,
        })
        .collect())
}

/// Where the last `lines` lines of a stream's chunks begin at the latest: the offset of a chunk, and how many
/// lines from there on are too many.
pub async fn find_tail(
    executor: impl PgExecutor<'_>,
    run: RunId,
    ordinal: i32,
    lines: u64,
) -> DbResult<Option<(u64, u64)>> {
    let row = sqlx::query!(
        r#"
        SELECT start, behind AS "behind!" FROM (
            SELECT start, lines, (sum(lines) OVER (ORDER BY start DESC))::bigint AS behind
            FROM log_chunk WHERE run_id = $1 AND ordinal = $2
        ) AS chunk WHERE behind - lines < $3 ORDER BY start LIMIT 1
        "#,
        run.as_uuid(),
        ordinal,
        to_i64(lines),
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| {
        let behind = u64::try_from(row.behind).unwrap_or(0);
        (
            u64::try_from(row.start).unwrap_or(0),
            behind.saturating_sub(lines),
        )
    }))
}

/// Seals a stream: the verdict comes last.
pub async fn seal_stream(
    executor: impl PgExecutor<'_>,
    run: RunId,
    ordinal: i32,
    verdict: LogVerdict,
    sha256: &str,
    message: Option<&str>,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE log_stream SET verdict = $3, sha256 = $4, message = $5, sealed_at = now(), waiting_for = NULL,
            waiting_since = NULL, waiting_seen_at = NULL
        WHERE run_id = $1 AND ordinal = $2 AND sealed_at IS NULL
        "#,
        run.as_uuid(),
        ordinal,
        verdict.as_str(),
        sha256,
        message,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Writes the summary of a run's whole log, if the run is over and it is not there yet. Returns whether it is there.
pub async fn store_summary(
    executor: impl PgExecutor<'_>,
    run: RunId,
    summary: &LogSummary,
) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE run SET logs = coalesce(logs, $2), version = version + CASE WHEN logs IS NULL THEN 1 ELSE 0 END
        WHERE id = $1 AND finished_at IS NOT NULL
        "#,
        run.as_uuid(),
        Json(summary) as _,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether a run's log gets no more bytes.
pub async fn is_settled(executor: impl PgExecutor<'_>, run: RunId) -> DbResult<bool> {
    let settled = sqlx::query_scalar!(
        r#"
        SELECT finished_at IS NOT NULL AND (logs IS NOT NULL OR NOT EXISTS (SELECT 1 FROM cleanup WHERE run_id = $1)) AS "settled!"
        FROM run WHERE id = $1
        "#,
        run.as_uuid(),
    )
    .fetch_optional(executor)
    .await?;
    Ok(settled.unwrap_or(true))
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

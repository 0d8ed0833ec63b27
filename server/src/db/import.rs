//! Recording runs that ended elsewhere: called by the Recorder alone, in one transaction a run. They get no intent to
//! start, no clean-up and no delivery: nothing is owed to them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qwex_core::{BackendInfo, Failure, Imported, JobSpec, LogSummary, Provenance, Usage};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbResult, Json};

/// The row of a run that ended elsewhere.
#[derive(Debug, Serialize)]
pub struct ImportedRun {
    pub id: Uuid,
    pub project: String,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub spec: JobSpec,
    pub spec_hash: String,
    pub queue: Option<String>,
    pub status: &'static str,
    pub failure: Option<Failure>,
    pub exit_code: Option<i32>,
    pub attempt: i32,
    pub backend: Option<BackendInfo>,
    pub flags: Vec<&'static str>,
    pub logs: LogSummary,
    pub created_at: Timestamp,
    pub dispatched_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub created_by: String,
    pub provenance: Option<Provenance>,
    pub usage: Option<Usage>,
    pub imported: Imported,
    pub event_seq: i64,
}

/// Records a run that is over. False: there is one of that id, and nothing was written.
///
/// Its cluster is one of another server, if it had one: the column, by which clusters find their runs, stays empty.
pub async fn insert_run(conn: &mut PgConnection, run: &ImportedRun) -> DbResult<bool> {
    let inserted = sqlx::query_scalar!(
        r#"
        INSERT INTO run (id, project, name, labels, spec, spec_hash, queue, status, failure, exit_code, attempt, backend,
            flags, logs, created_at, dispatched_at, started_at, finished_at, created_by, provenance, usage, imported, event_seq)
        SELECT id, project, name, labels, spec, spec_hash, queue, status, failure, exit_code, attempt, backend,
            flags, logs, created_at, dispatched_at, started_at, finished_at, created_by, provenance, usage, imported, event_seq
        FROM jsonb_to_record($1) AS new (id uuid, project text, name text, labels jsonb, spec jsonb, spec_hash text,
            queue text, status text, failure jsonb, exit_code integer, attempt integer, backend jsonb, flags text[],
            logs jsonb, created_at timestamptz, dispatched_at timestamptz, started_at timestamptz,
            finished_at timestamptz, created_by text, provenance jsonb, usage jsonb, imported jsonb, event_seq bigint)
        ON CONFLICT (id) DO NOTHING
        RETURNING 1 AS "one!"
        "#,
        Json(run) as _,
    )
    .fetch_optional(conn)
    .await?;
    Ok(inserted.is_some())
}

/// A sealed stream of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportedStream {
    pub ordinal: i32,
    pub attempt: i32,
    pub episode: String,
    pub stream: String,
    pub bytes: u64,
    pub lines: u64,
    pub verdict: &'static str,
    pub sha256: String,
    pub message: Option<String>,
}

/// A chunk of a stream that is in the archive already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportedChunk {
    pub ordinal: i32,
    pub start: u64,
    pub length: u64,
    pub first_line: u64,
    pub lines: u64,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub object_key: String,
    pub stored_length: u64,
}

/// Records the streams of a run, sealed.
pub async fn insert_streams(conn: &mut PgConnection, run: Uuid, streams: &[ImportedStream]) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO log_stream (run_id, ordinal, attempt, episode, stream, locator, bytes, lines, verdict, sha256, message,
            sealed_at)
        SELECT $1, ordinal, attempt, episode, stream, 'imported', bytes, lines, verdict, sha256, message, now()
        FROM jsonb_to_recordset($2) AS new (ordinal integer, attempt integer, episode text, stream text, bytes bigint,
            lines bigint, verdict text, sha256 text, message text)
        "#,
        run,
        Json(streams) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records where the bytes of the streams of a run lie.
pub async fn insert_chunks(conn: &mut PgConnection, run: Uuid, chunks: &[ImportedChunk]) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO log_chunk (run_id, ordinal, start, length, first_line, lines, first_at, last_at, object_key, stored_length)
        SELECT $1, ordinal, start, length, first_line, lines, first_at, last_at, object_key, stored_length
        FROM jsonb_to_recordset($2) AS new (ordinal integer, start bigint, length integer, first_line bigint,
            lines integer, first_at timestamptz, last_at timestamptz, object_key text, stored_length integer)
        "#,
        run,
        Json(chunks) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

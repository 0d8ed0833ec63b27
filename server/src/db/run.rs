//! Reading runs. Every question carries the projects that the asker may see.

use std::collections::BTreeMap;

use qwex_api::run::{PlacementReport, RunRow};
use qwex_core::{
    BackendInfo, ClusterName, Failure, Flag, Flags, Imported, JobSpec, LogSummary, Pending, Project,
    Provenance, QueueName, Run, RunId, Usage,
};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{DbResult, Json, Ts, read_attempt, read_name, read_status};
use jiff::Timestamp;

/// A run with the version of its row.
#[derive(Debug, Clone)]
pub struct StoredRun {
    pub run: Run,
    pub spec_hash: String,
    pub version: i64,
    pub event_seq: i64,
    pub placement: Option<PlacementReport>,
}

/// Which runs a list shows. `None` and empty: no restriction.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// The project that the asker may see; `None`: all.
    pub project: Option<String>,
    pub statuses: Option<Vec<String>>,
    pub name: Option<String>,
    /// Smallest and largest id: an id prefix, a time range and the page all become this.
    pub id_from: Option<Uuid>,
    pub id_to: Option<Uuid>,
    pub labels: BTreeMap<String, String>,
    pub cluster: Option<String>,
    pub queue: Option<String>,
    /// Only runs before this id (keyset page).
    pub before: Option<Uuid>,
    pub limit: i64,
}

pub(crate) fn read_flags(words: &[String]) -> Flags {
    words.iter().filter_map(|word| Flag::from_word(word)).collect()
}

/// One run, if it exists in `project` (`None`: in any).
pub async fn find_run(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
    id: RunId,
) -> DbResult<Option<StoredRun>> {
    let row = sqlx::query!(
        r#"
        SELECT project, name, labels AS "labels: Json<BTreeMap<String, String>>", spec AS "spec: Json<JobSpec>", spec_hash,
            status, pending AS "pending: Json<Pending>", failure AS "failure: Json<Failure>", exit_code, attempt,
            backend AS "backend: Json<BackendInfo>", flags, logs AS "logs: Json<LogSummary>",
            placement AS "placement: Json<PlacementReport>", created_at AS "created_at: Ts",
            dispatched_at AS "dispatched_at: Ts", started_at AS "started_at: Ts", finished_at AS "finished_at: Ts",
            created_by, version, event_seq, provenance AS "provenance: Json<Provenance>", usage AS "usage: Json<Usage>",
            imported AS "imported: Json<Imported>"
        FROM run WHERE id = $1 AND ($2::text IS NULL OR project = $2)
        "#,
        id.as_uuid(),
        project,
    )
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let run = Run {
        id,
        name: row.name.map(|name| read_name("name", name)).transpose()?,
        project: read_name("project", row.project)?,
        labels: row.labels.0,
        status: read_status(&row.status)?,
        pending: row.pending.map(|json| json.0),
        failure: row.failure.map(|json| json.0),
        spec: row.spec.0,
        backend: row.backend.map(|json| json.0),
        attempt: read_attempt(row.attempt)?,
        exit_code: row.exit_code,
        flags: read_flags(&row.flags),
        logs: row.logs.map(|json| json.0),
        created_at: row.created_at.to_jiff(),
        dispatched_at: row.dispatched_at.map(Ts::to_jiff),
        started_at: row.started_at.map(Ts::to_jiff),
        finished_at: row.finished_at.map(Ts::to_jiff),
        created_by: row.created_by,
        provenance: row.provenance.map(|json| json.0),
        usage: row.usage.map(|json| json.0),
        imported: row.imported.map(|json| json.0),
    };
    let placement = row.placement.map(|json| json.0);
    Ok(Some(StoredRun {
        run,
        spec_hash: row.spec_hash,
        version: row.version,
        event_seq: row.event_seq,
        placement,
    }))
}

/// A row of a list, with what tells whether somebody has seen it.
#[derive(Debug, Clone)]
pub struct ListedRun {
    pub row: RunRow,
    /// The transaction that last changed what the row shows.
    pub shown_by: String,
    /// The transactions that this read has seen.
    pub snapshot: String,
}

/// A page of runs, newest first, without their specs.
pub async fn list_runs(executor: impl PgExecutor<'_>, filter: &RunFilter) -> DbResult<Vec<ListedRun>> {
    let labels = (!filter.labels.is_empty()).then_some(Json(&filter.labels));
    let rows = sqlx::query!(
        r#"
        SELECT id, project, name, labels AS "labels: Json<BTreeMap<String, String>>", status, pending AS "pending: Json<Pending>",
            failure AS "failure: Json<Failure>", exit_code, attempt, cluster, queue, flags, created_at AS "created_at: Ts",
            started_at AS "started_at: Ts", finished_at AS "finished_at: Ts", created_by,
            imported AS "imported: Json<Imported>", shown_xid::text AS "shown_by!", pg_current_snapshot()::text AS "snapshot!"
        FROM run
        WHERE ($1::text IS NULL OR project = $1)
            AND ($2::text[] IS NULL OR status = ANY ($2))
            AND ($3::text IS NULL OR name = $3)
            AND ($4::uuid IS NULL OR id >= $4)
            AND ($5::uuid IS NULL OR id <= $5)
            AND ($6::jsonb IS NULL OR (labels @> $6 AND labels <> '{}'))
            AND ($7::text IS NULL OR cluster = $7)
            AND ($8::text IS NULL OR queue = $8)
            AND ($9::uuid IS NULL OR id < $9)
        ORDER BY id DESC LIMIT $10
        "#,
        filter.project,
        filter.statuses.as_deref() as _,
        filter.name,
        filter.id_from,
        filter.id_to,
        labels as _,
        filter.cluster,
        filter.queue,
        filter.before,
        filter.limit,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            let run = RunRow {
                id: read_id(row.id)?,
                name: row.name.map(|name| read_name("name", name)).transpose()?,
                project: read_name("project", row.project)?,
                labels: row.labels.0,
                status: read_status(&row.status)?,
                pending: row.pending.map(|json| json.0),
                failure: row.failure.map(|json| json.0),
                cluster: row
                    .cluster
                    .map(|name| read_name::<ClusterName>("cluster", name))
                    .transpose()?,
                queue: row
                    .queue
                    .map(|name| read_name::<QueueName>("queue", name))
                    .transpose()?,
                attempt: read_attempt(row.attempt)?,
                exit_code: row.exit_code,
                flags: read_flags(&row.flags),
                created_at: row.created_at.to_jiff(),
                started_at: row.started_at.map(Ts::to_jiff),
                finished_at: row.finished_at.map(Ts::to_jiff),
                created_by: row.created_by,
                imported: row.imported.map(|json| json.0),
            };
            Ok(ListedRun {
                row: run,
                shown_by: row.shown_by,
                snapshot: row.snapshot,
            })
        })
        .collect()
}

/// What tells whether a submit with a known id is a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRun {
    pub project: Project,
    pub spec_hash: String,
}

/// What is known of a run id, in any project.
pub async fn find_known(conn: &mut PgConnection, id: RunId) -> DbResult<Option<KnownRun>> {
    let row = sqlx::query!("SELECT project, spec_hash FROM run WHERE id = $1", id.as_uuid())
        .fetch_optional(conn)
        .await?;
    row.map(|row| {
        Ok(KnownRun {
            project: read_name("project", row.project)?,
            spec_hash: row.spec_hash,
        })
    })
    .transpose()
}

pub(crate) fn read_id(id: Uuid) -> DbResult<RunId> {
    RunId::try_from(id).map_err(|_| super::DbError::Unreadable {
        column: "id",
        value: id.to_string(),
    })
}

/// The smallest id of an instant: lists turn times into ids with it.
#[must_use]
pub fn id_floor(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    Uuid::from_u128(u128::from(millis) << 80)
}

//! The Recorder's statements: lock a batch of runs, write back what moved. Nothing else writes run state.

use jiff::Timestamp;
use qwex_api::run::PlacementReport;
use qwex_core::{BackendInfo, EventKind, Failure, Pending, Project, RunId, RunName, RunState, Usage};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::run::{read_flags, read_id};
use super::{DbError, DbResult, Json, Ts, read_attempt, read_name, read_status, to_i32};

/// A run as the Recorder holds it while its row is locked.
#[derive(Debug, Clone)]
pub struct LockedRun {
    pub id: RunId,
    pub project: Project,
    pub name: Option<RunName>,
    pub state: RunState,
    pub event_seq: i64,
}

/// The right under which a batch is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseGuard {
    pub lease: String,
    pub epoch: i64,
}

/// Refuses a holder whose lease has passed on; holds the lease still until the transaction ends.
pub async fn check_lease(conn: &mut PgConnection, guard: &LeaseGuard) -> DbResult<()> {
    let held = sqlx::query_scalar!(
        "SELECT 1 AS one FROM lease WHERE name = $1 AND epoch = $2 FOR SHARE",
        guard.lease,
        guard.epoch,
    )
    .fetch_optional(conn)
    .await?;
    match held {
        Some(_) => Ok(()),
        None => Err(DbError::Fenced {
            lease: guard.lease.clone(),
            epoch: guard.epoch,
        }),
    }
}

/// Locks runs in the order of their ids (so that two writers never wait on each other) and reads their states.
pub async fn lock_runs(conn: &mut PgConnection, ids: &[Uuid]) -> DbResult<Vec<LockedRun>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, project, name, spec AS "spec: Json<RetryOnly>", status, pending AS "pending: Json<Pending>",
            failure AS "failure: Json<Failure>", exit_code, attempt, round, backend AS "backend: Json<BackendInfo>",
            flags, dispatched_at AS "dispatched_at: Ts", started_at AS "started_at: Ts",
            finished_at AS "finished_at: Ts", event_seq
        FROM run WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE
        "#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(LockedRun {
                id: read_id(row.id)?,
                project: read_name("project", row.project)?,
                name: row.name.map(|name| read_name("name", name)).transpose()?,
                state: RunState {
                    status: read_status(&row.status)?,
                    pending: row.pending.map(|json| json.0),
                    failure: row.failure.map(|json| json.0),
                    exit_code: row.exit_code,
                    attempt: read_attempt(row.attempt)?,
                    round: u64::try_from(row.round).unwrap_or(0),
                    backend: row.backend.map(|json| json.0),
                    flags: read_flags(&row.flags),
                    dispatched_at: row.dispatched_at.map(Ts::to_jiff),
                    started_at: row.started_at.map(Ts::to_jiff),
                    finished_at: row.finished_at.map(Ts::to_jiff),
                    retry: row.spec.0.retry,
                },
                event_seq: row.event_seq,
            })
        })
        .collect()
}

/// The part of a spec which the Recorder needs.
#[derive(Debug, serde::Deserialize)]
struct RetryOnly {
    #[serde(default)]
    retry: qwex_core::RetryPolicy,
}

/// A run row to be written back.
#[derive(Debug, Serialize)]
pub struct RunUpdate {
    id: Uuid,
    status: &'static str,
    pending: Option<Pending>,
    failure: Option<Failure>,
    exit_code: Option<i32>,
    attempt: i32,
    round: i64,
    backend: Option<BackendInfo>,
    cluster: Option<String>,
    flags: Vec<&'static str>,
    dispatched_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    event_seq: i64,
}

impl RunUpdate {
    #[must_use]
    pub fn new(run: &LockedRun) -> Self {
        let state = run.state.clone();
        Self {
            id: run.id.as_uuid(),
            status: state.status.as_str(),
            pending: state.pending,
            failure: state.failure,
            exit_code: state.exit_code,
            attempt: to_i32(state.attempt.0),
            round: i64::try_from(state.round).unwrap_or(i64::MAX),
            cluster: state
                .backend
                .as_ref()
                .and_then(|backend| backend.cluster.as_ref().map(ToString::to_string)),
            backend: state.backend,
            flags: state.flags.iter().map(|flag| flag.as_str()).collect(),
            dispatched_at: state.dispatched_at,
            started_at: state.started_at,
            finished_at: state.finished_at,
            event_seq: run.event_seq,
        }
    }
}

/// Writes back runs that are locked by this transaction.
pub async fn update_runs(conn: &mut PgConnection, updates: &[RunUpdate]) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE run SET status = new.status, pending = new.pending, failure = new.failure, exit_code = new.exit_code,
            attempt = new.attempt, round = new.round, backend = new.backend, cluster = new.cluster,
            flags = new.flags, dispatched_at = new.dispatched_at, started_at = new.started_at,
            finished_at = new.finished_at, event_seq = new.event_seq, version = run.version + 1,
            shown_xid = CASE WHEN (run.status, run.pending, run.failure, run.exit_code, run.attempt, run.cluster,
                    run.flags, run.started_at, run.finished_at)
                IS DISTINCT FROM (new.status, new.pending, new.failure, new.exit_code, new.attempt, new.cluster,
                    new.flags, new.started_at, new.finished_at)
                THEN pg_current_xact_id() ELSE run.shown_xid END
        FROM jsonb_to_recordset($1) AS new (id uuid, status text, pending jsonb, failure jsonb, exit_code integer,
            attempt integer, round bigint, backend jsonb, cluster text, flags text[], dispatched_at timestamptz,
            started_at timestamptz, finished_at timestamptz, event_seq bigint)
        WHERE run.id = new.id
        "#,
        Json(updates) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An attempt row to be made or brought up to date.
#[derive(Debug, Serialize)]
pub struct AttemptUpdate {
    pub run_id: Uuid,
    pub attempt: i32,
    pub status: &'static str,
    pub cluster: Option<String>,
    pub namespace: Option<String>,
    pub object: Option<String>,
    pub uid: Option<String>,
    pub failure: Option<Failure>,
    pub exit_code: Option<i32>,
    pub dispatched_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// Makes attempts or brings them up to date; the last entry of an attempt counts. What was known stays known.
pub async fn upsert_attempts(conn: &mut PgConnection, updates: &[AttemptUpdate]) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO attempt AS old (run_id, attempt, status, cluster, namespace, object, uid, failure, exit_code,
            dispatched_at, started_at, finished_at)
        SELECT run_id, attempt, status, cluster, namespace, object, uid, failure, exit_code, dispatched_at, started_at,
            finished_at
        FROM jsonb_to_recordset($1) AS new (run_id uuid, attempt integer, status text, cluster text, namespace text,
            object text, uid text, failure jsonb, exit_code integer, dispatched_at timestamptz, started_at timestamptz,
            finished_at timestamptz)
        ON CONFLICT (run_id, attempt) DO UPDATE SET status = excluded.status,
            cluster = coalesce(excluded.cluster, old.cluster), namespace = coalesce(excluded.namespace, old.namespace),
            object = coalesce(excluded.object, old.object), uid = coalesce(old.uid, excluded.uid),
            failure = excluded.failure, exit_code = excluded.exit_code,
            dispatched_at = coalesce(old.dispatched_at, excluded.dispatched_at),
            started_at = coalesce(old.started_at, excluded.started_at),
            finished_at = excluded.finished_at
        "#,
        Json(updates) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An episode row to be made or brought up to date.
#[derive(Debug, Serialize)]
pub struct EpisodeUpdate {
    pub run_id: Uuid,
    pub attempt: i32,
    pub episode: String,
    pub node: Option<String>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// Makes episodes or brings them up to date; what was known stays known.
pub async fn upsert_episodes(conn: &mut PgConnection, updates: &[EpisodeUpdate]) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO episode AS old (run_id, attempt, episode, node, exit_code, signal, reason, started_at, ended_at)
        SELECT run_id, attempt, episode, node, exit_code, signal, reason, started_at, ended_at
        FROM jsonb_to_recordset($1) AS new (run_id uuid, attempt integer, episode text, node text, exit_code integer,
            signal integer, reason text, started_at timestamptz, ended_at timestamptz)
        ON CONFLICT (run_id, attempt, episode) DO UPDATE SET node = coalesce(old.node, excluded.node),
            exit_code = coalesce(old.exit_code, excluded.exit_code), signal = coalesce(old.signal, excluded.signal),
            reason = coalesce(old.reason, excluded.reason), started_at = coalesce(old.started_at, excluded.started_at),
            ended_at = coalesce(old.ended_at, excluded.ended_at)
        "#,
        Json(updates) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An episode that is recorded already.
#[derive(Debug, Clone)]
pub struct KnownEpisode {
    pub run_id: Uuid,
    pub attempt: i32,
    pub episode: String,
    pub started: bool,
    pub ended: bool,
}

/// The recorded episodes of runs that are locked by this transaction.
pub async fn list_known_episodes(conn: &mut PgConnection, ids: &[Uuid]) -> DbResult<Vec<KnownEpisode>> {
    let rows = sqlx::query_as!(
        KnownEpisode,
        r#"
        SELECT run_id, attempt, episode, started_at IS NOT NULL AS "started!", ended_at IS NOT NULL AS "ended!"
        FROM episode WHERE run_id = ANY ($1)
        "#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// A row of a run's history to be written.
#[derive(Debug, Serialize)]
pub struct NewEvent {
    pub run_id: Uuid,
    pub seq: i64,
    pub at: Timestamp,
    #[serde(serialize_with = "event_word")]
    pub kind: EventKind,
    pub attempt: i32,
    pub message: String,
    pub data: serde_json::Value,
}

fn event_word<S: serde::Serializer>(kind: &EventKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.as_str())
}

pub async fn insert_events(conn: &mut PgConnection, events: &[NewEvent]) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO run_event (run_id, seq, at, kind, attempt, message, data)
        SELECT run_id, seq, at, kind, attempt, message, data
        FROM jsonb_to_recordset($1) AS new (run_id uuid, seq bigint, at timestamptz, kind text, attempt integer,
            message text, data jsonb)
        "#,
        Json(events) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores how far the watch of a cluster has come.
pub async fn store_position(conn: &mut PgConnection, cluster: &str, position: &str) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO watch_position (cluster, position) VALUES ($1, $2)
        ON CONFLICT (cluster) DO UPDATE SET position = excluded.position, updated_at = now()
        "#,
        cluster,
        position,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps the reasoning of the last placement.
pub async fn store_placement(conn: &mut PgConnection, run: RunId, report: &PlacementReport) -> DbResult<()> {
    sqlx::query!(
        "UPDATE run SET placement = $2 WHERE id = $1",
        run.as_uuid(),
        Json(report) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What is known of a run beside how it ended.
#[derive(Debug, Serialize)]
pub struct RunDetails {
    pub id: Uuid,
    pub image_digest: Option<String>,
    pub host: Option<String>,
    pub usage: Option<Usage>,
}

/// Adds it to runs that are locked by this transaction. What was known stays known: it is told again with every list, by
/// whoever watches then, who may have measured nothing. Nothing is written that is there.
pub async fn store_details(conn: &mut PgConnection, details: &[RunDetails]) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE run SET provenance = new.provenance, usage = new.usage, version = run.version + 1
        FROM (
            SELECT run.id, coalesce(told.usage, run.usage) AS usage,
                nullif(coalesce(run.provenance, '{}')
                    || jsonb_strip_nulls(jsonb_build_object('image_digest', told.image_digest, 'host', told.host)), '{}')
                    AS provenance
            FROM jsonb_to_recordset($1) AS told (id uuid, image_digest text, host text, usage jsonb)
                JOIN run ON run.id = told.id
        ) AS new
        WHERE run.id = new.id AND (run.provenance, run.usage) IS DISTINCT FROM (new.provenance, new.usage)
        "#,
        Json(details) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

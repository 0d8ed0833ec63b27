//! The tiny hot table of open work: claims with a time limit, no lock kept across a network call.

use std::collections::BTreeMap;

use qwex_core::{Attempt, BackendInfo, JobSpec, Project, RunId, RunName};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::record::LeaseGuard;
use super::run::read_id;
use super::{DbResult, Json, read_attempt, read_name};

/// An intent that this replica has claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub project: Project,
    pub name: Option<RunName>,
    pub labels: BTreeMap<String, String>,
    pub spec: JobSpec,
    pub cancel_requested: bool,
    /// Claims so far, this one included: above 1, an earlier one may have reached the backend.
    pub tries: i32,
    pub last_error: Option<String>,
    /// The attempt's object, where it is known.
    pub backend: Option<BackendInfo>,
}

/// What to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// Runs that need a cluster.
    ToPlace,
    /// Runs to be handed to this cluster.
    ToStart(&'a str),
    /// Runs on this cluster that are to be cancelled.
    ToCancel(&'a str),
}

/// Claims due intents for `seconds`, under the lease of `guard` where there is one: who has lost it gets nothing.
/// Whoever claims and dies is followed by the next.
pub async fn claim(
    executor: impl PgExecutor<'_>,
    what: Claim<'_>,
    limit: i64,
    seconds: f64,
    guard: Option<&LeaseGuard>,
) -> DbResult<Vec<Claimed>> {
    let (phase, cluster, cancels) = match what {
        Claim::ToPlace => ("place", None, false),
        Claim::ToStart(cluster) => ("start", Some(cluster), false),
        Claim::ToCancel(cluster) => ("watch", Some(cluster), true),
    };
    let rows = sqlx::query!(
        r#"
        WITH due AS (
            SELECT run_id FROM dispatch
            WHERE phase = $1 AND ($2::text IS NULL OR cluster = $2) AND (NOT $3 OR cancel_requested)
                AND not_before <= now() AND (claimed_until IS NULL OR claimed_until < now())
                AND ($6::text IS NULL OR EXISTS (SELECT FROM lease WHERE name = $6 AND epoch = $7))
            ORDER BY not_before LIMIT $4 FOR UPDATE SKIP LOCKED
        ), mine AS (
            UPDATE dispatch SET claimed_until = now() + $5::double precision * interval '1 second', tries = tries + 1
            FROM due WHERE dispatch.run_id = due.run_id
            RETURNING dispatch.run_id, dispatch.attempt, dispatch.cancel_requested, dispatch.tries, dispatch.last_error
        )
        SELECT mine.run_id, mine.attempt, mine.cancel_requested, mine.tries, mine.last_error, run.project, run.name,
            run.labels AS "labels: Json<BTreeMap<String, String>>", run.spec AS "spec: Json<JobSpec>",
            run.backend AS "backend: Json<BackendInfo>"
        FROM mine JOIN run ON run.id = mine.run_id ORDER BY mine.run_id
        "#,
        phase,
        cluster,
        cancels,
        limit,
        seconds,
        guard.map(|guard| guard.lease.as_str()),
        guard.map(|guard| guard.epoch),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Claimed {
                run_id: read_id(row.run_id)?,
                attempt: read_attempt(row.attempt)?,
                project: read_name("project", row.project)?,
                name: row.name.map(|name| read_name("name", name)).transpose()?,
                labels: row.labels.0,
                spec: row.spec.0,
                cancel_requested: row.cancel_requested,
                tries: row.tries,
                last_error: row.last_error,
                backend: row.backend.map(|json| json.0),
            })
        })
        .collect()
}

/// Puts a claimed intent back, to be tried again after `seconds`.
pub async fn put_back(
    executor: impl PgExecutor<'_>,
    run: RunId,
    attempt: Attempt,
    error: Option<&str>,
    seconds: f64,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE dispatch SET claimed_until = NULL, last_error = coalesce($3, last_error),
            not_before = now() + $4::double precision * interval '1 second'
        WHERE run_id = $1 AND attempt = $2
        "#,
        run.as_uuid(),
        super::to_i32(attempt.0),
        error,
        seconds,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// A claimed intent that is put back, and why.
#[derive(Debug, Clone)]
pub struct PutBack {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub error: String,
    pub seconds: f64,
}

/// Puts claimed intents back, each to be tried again after its time, in one statement.
pub async fn put_all_back(executor: impl PgExecutor<'_>, intents: &[PutBack]) -> DbResult<()> {
    let runs: Vec<uuid::Uuid> = intents.iter().map(|one| one.run_id.as_uuid()).collect();
    let attempts: Vec<i32> = intents.iter().map(|one| super::to_i32(one.attempt.0)).collect();
    let errors: Vec<&str> = intents.iter().map(|one| one.error.as_str()).collect();
    let seconds: Vec<f64> = intents.iter().map(|one| one.seconds).collect();
    sqlx::query!(
        r#"
        UPDATE dispatch SET claimed_until = NULL, last_error = t.error, not_before = now() + t.seconds * interval '1 second'
        FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::double precision[]) AS t (run_id, attempt, error, seconds)
        WHERE dispatch.run_id = t.run_id AND dispatch.attempt = t.attempt
        "#,
        &runs,
        &attempts,
        &errors as _,
        &seconds,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Gives a claimed intent to a cluster. Returns false where it is not there to be given any more.
pub async fn give_to(conn: &mut PgConnection, run: RunId, attempt: Attempt, cluster: &str) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE dispatch SET phase = 'start', cluster = $3, claimed_until = NULL, tries = 0, last_error = NULL,
            not_before = now()
        WHERE run_id = $1 AND attempt = $2 AND phase = 'place'
        "#,
        run.as_uuid(),
        super::to_i32(attempt.0),
        cluster,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes runs that were not yet handed over away from a cluster, to be placed anew.
pub async fn take_back_from(executor: impl PgExecutor<'_>, cluster: &str) -> DbResult<u64> {
    let done = sqlx::query!(
        r#"
        UPDATE dispatch SET phase = 'place', cluster = NULL, claimed_until = NULL, not_before = now()
        WHERE cluster = $1 AND phase = 'start' AND tries = 0
        "#,
        cluster,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// An attempt that is on a cluster and not over.
#[derive(Debug, Clone)]
pub struct OpenAttempt {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub backend: BackendInfo,
}

/// The attempts that are on a cluster and not over.
pub async fn list_open(executor: impl PgExecutor<'_>, cluster: &str) -> DbResult<Vec<OpenAttempt>> {
    let rows = sqlx::query!(
        r#"
        SELECT dispatch.run_id, dispatch.attempt, run.backend AS "backend!: Json<BackendInfo>"
        FROM dispatch JOIN run ON run.id = dispatch.run_id
        WHERE dispatch.cluster = $1 AND dispatch.phase = 'watch' AND run.backend IS NOT NULL
        ORDER BY dispatch.run_id
        "#,
        cluster,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(OpenAttempt {
                run_id: read_id(row.run_id)?,
                attempt: read_attempt(row.attempt)?,
                backend: row.backend.0,
            })
        })
        .collect()
}

/// What SQL knows of an attempt that an object claims to be.
#[derive(Debug, Clone)]
pub struct ClaimedAttempt {
    pub run_id: RunId,
    pub attempt: Attempt,
    /// The object that it is pinned to.
    pub uid: Option<String>,
    pub spec: JobSpec,
}

/// The runs of these attempts that are recorded here.
pub async fn list_claimed(
    executor: impl PgExecutor<'_>,
    attempts: &[(RunId, Attempt)],
) -> DbResult<Vec<ClaimedAttempt>> {
    let (ids, numbers): (Vec<Uuid>, Vec<i32>) = attempts
        .iter()
        .map(|(run, attempt)| (run.as_uuid(), super::to_i32(attempt.0)))
        .unzip();
    let rows = sqlx::query!(
        r#"
        SELECT run.id, claimed.attempt AS "attempt!", attempt.uid AS "uid?", run.spec AS "spec: Json<JobSpec>"
        FROM UNNEST($1::uuid[], $2::integer[]) AS claimed (run_id, attempt)
            JOIN run ON run.id = claimed.run_id
            LEFT JOIN attempt ON attempt.run_id = claimed.run_id AND attempt.attempt = claimed.attempt
        "#,
        &ids,
        &numbers,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ClaimedAttempt {
                run_id: read_id(row.id)?,
                attempt: read_attempt(row.attempt)?,
                uid: row.uid,
                spec: row.spec.0,
            })
        })
        .collect()
}

/// Where the watch of a cluster may be resumed.
pub async fn find_position(executor: impl PgExecutor<'_>, cluster: &str) -> DbResult<Option<String>> {
    let position = sqlx::query_scalar!("SELECT position FROM watch_position WHERE cluster = $1", cluster)
        .fetch_optional(executor)
        .await?;
    Ok(position)
}

/// Lets go of every claim on a cluster's rows: for the replica that has just taken its lease, since whoever
/// claimed them before it cannot record what comes of it.
pub async fn drop_claims(executor: impl PgExecutor<'_>, cluster: &str) -> DbResult<()> {
    sqlx::query!(
        r#"
        WITH intents AS (UPDATE dispatch SET claimed_until = NULL WHERE cluster = $1 AND claimed_until IS NOT NULL)
        UPDATE cleanup SET claimed_until = NULL WHERE cluster = $1 AND claimed_until IS NOT NULL
        "#,
        cluster,
    )
    .execute(executor)
    .await?;
    Ok(())
}

//! Recording accepted runs: run, intent to start, history and idempotency in one transaction.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use qwex_core::{JobSpec, Project, RunId, RunName};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbResult, Json, Ts};

/// A run to be recorded.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub id: RunId,
    pub project: Project,
    pub name: Option<RunName>,
    pub labels: BTreeMap<String, String>,
    pub spec: JobSpec,
    pub spec_hash: String,
    pub created_by: String,
}

/// Records a batch in one statement. Ids that exist already are skipped.
///
/// Returns the time of recording of each run that is new.
pub async fn insert_runs(conn: &mut PgConnection, runs: &[&NewRun]) -> DbResult<HashMap<RunId, Timestamp>> {
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id.as_uuid()).collect();
    let projects: Vec<&str> = runs.iter().map(|run| run.project.as_str()).collect();
    let names: Vec<Option<&str>> = runs
        .iter()
        .map(|run| run.name.as_ref().map(RunName::as_str))
        .collect();
    let labels: Vec<Json<&BTreeMap<String, String>>> = runs.iter().map(|run| Json(&run.labels)).collect();
    let specs: Vec<Json<&JobSpec>> = runs.iter().map(|run| Json(&run.spec)).collect();
    let hashes: Vec<&str> = runs.iter().map(|run| run.spec_hash.as_str()).collect();
    let queues: Vec<Option<&str>> = runs
        .iter()
        .map(|run| run.spec.queue.as_ref().map(qwex_core::QueueName::as_str))
        .collect();
    let authors: Vec<&str> = runs.iter().map(|run| run.created_by.as_str()).collect();
    let rows = sqlx::query!(
        r#"
        WITH input AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[], $6::text[], $7::text[], $8::text[])
                AS t (id, project, name, labels, spec, spec_hash, queue, created_by)
        ), new AS (
            INSERT INTO run (id, project, name, labels, spec, spec_hash, queue, created_by, status, pending)
            SELECT id, project, name, labels, spec, spec_hash, queue, created_by, 'pending', jsonb_build_object(
                'code', 'accepted', 'message', 'recorded, not yet looked at', 'since', now())
            FROM input ORDER BY id
            ON CONFLICT (id) DO NOTHING
            RETURNING id, project, created_at, created_by
        ), intent AS (
            INSERT INTO dispatch (run_id, attempt, project) SELECT id, 1, project FROM new
        ), told AS (
            INSERT INTO run_event (run_id, seq, kind, attempt, message)
            SELECT id, 1, 'submitted', 1, 'submitted by ' || created_by FROM new
        )
        SELECT id AS "id!", created_at AS "created_at!: Ts" FROM new
        "#,
        &ids,
        &projects as _,
        &names as _,
        &labels as _,
        &specs as _,
        &hashes as _,
        &queues as _,
        &authors as _,
    )
    .fetch_all(conn)
    .await?;
    let known: HashMap<Uuid, RunId> = runs.iter().map(|run| (run.id.as_uuid(), run.id)).collect();
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((*known.get(&row.id)?, row.created_at.to_jiff())))
        .collect())
}

/// An Idempotency-Key of a submit.
#[derive(Debug, Clone)]
pub struct SubmitKey {
    pub project: Project,
    pub principal: String,
    pub key: String,
    pub request_hash: Vec<u8>,
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedKey {
    pub run_id: Uuid,
    pub request_hash: Vec<u8>,
    /// Whether this call claimed it.
    pub new: bool,
}

const ROUTE: &str = "POST /v1/runs";

/// Claims keys for runs, or tells for which runs they were claimed before; in one statement, or two where any
/// was, however many they are. Answers in the order of the claims; of equal keys the first in SQL wins.
pub async fn claim_keys(
    conn: &mut PgConnection,
    claims: &[(&SubmitKey, RunId)],
) -> DbResult<Vec<ClaimedKey>> {
    let projects: Vec<&str> = claims.iter().map(|(key, _)| key.project.as_str()).collect();
    let principals: Vec<&str> = claims.iter().map(|(key, _)| key.principal.as_str()).collect();
    let keys: Vec<&str> = claims.iter().map(|(key, _)| key.key.as_str()).collect();
    let hashes: Vec<&[u8]> = claims
        .iter()
        .map(|(key, _)| key.request_hash.as_slice())
        .collect();
    let runs: Vec<Uuid> = claims.iter().map(|(_, run)| run.as_uuid()).collect();
    let inserted = sqlx::query_scalar!(
        r#"
        INSERT INTO idempotency (project, principal, key, request_hash, run_id, route, status)
        SELECT project, principal, key, request_hash, run_id, $6, 201
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::uuid[])
            AS t (project, principal, key, request_hash, run_id)
        ORDER BY project, principal, key
        ON CONFLICT (project, principal, route, key) DO NOTHING
        RETURNING run_id AS "run_id!"
        "#,
        &projects as _,
        &principals as _,
        &keys as _,
        &hashes as _,
        &runs,
        ROUTE,
    )
    .fetch_all(&mut *conn)
    .await?;
    if inserted.len() == claims.len() {
        let ours = |(key, run): &(&SubmitKey, RunId)| ClaimedKey {
            run_id: run.as_uuid(),
            request_hash: key.request_hash.clone(),
            new: true,
        };
        return Ok(claims.iter().map(ours).collect());
    }
    let rows = sqlx::query!(
        r#"
        SELECT t.place AS "place!", run_id AS "run_id!", request_hash
        FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS t (project, principal, key, place)
            JOIN idempotency USING (project, principal, key)
        WHERE route = $4 ORDER BY t.place
        "#,
        &projects as _,
        &principals as _,
        &keys as _,
        ROUTE,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .zip(&runs)
        .map(|(row, own)| ClaimedKey {
            new: row.run_id == *own && inserted.contains(own),
            run_id: row.run_id,
            request_hash: row.request_hash,
        })
        .collect())
}

/// Gives up a key whose submit was refused.
pub async fn release_key(conn: &mut PgConnection, key: &SubmitKey) -> DbResult<()> {
    sqlx::query!(
        "DELETE FROM idempotency WHERE project = $1 AND principal = $2 AND route = $3 AND key = $4",
        key.project.as_str(),
        key.principal,
        ROUTE,
        key.key,
    )
    .execute(conn)
    .await?;
    Ok(())
}

//! What the Recorder owes to others after a run has moved: starts, clean-ups, deliveries.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbResult, Json};
use qwex_core::BackendInfo;

/// What happens to a run's intent to start.
#[derive(Debug, Serialize)]
pub struct IntentUpdate {
    pub run_id: Uuid,
    pub attempt: i32,
    /// `place` or `watch`.
    pub phase: &'static str,
    pub cluster: Option<String>,
    pub cancel_requested: bool,
    /// Not before so many seconds from now.
    pub delay_seconds: f64,
}

/// Brings intents to start up to date.
pub async fn update_intents(conn: &mut PgConnection, updates: &[IntentUpdate]) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE dispatch SET attempt = new.attempt, phase = new.phase, cluster = new.cluster,
            cancel_requested = new.cancel_requested, not_before = now() + new.delay_seconds * interval '1 second',
            claimed_until = NULL, tries = 0, last_error = NULL
        FROM jsonb_to_recordset($1) AS new (run_id uuid, attempt integer, phase text, cluster text,
            cancel_requested boolean, delay_seconds double precision)
        WHERE dispatch.run_id = new.run_id
        "#,
        Json(updates) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks intents as to be cancelled, wherever they are.
pub async fn request_cancels(conn: &mut PgConnection, runs: &[Uuid]) -> DbResult<()> {
    sqlx::query!(
        "UPDATE dispatch SET cancel_requested = true, not_before = now() WHERE run_id = ANY ($1)",
        runs
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the intents of runs that are over.
pub async fn delete_intents(conn: &mut PgConnection, runs: &[Uuid]) -> DbResult<()> {
    sqlx::query!("DELETE FROM dispatch WHERE run_id = ANY ($1)", runs)
        .execute(conn)
        .await?;
    Ok(())
}

/// An attempt that is over and whose object is to be stopped, archived and released.
#[derive(Debug, Serialize)]
pub struct NewCleanup {
    pub run_id: Uuid,
    pub attempt: i32,
    pub cluster: Option<String>,
    pub backend: BackendInfo,
    pub stop: bool,
}

pub async fn insert_cleanups(conn: &mut PgConnection, cleanups: &[NewCleanup]) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO cleanup (run_id, attempt, cluster, backend, stop)
        SELECT run_id, attempt, cluster, backend, stop
        FROM jsonb_to_recordset($1) AS new (run_id uuid, attempt integer, cluster text, backend jsonb, stop boolean)
        ON CONFLICT (run_id, attempt) DO NOTHING
        "#,
        Json(cleanups) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An endpoint that may be owed an event.
#[derive(Debug, Clone)]
pub struct Subscriber {
    pub endpoint_id: String,
    pub project: String,
    pub events: Vec<String>,
}

/// The endpoints of these projects. To a disabled one, too, an event is owed: it comes to lie with the dead, from
/// where it can be replayed.
pub async fn list_subscribers(conn: &mut PgConnection, projects: &[String]) -> DbResult<Vec<Subscriber>> {
    let rows = sqlx::query_as!(
        Subscriber,
        r#"
        SELECT id AS endpoint_id, project, events FROM webhook_endpoint
        WHERE project = ANY ($1) AND removed_at IS NULL
        "#,
        projects,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// One event owed to one endpoint.
#[derive(Debug)]
pub struct NewDelivery {
    pub id: String,
    pub endpoint_id: String,
    pub project: String,
    pub event: &'static str,
    pub run_id: Option<Uuid>,
    pub sequence: i64,
    pub body: Vec<u8>,
}

pub async fn insert_deliveries(conn: &mut PgConnection, deliveries: &[NewDelivery]) -> DbResult<()> {
    let ids: Vec<&str> = deliveries.iter().map(|one| one.id.as_str()).collect();
    let endpoints: Vec<&str> = deliveries.iter().map(|one| one.endpoint_id.as_str()).collect();
    let projects: Vec<&str> = deliveries.iter().map(|one| one.project.as_str()).collect();
    let events: Vec<&str> = deliveries.iter().map(|one| one.event).collect();
    let runs: Vec<Option<Uuid>> = deliveries.iter().map(|one| one.run_id).collect();
    let sequences: Vec<i64> = deliveries.iter().map(|one| one.sequence).collect();
    let bodies: Vec<&[u8]> = deliveries.iter().map(|one| one.body.as_slice()).collect();
    sqlx::query!(
        r#"
        INSERT INTO webhook_delivery (id, endpoint_id, project, event, run_id, sequence, body)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[], $7::bytea[])
        ON CONFLICT (endpoint_id, run_id, sequence) DO NOTHING
        "#,
        &ids as _,
        &endpoints as _,
        &projects as _,
        &events as _,
        &runs as _,
        &sequences,
        &bodies as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

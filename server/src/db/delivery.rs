//! Webhook deliveries after the Recorder wrote them: claimed, marked, listed, replayed. The rows are the outbox;
//! `outbox` inserts them.

use jiff::Timestamp;
use qwex_api::webhook::{DeliveryInfo, DeliveryStatus, WebhookEvent};
use qwex_core::RunId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::webhook::read_event;
use super::{DbError, DbResult, Ts};

/// Columns of a delivery as the owner of its endpoint sees it.
struct Row {
    id: String,
    endpoint_id: String,
    event: String,
    run_id: Option<Uuid>,
    status: String,
    tries: i32,
    last_status: Option<i32>,
    last_error: Option<String>,
    next_try_at: Ts,
    created_at: Ts,
    delivered_at: Option<Ts>,
}

impl Row {
    fn read(self) -> DbResult<DeliveryInfo> {
        let status = read_delivery_status(&self.status)?;
        let pending = status == DeliveryStatus::Pending;
        Ok(DeliveryInfo {
            id: self.id,
            webhook_id: self.endpoint_id,
            event: read_event(&self.event)?,
            run_id: self.run_id.map(read_run_id).transpose()?,
            status,
            tries: self.tries,
            last_status: self.last_status,
            last_error: self.last_error,
            next_try_at: pending.then(|| self.next_try_at.to_jiff()),
            created_at: self.created_at.to_jiff(),
            delivered_at: self.delivered_at.map(Ts::to_jiff),
        })
    }
}

fn read_run_id(id: Uuid) -> DbResult<RunId> {
    RunId::try_from(id).map_err(|_| DbError::Unreadable {
        column: "run_id",
        value: id.to_string(),
    })
}

fn read_delivery_status(word: &str) -> DbResult<DeliveryStatus> {
    [
        DeliveryStatus::Pending,
        DeliveryStatus::Delivered,
        DeliveryStatus::Dead,
    ]
    .into_iter()
    .find(|status| status.as_str() == word)
    .ok_or_else(|| DbError::Unreadable {
        column: "status",
        value: word.to_owned(),
    })
}

/// Forgets deliveries that arrived longer ago than this, at most `limit` of them. Returns how many.
pub async fn prune_delivered(
    executor: impl PgExecutor<'_>,
    older_than_seconds: f64,
    limit: i64,
) -> DbResult<u64> {
    let done = sqlx::query!(
        r#"
        DELETE FROM webhook_delivery WHERE id IN (
            SELECT id FROM webhook_delivery
            WHERE status = 'delivered' AND delivered_at < now() - make_interval(secs => $1)
            LIMIT $2 FOR UPDATE SKIP LOCKED)
        "#,
        older_than_seconds,
        limit,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// Deliveries of an endpoint, newest first, after the delivery `after`. The project is the endpoint's (`None`: any).
pub async fn list_deliveries(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
    endpoint_id: &str,
    after: Option<&str>,
    limit: i64,
) -> DbResult<Vec<DeliveryInfo>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT id, endpoint_id, event, run_id, status, tries, last_status, last_error,
            next_try_at AS "next_try_at: Ts", created_at AS "created_at: Ts", delivered_at AS "delivered_at: Ts"
        FROM webhook_delivery
        WHERE endpoint_id = $1 AND ($2::text IS NULL OR project = $2)
            AND ($3::text IS NULL OR (created_at, id) < (
                SELECT created_at, id FROM webhook_delivery WHERE id = $3 AND endpoint_id = $1))
        ORDER BY created_at DESC, id DESC LIMIT $4
        "#,
        endpoint_id,
        project,
        after,
        limit,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

/// One delivery of an endpoint. The project is the endpoint's (`None`: any).
pub async fn find_delivery(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
    endpoint_id: &str,
    id: &str,
) -> DbResult<Option<DeliveryInfo>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        SELECT id, endpoint_id, event, run_id, status, tries, last_status, last_error,
            next_try_at AS "next_try_at: Ts", created_at AS "created_at: Ts", delivered_at AS "delivered_at: Ts"
        FROM webhook_delivery WHERE id = $1 AND endpoint_id = $2 AND ($3::text IS NULL OR project = $3)
        "#,
        id,
        endpoint_id,
        project,
    )
    .fetch_optional(executor)
    .await?;
    row.map(Row::read).transpose()
}

/// Owes a delivery anew, with all its tries, from now on; `None` when there is none in sight. A try that is under way
/// is not touched.
pub async fn renew_delivery(
    executor: impl PgExecutor<'_>,
    project: Option<&str>,
    endpoint_id: &str,
    id: &str,
) -> DbResult<Option<DeliveryInfo>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        UPDATE webhook_delivery SET status = 'pending', tries = 0, next_try_at = now(), delivered_at = NULL
        WHERE id = $1 AND endpoint_id = $2 AND ($3::text IS NULL OR project = $3)
        RETURNING id, endpoint_id, event, run_id, status, tries, last_status, last_error,
            next_try_at AS "next_try_at: Ts", created_at AS "created_at: Ts", delivered_at AS "delivered_at: Ts"
        "#,
        id,
        endpoint_id,
        project,
    )
    .fetch_optional(executor)
    .await?;
    row.map(Row::read).transpose()
}

/// A delivery to be tried now, with what its endpoint needs.
#[derive(Clone)]
pub struct Claimed {
    pub id: String,
    pub endpoint_id: String,
    pub event: WebhookEvent,
    pub body: Vec<u8>,
    /// Failed tries so far.
    pub tries: i32,
    pub created_at: Timestamp,
    /// The claim itself: who marks the delivery names it.
    pub claimed_until: Timestamp,
    pub url: String,
    pub sealed_secret: Vec<u8>,
    /// The secret before a rotation, while it still signs.
    pub sealed_previous_secret: Option<Vec<u8>>,
}

/// What a claim takes.
#[derive(Debug)]
pub struct Claim<'c> {
    /// Endpoints that fail, or those that do not.
    pub failing: bool,
    /// Most deliveries.
    pub limit: i64,
    /// Most deliveries of an endpoint that is not in `room`.
    pub per_endpoint: i64,
    /// Most deliveries of these endpoints.
    pub room: &'c [(String, i64)],
    /// How long the claim holds. Longer than any try lasts.
    pub seconds: f64,
}

/// Claims deliveries that are due, in no order among endpoints, so that none is always last.
pub async fn claim_due(executor: impl PgExecutor<'_>, claim: &Claim<'_>) -> DbResult<Vec<Claimed>> {
    let (known, free): (Vec<String>, Vec<i64>) = claim.room.iter().cloned().unzip();
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT owed.id
            FROM (SELECT id, enabled FROM webhook_endpoint
                WHERE removed_at IS NULL AND (failing_since IS NOT NULL) = $1 ORDER BY random()) AS endpoint
            LEFT JOIN unnest($2::text[], $3::bigint[]) AS room (endpoint_id, free) ON room.endpoint_id = endpoint.id
            CROSS JOIN LATERAL (
                SELECT delivery.id FROM webhook_delivery AS delivery
                WHERE delivery.endpoint_id = endpoint.id AND delivery.status = 'pending'
                    AND delivery.next_try_at <= now()
                    AND (delivery.claimed_until IS NULL OR delivery.claimed_until <= now())
                    AND (endpoint.enabled OR delivery.event = 'webhook.test')
                ORDER BY delivery.next_try_at LIMIT coalesce(room.free, $4)
                FOR UPDATE SKIP LOCKED
            ) AS owed
            LIMIT $5
        )
        UPDATE webhook_delivery AS delivery SET claimed_until = now() + $6 * interval '1 second'
        FROM due, webhook_endpoint AS endpoint
        WHERE delivery.id = due.id AND endpoint.id = delivery.endpoint_id
        RETURNING delivery.id, delivery.endpoint_id, delivery.event, delivery.body, delivery.tries,
            delivery.created_at AS "created_at: Ts", delivery.claimed_until AS "claimed_until!: Ts",
            endpoint.url, endpoint.sealed_secret,
            CASE WHEN endpoint.previous_until > now() THEN endpoint.sealed_previous_secret END AS previous
        "#,
        claim.failing,
        &known,
        &free,
        claim.per_endpoint,
        claim.limit,
        claim.seconds,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Claimed {
                id: row.id,
                endpoint_id: row.endpoint_id,
                event: read_event(&row.event)?,
                body: row.body,
                tries: row.tries,
                created_at: row.created_at.to_jiff(),
                claimed_until: row.claimed_until.to_jiff(),
                url: row.url,
                sealed_secret: row.sealed_secret,
                sealed_previous_secret: row.previous,
            })
        })
        .collect()
}

/// What the last try of a delivery told.
#[derive(Debug, Clone, Copy)]
pub struct Told<'t> {
    pub status: Option<i32>,
    pub error: Option<&'t str>,
}

/// Marks a delivery as delivered. A claim that has run out does not matter: it arrived.
pub async fn mark_delivered(conn: &mut PgConnection, id: &str, told: Told<'_>) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE webhook_delivery SET status = 'delivered', delivered_at = now(), tries = tries + 1,
            claimed_until = NULL, last_status = $2, last_error = NULL
        WHERE id = $1 AND status <> 'delivered'
        "#,
        id,
        told.status,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes a failed try and when the next is due; `None`: there is none, it is dead. False when the claim has passed
/// on: whoever holds the delivery now tells.
pub async fn mark_failed(
    conn: &mut PgConnection,
    claimed: &Claimed,
    told: Told<'_>,
    retry_seconds: Option<f64>,
) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE webhook_delivery SET status = CASE WHEN $5::float8 IS NULL THEN 'dead' ELSE 'pending' END,
            tries = tries + 1, claimed_until = NULL, last_status = $3, last_error = $4,
            next_try_at = now() + coalesce($5::float8, 0) * interval '1 second'
        WHERE id = $1 AND status = 'pending' AND claimed_until = $2
        "#,
        claimed.id,
        jiff_sqlx::ToSqlx::to_sqlx(claimed.claimed_until) as _,
        told.status,
        told.error,
        retry_seconds,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Gives claims back unused, so that another replica need not wait for them to run out.
pub async fn release_claims(executor: impl PgExecutor<'_>, claims: &[(String, Timestamp)]) -> DbResult<()> {
    let ids: Vec<&str> = claims.iter().map(|(id, _)| id.as_str()).collect();
    let until: Vec<Ts> = claims
        .iter()
        .map(|(_, until)| jiff_sqlx::ToSqlx::to_sqlx(*until))
        .collect();
    sqlx::query!(
        r#"
        UPDATE webhook_delivery AS delivery SET claimed_until = NULL
        FROM unnest($1::text[], $2::timestamptz[]) AS claim (id, until)
        WHERE delivery.id = claim.id AND delivery.claimed_until = claim.until
        "#,
        &ids as _,
        &until as _,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Lays to the dead what is owed to endpoints that were disabled or removed; gives their number.
pub async fn bury_undeliverable(executor: impl PgExecutor<'_>) -> DbResult<u64> {
    let done = sqlx::query!(
        r#"
        UPDATE webhook_delivery AS delivery SET status = 'dead', claimed_until = NULL,
            last_error = CASE WHEN endpoint.removed_at IS NULL THEN 'the endpoint is disabled'
                ELSE 'the endpoint was removed' END
        FROM webhook_endpoint AS endpoint
        WHERE endpoint.id = delivery.endpoint_id AND delivery.status = 'pending'
            AND (endpoint.removed_at IS NOT NULL OR (NOT endpoint.enabled AND delivery.event <> 'webhook.test'))
        "#,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}

/// Deliveries that wait.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    pub pending: i64,
    /// Those whose time has come.
    pub due: i64,
}

pub async fn get_depth(executor: impl PgExecutor<'_>) -> DbResult<Depth> {
    let depth = sqlx::query_as!(
        Depth,
        r#"
        SELECT count(*) AS "pending!", count(*) FILTER (WHERE next_try_at <= now()) AS "due!"
        FROM webhook_delivery WHERE status = 'pending'
        "#,
    )
    .fetch_one(executor)
    .await?;
    Ok(depth)
}

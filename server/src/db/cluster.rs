//! Registered clusters.

use std::collections::BTreeMap;

use qwex_api::cluster::{ClusterInfo, ClusterStatus};
use qwex_core::{ClusterName, QueueName};
use sqlx::PgExecutor;

use super::{DbError, DbResult, Json, Ts, read_name};

/// A cluster to be registered.
#[derive(Debug, Clone)]
pub struct NewCluster {
    pub name: ClusterName,
    /// `k8s` or `local`.
    pub kind: &'static str,
    pub identity: Option<String>,
    pub sealed_kubeconfig: Option<Vec<u8>>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub default_queue: Option<QueueName>,
    pub queues: Vec<String>,
    pub version: Option<String>,
    pub created_by: String,
}

/// Registers a cluster; a removed one of the same name and identity comes back. Returns whether it did.
pub async fn insert_cluster(executor: impl PgExecutor<'_>, new: &NewCluster) -> DbResult<bool> {
    let done = sqlx::query!(
        r#"
        INSERT INTO cluster AS old (name, kind, identity, sealed_kubeconfig, context, namespace, labels, default_queue,
            queues, version, reachable, last_seen_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, true, now(), $11)
        ON CONFLICT (name) DO UPDATE SET status = 'active', sealed_kubeconfig = excluded.sealed_kubeconfig,
            context = excluded.context, namespace = excluded.namespace, labels = excluded.labels,
            default_queue = excluded.default_queue, queues = excluded.queues, version = excluded.version,
            reachable = true, message = NULL, last_seen_at = now(), generation = old.generation + 1
        WHERE old.status = 'removed' AND old.kind = excluded.kind AND old.identity IS NOT DISTINCT FROM excluded.identity
        "#,
        new.name.as_str(),
        new.kind,
        new.identity,
        new.sealed_kubeconfig,
        new.context,
        new.namespace,
        Json(&new.labels) as _,
        new.default_queue.as_ref().map(QueueName::as_str),
        &new.queues,
        new.version,
        new.created_by,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Clusters as people see them, by name; removed ones only if asked for.
pub async fn list_clusters(
    executor: impl PgExecutor<'_>,
    name: Option<&str>,
    with_removed: bool,
) -> DbResult<Vec<ClusterInfo>> {
    let rows = sqlx::query!(
        r#"
        SELECT name, kind, status, reachable, message, version, namespace, labels AS "labels: Json<BTreeMap<String, String>>",
            default_queue, queues, last_seen_at AS "last_seen_at: Ts", created_at AS "created_at: Ts", created_by,
            (SELECT count(*) FROM dispatch WHERE dispatch.cluster = cluster.name) AS "open_runs!"
        FROM cluster WHERE ($1::text IS NULL OR name = $1) AND ($2 OR status <> 'removed') ORDER BY name
        "#,
        name,
        with_removed,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ClusterInfo {
                name: read_name("name", row.name)?,
                kind: row.kind,
                status: read_cluster_status(&row.status)?,
                reachable: row.reachable,
                message: row.message,
                version: row.version,
                namespace: row.namespace,
                labels: row.labels.0,
                default_queue: row
                    .default_queue
                    .map(|name| read_name("default_queue", name))
                    .transpose()?,
                queues: row.queues,
                open_runs: row.open_runs,
                last_seen_at: row.last_seen_at.map(Ts::to_jiff),
                created_at: row.created_at.to_jiff(),
                created_by: row.created_by,
            })
        })
        .collect()
}

fn read_cluster_status(word: &str) -> DbResult<ClusterStatus> {
    match word {
        "active" => Ok(ClusterStatus::Active),
        "draining" => Ok(ClusterStatus::Draining),
        "removed" => Ok(ClusterStatus::Removed),
        other => Err(DbError::Unreadable {
            column: "cluster.status",
            value: other.to_owned(),
        }),
    }
}

/// What is needed to connect.
#[derive(Debug, Clone)]
pub struct Connection {
    pub name: ClusterName,
    pub kind: String,
    pub generation: i64,
    pub identity: Option<String>,
    pub sealed_kubeconfig: Option<Vec<u8>>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    pub default_queue: Option<QueueName>,
}

/// The clusters that are to be watched.
pub async fn list_connections(executor: impl PgExecutor<'_>) -> DbResult<Vec<Connection>> {
    let rows = sqlx::query!(
        r#"
        SELECT name, kind, generation, identity, sealed_kubeconfig, context, namespace, default_queue
        FROM cluster WHERE status <> 'removed' ORDER BY name
        "#,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Connection {
                name: read_name("name", row.name)?,
                kind: row.kind,
                generation: row.generation,
                identity: row.identity,
                sealed_kubeconfig: row.sealed_kubeconfig,
                context: row.context,
                namespace: row.namespace,
                default_queue: row
                    .default_queue
                    .map(|name| read_name("default_queue", name))
                    .transpose()?,
            })
        })
        .collect()
}

/// Sets what the server does with a cluster. Returns whether there is such a cluster.
pub async fn set_status(
    executor: impl PgExecutor<'_>,
    name: &ClusterName,
    status: ClusterStatus,
) -> DbResult<bool> {
    let done = sqlx::query!(
        "UPDATE cluster SET status = $2 WHERE name = $1 AND status <> 'removed'",
        name.as_str(),
        status.as_str(),
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes whether a cluster answers. Returns whether that is a change.
pub async fn note_reachable(
    executor: impl PgExecutor<'_>,
    name: &ClusterName,
    reachable: bool,
    message: Option<&str>,
) -> DbResult<bool> {
    let changed = sqlx::query_scalar!(
        r#"
        WITH old AS (SELECT name, reachable FROM cluster WHERE name = $1 FOR UPDATE)
        UPDATE cluster SET reachable = $2, message = $3,
            last_seen_at = CASE WHEN $2 THEN now() ELSE cluster.last_seen_at END
        FROM old WHERE cluster.name = old.name
        RETURNING old.reachable <> $2 AS "changed!"
        "#,
        name.as_str(),
        reachable,
        message,
    )
    .fetch_optional(executor)
    .await?;
    Ok(changed.unwrap_or(false))
}

/// Whether a cluster of that name takes runs.
pub async fn cluster_exists(executor: impl PgExecutor<'_>, name: &ClusterName) -> DbResult<bool> {
    let found = sqlx::query_scalar!(
        "SELECT 1 AS one FROM cluster WHERE name = $1 AND status <> 'removed'",
        name.as_str()
    )
    .fetch_optional(executor)
    .await?;
    Ok(found.is_some())
}

/// Notes the queues that a cluster has. Returns whether that is a change.
pub async fn note_queues(
    executor: impl PgExecutor<'_>,
    name: &ClusterName,
    queues: &[String],
) -> DbResult<bool> {
    let done = sqlx::query!(
        "UPDATE cluster SET queues = $2 WHERE name = $1 AND queues IS DISTINCT FROM $2",
        name.as_str(),
        queues,
    )
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

//! Reading what happened to a run: events, attempts, episodes.

use std::collections::BTreeMap;

use qwex_api::run::{AttemptInfo, EpisodeInfo};
use qwex_core::{ClusterName, EventKind, Failure, RunEvent, RunId};
use sqlx::PgExecutor;

use super::{DbResult, Json, Ts, read_attempt, read_name, read_status};

/// Events of a run after a sequence number, oldest first.
pub async fn list_events(
    executor: impl PgExecutor<'_>,
    id: RunId,
    after: i64,
    limit: i64,
) -> DbResult<Vec<RunEvent>> {
    let rows = sqlx::query!(
        r#"
        SELECT seq, at AS "at: Ts", kind, attempt, message, data
        FROM run_event WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
        "#,
        id.as_uuid(),
        after,
        limit,
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(RunEvent {
                run_id: id,
                seq: row.seq,
                at: row.at.to_jiff(),
                kind: EventKind::from_word(&row.kind).unwrap_or(EventKind::Unknown),
                attempt: read_attempt(row.attempt)?,
                message: row.message,
                data: row.data,
            })
        })
        .collect()
}

/// Attempts of a run with their episodes, oldest first.
pub async fn list_attempts(executor: impl PgExecutor<'_> + Copy, id: RunId) -> DbResult<Vec<AttemptInfo>> {
    let mut episodes = list_episodes(executor, id).await?;
    let rows = sqlx::query!(
        r#"
        SELECT attempt, status, cluster, namespace, object, uid, failure AS "failure: Json<Failure>", exit_code,
            dispatched_at AS "dispatched_at: Ts", started_at AS "started_at: Ts", finished_at AS "finished_at: Ts"
        FROM attempt WHERE run_id = $1 ORDER BY attempt
        "#,
        id.as_uuid(),
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(AttemptInfo {
                attempt: read_attempt(row.attempt)?,
                status: read_status(&row.status)?,
                cluster: row
                    .cluster
                    .map(|name| read_name::<ClusterName>("cluster", name))
                    .transpose()?,
                namespace: row.namespace,
                object: row.object,
                uid: row.uid,
                failure: row.failure.map(|json| json.0),
                exit_code: row.exit_code,
                dispatched_at: row.dispatched_at.map(Ts::to_jiff),
                started_at: row.started_at.map(Ts::to_jiff),
                finished_at: row.finished_at.map(Ts::to_jiff),
                episodes: episodes.remove(&row.attempt).unwrap_or_default(),
            })
        })
        .collect()
}

async fn list_episodes(
    executor: impl PgExecutor<'_>,
    id: RunId,
) -> DbResult<BTreeMap<i32, Vec<EpisodeInfo>>> {
    let rows = sqlx::query!(
        r#"
        SELECT attempt, episode, node, exit_code, signal, reason, started_at AS "started_at: Ts", ended_at AS "ended_at: Ts"
        FROM episode WHERE run_id = $1 ORDER BY attempt, started_at NULLS LAST, episode
        "#,
        id.as_uuid(),
    )
    .fetch_all(executor)
    .await?;
    let mut by_attempt: BTreeMap<i32, Vec<EpisodeInfo>> = BTreeMap::new();
    for row in rows {
        by_attempt.entry(row.attempt).or_default().push(EpisodeInfo {
            id: row.episode,
            node: row.node,
            exit_code: row.exit_code,
            signal: row.signal,
            reason: row.reason,
            started_at: row.started_at.map(Ts::to_jiff),
            ended_at: row.ended_at.map(Ts::to_jiff),
        });
    }
    Ok(by_attempt)
}

//! The group commit: drains what waits, writes it in one transaction, answers all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use qwex_core::{Fact, RunId, transition};
use qwex_runner::{Details, ObjectRef};
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::changes::Changes;
use super::text;
use super::{BATCH, Batch, Entry, Outcome, Placed, RecordError, RecorderConfig, distinct_runs};
use crate::db::record::{self, LockedRun, RunDetails};
use crate::db::{DbError, DbResult, dispatch, outbox};
use crate::hints::Hints;

pub(super) async fn run(
    pool: PgPool,
    hints: Hints,
    config: RecorderConfig,
    mut inbox: mpsc::Receiver<Entry>,
) {
    let mut entries = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut entries, BATCH).await > 0 {
        metrics::histogram!("qwex_recorder_batch_entries").record(entries.len() as f64);
        let began = Instant::now();
        write(&pool, &hints, &config, std::mem::take(&mut entries)).await;
        metrics::histogram!("qwex_recorder_commit_seconds").record(began.elapsed().as_secs_f64());
        metrics::gauge!("qwex_recorder_queue").set(inbox.len() as f64);
    }
}

/// Writes all as one; if that fails, each on its own, so that one bad entry harms no other.
async fn write(pool: &PgPool, hints: &Hints, config: &RecorderConfig, entries: Vec<Entry>) {
    let batches: Vec<&Batch> = entries.iter().map(|entry| &entry.batch).collect();
    match commit(pool, hints, config, &batches).await {
        Ok(outcomes) => {
            for (entry, outcomes) in entries.into_iter().zip(outcomes) {
                // The asker may have gone; the record stands all the same.
                let _ = entry.done.send(Ok(outcomes));
            }
        }
        Err(error) => {
            let alone = entries.len() == 1;
            let refusal = refusal(error);
            for entry in entries {
                let result = if alone {
                    Err(refusal.clone())
                } else {
                    write_alone(pool, hints, config, &entry.batch).await
                };
                let _ = entry.done.send(result);
            }
        }
    }
}

async fn write_alone(
    pool: &PgPool,
    hints: &Hints,
    config: &RecorderConfig,
    batch: &Batch,
) -> Result<Vec<Outcome>, RecordError> {
    let outcomes = commit(pool, hints, config, &[batch]).await.map_err(refusal)?;
    Ok(outcomes.into_iter().next().unwrap_or_default())
}

fn refusal(error: DbError) -> RecordError {
    match error {
        DbError::Fenced { lease, epoch } => {
            tracing::info!(lease, epoch, "refused a batch of a lease that has passed on");
            RecordError::Fenced
        }
        other => {
            tracing::warn!(
                error = &other as &dyn std::error::Error,
                "a batch was not recorded"
            );
            RecordError::Database(Arc::new(other))
        }
    }
}

async fn commit(
    pool: &PgPool,
    hints: &Hints,
    config: &RecorderConfig,
    batches: &[&Batch],
) -> DbResult<Vec<Vec<Outcome>>> {
    let mut tx = pool.begin().await?;
    for guard in batches
        .iter()
        .filter_map(|batch| batch.guard.as_ref())
        .collect::<HashSet<_>>()
    {
        record::check_lease(&mut tx, guard).await?;
    }
    let ids: Vec<Uuid> = distinct_runs(batches).iter().map(RunId::as_uuid).collect();
    let locked = if ids.is_empty() {
        Vec::new()
    } else {
        record::lock_runs(&mut tx, &ids).await?
    };
    let mut runs: HashMap<RunId, LockedRun> = locked.into_iter().map(|run| (run.id, run)).collect();
    let mut changes = Changes::with_known(known_episodes(&mut tx, batches).await?);
    for placed in batches.iter().flat_map(|batch| &batch.placements) {
        place(&mut tx, placed, &mut runs, &mut changes).await?;
    }
    let outcomes = batches
        .iter()
        .map(|batch| apply(batch, &mut runs, &mut changes))
        .collect();
    write_changes(&mut tx, &runs, &mut changes, config).await?;
    let details: Vec<RunDetails> = batches
        .iter()
        .flat_map(|batch| &batch.details)
        .filter_map(|(object, known)| details_of(object, known, runs.get(&object.run_id)?))
        .collect();
    if !details.is_empty() {
        record::store_details(&mut tx, &details).await?;
    }
    for (cluster, position) in batches.iter().filter_map(|batch| batch.position.as_ref()) {
        record::store_position(&mut tx, cluster.as_str(), &position.0).await?;
    }
    tx.commit().await?;
    hints.tell(&changes.told(), changes.has_work()).await;
    Ok(outcomes)
}

/// What is kept beside the end of a run; nothing unless the run ended with this very object.
fn details_of(object: &ObjectRef, known: &Details, run: &LockedRun) -> Option<RunDetails> {
    let state = &run.state;
    let is_its_end =
        state.is_terminal() && state.attempt == object.attempt && state.uid() == Some(&object.uid);
    is_its_end.then(|| RunDetails {
        id: run.id.as_uuid(),
        image_digest: known.image_digest.as_deref().map(text::cleaned),
        host: known.host.as_deref().map(text::cleaned),
        usage: known.usage.clone(),
    })
}

/// Gives a run that still waits for a cluster to the chosen one, and keeps the reasoning.
async fn place(
    tx: &mut PgConnection,
    placed: &Placed,
    runs: &mut HashMap<RunId, LockedRun>,
    changes: &mut Changes,
) -> DbResult<()> {
    let Some(run) = runs.get_mut(&placed.run_id) else {
        return Ok(());
    };
    if run.state.attempt != placed.attempt || run.state.is_terminal() {
        return Ok(());
    }
    if let Some(cluster) = &placed.report.chosen
        && !dispatch::give_to(tx, placed.run_id, placed.attempt, cluster.as_str()).await?
    {
        return Ok(());
    }
    record::store_placement(tx, placed.run_id, &placed.report).await?;
    changes.note_placement(run, &placed.report);
    Ok(())
}

/// Only batches that tell of episodes pay for the look.
async fn known_episodes(tx: &mut PgConnection, batches: &[&Batch]) -> DbResult<Vec<record::KnownEpisode>> {
    let told = batches.iter().flat_map(|batch| &batch.observations);
    let of_episodes =
        told.filter(|seen| matches!(seen.fact, Fact::EpisodeStarted { .. } | Fact::EpisodeEnded { .. }));
    let ids: BTreeSet<Uuid> = of_episodes.map(|seen| seen.run_id.as_uuid()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    record::list_known_episodes(tx, &ids.into_iter().collect::<Vec<_>>()).await
}

/// Applies a batch to the runs in memory.
fn apply(batch: &Batch, runs: &mut HashMap<RunId, LockedRun>, changes: &mut Changes) -> Vec<Outcome> {
    batch
        .observations
        .iter()
        .map(|seen| {
            let Some(run) = runs.get_mut(&seen.run_id) else {
                tracing::info!(run = %seen.run_id, "an observation of a run that is not recorded here");
                metrics::counter!("qwex_observations_total", "step" => "unknown_run").increment(1);
                return Outcome::UnknownRun;
            };
            let seen = text::clean(seen.clone());
            let unpinned = run.state.uid().is_none() && !run.state.is_terminal();
            if let Some(pin) = batch
                .seen_on
                .as_ref()
                .and_then(|on| on.pin(&seen))
                .filter(|_| unpinned)
            {
                let step = transition::next(&run.state, &pin);
                changes.take(run, &pin, &step);
            }
            let step = transition::next(&run.state, &seen);
            changes.take(run, &seen, &step);
            let (status, attempt) = (run.state.status, run.state.attempt);
            match step {
                transition::Step::Move(_) => Outcome::Moved { status, attempt },
                transition::Step::Stay(_) | transition::Step::Reject(_) => {
                    Outcome::Unmoved { status, attempt }
                }
            }
        })
        .collect()
}

async fn write_changes(
    tx: &mut PgConnection,
    runs: &HashMap<RunId, LockedRun>,
    changes: &mut Changes,
    config: &RecorderConfig,
) -> DbResult<()> {
    let updates = changes.run_updates(runs);
    if !updates.is_empty() {
        record::update_runs(tx, &updates).await?;
    }
    if !changes.attempts.is_empty() {
        let attempts: Vec<_> = std::mem::take(&mut changes.attempts).into_values().collect();
        record::upsert_attempts(tx, &attempts).await?;
    }
    if !changes.episodes.is_empty() {
        let episodes: Vec<_> = std::mem::take(&mut changes.episodes).into_values().collect();
        record::upsert_episodes(tx, &episodes).await?;
    }
    if !changes.events.is_empty() {
        record::insert_events(tx, &changes.events).await?;
    }
    if !changes.intents.is_empty() {
        let intents: Vec<_> = std::mem::take(&mut changes.intents).into_values().collect();
        outbox::update_intents(tx, &intents).await?;
    }
    if !changes.cancels.is_empty() {
        outbox::request_cancels(tx, &changes.cancels).await?;
    }
    if !changes.ended.is_empty() {
        outbox::delete_intents(tx, &changes.ended).await?;
    }
    if !changes.cleanups.is_empty() {
        outbox::insert_cleanups(tx, &changes.cleanups).await?;
    }
    if !changes.milestones.is_empty() {
        let projects: BTreeSet<String> = changes
            .milestones
            .iter()
            .map(|one| one.project.to_string())
            .collect();
        let projects: Vec<String> = projects.into_iter().collect();
        let subscribers = outbox::list_subscribers(tx, &projects).await?;
        let deliveries = super::payload::deliveries(&changes.milestones, &subscribers, &config.public_base);
        if !deliveries.is_empty() {
            outbox::insert_deliveries(tx, &deliveries).await?;
        }
    }
    Ok(())
}

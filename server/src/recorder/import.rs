//! Recording a run that ended elsewhere, as it was told. No observation moves it: it is over at its insert, in one
//! transaction with its history and the index of its log, and nothing of it is owed to a cluster or an endpoint.

use std::sync::Arc;

use jiff::Timestamp;
use qwex_api::run::AttemptInfo;
use qwex_core::{EventKind, Imported, LogSummary, Run, RunEvent};
use serde_json::json;
use uuid::Uuid;

use super::{RecordError, Recorder};
use crate::db::DbResult;
use crate::db::import::{self, ImportedChunk, ImportedRun, ImportedStream};
use crate::db::record::{self, AttemptUpdate, EpisodeUpdate, NewEvent};
use crate::db::{to_i32, upload};

/// A run that ended elsewhere, checked, with its log in the archive.
#[derive(Debug)]
pub struct Import {
    pub run: Run,
    pub logs: LogSummary,
    pub finished_at: Timestamp,
    pub imported: Imported,
    pub attempts: Vec<AttemptInfo>,
    pub events: Vec<RunEvent>,
    pub streams: Vec<ImportedStream>,
    pub chunks: Vec<ImportedChunk>,
    /// Whose chunks they are until then.
    pub upload: Uuid,
}

/// What became of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportOutcome {
    Recorded,
    /// A run of that id is recorded, and nothing changed.
    Known,
    /// Its chunks may be gone, and nothing changed.
    GivenUp,
}

impl Recorder {
    /// Records a run that ended elsewhere, durably and whole or not at all.
    ///
    /// # Errors
    /// Nothing was written.
    pub async fn import(&self, import: &Import) -> Result<ImportOutcome, RecordError> {
        let refused = |error| RecordError::Database(Arc::new(error));
        let outcome = self.insert(import).await.map_err(refused)?;
        if outcome == ImportOutcome::Recorded {
            metrics::counter!("qwex_runs_imported_total").increment(1);
            self.hints.tell(&[import.run.id], false).await;
        }
        Ok(outcome)
    }

    async fn insert(&self, whole: &Import) -> DbResult<ImportOutcome> {
        let id = whole.run.id.as_uuid();
        let events = events(whole);
        let mut tx = self.pool.begin().await?;
        if !import::insert_run(&mut tx, &run_row(whole, events.len())).await? {
            return Ok(ImportOutcome::Known);
        }
        if !upload::end(&mut tx, whole.upload).await? {
            return Ok(ImportOutcome::GivenUp);
        }
        let attempts: Vec<AttemptUpdate> = whole
            .attempts
            .iter()
            .map(|attempt| attempt_row(whole, attempt))
            .collect();
        record::upsert_attempts(&mut tx, &attempts).await?;
        record::upsert_episodes(&mut tx, &episode_rows(whole)).await?;
        record::insert_events(&mut tx, &events).await?;
        import::insert_streams(&mut tx, id, &whole.streams).await?;
        import::insert_chunks(&mut tx, id, &whole.chunks).await?;
        tx.commit().await?;
        Ok(ImportOutcome::Recorded)
    }
}

/// Cut, not rounded, to what Postgres keeps: the same instant is then the same on both sides.
fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn run_row(whole: &Import, events: usize) -> ImportedRun {
    let run = whole.run.clone();
    ImportedRun {
        id: run.id.as_uuid(),
        project: run.project.to_string(),
        name: run.name.map(|name| name.to_string()),
        labels: run.labels,
        spec_hash: run.spec.hash(),
        queue: run.spec.queue.as_ref().map(ToString::to_string),
        spec: run.spec,
        status: run.status.as_str(),
        failure: run.failure,
        exit_code: run.exit_code,
        attempt: to_i32(run.attempt.0),
        backend: run.backend,
        flags: run.flags.iter().map(|flag| flag.as_str()).collect(),
        logs: whole.logs.clone(),
        created_at: kept(run.created_at),
        dispatched_at: run.dispatched_at.map(kept),
        started_at: run.started_at.map(kept),
        finished_at: kept(whole.finished_at),
        created_by: run.created_by,
        provenance: run.provenance,
        usage: run.usage,
        imported: whole.imported.clone(),
        event_seq: i64::try_from(events).unwrap_or(i64::MAX),
    }
}

fn attempt_row(whole: &Import, told: &AttemptInfo) -> AttemptUpdate {
    AttemptUpdate {
        run_id: whole.run.id.as_uuid(),
        attempt: to_i32(told.attempt.0),
        status: told.status.as_str(),
        cluster: told.cluster.as_ref().map(ToString::to_string),
        namespace: told.namespace.clone(),
        object: told.object.clone(),
        uid: told.uid.clone(),
        failure: told.failure.clone(),
        exit_code: told.exit_code,
        dispatched_at: told.dispatched_at.map(kept),
        started_at: told.started_at.map(kept),
        finished_at: told.finished_at.map(kept),
    }
}

fn episode_rows(whole: &Import) -> Vec<EpisodeUpdate> {
    let told = whole
        .attempts
        .iter()
        .flat_map(|attempt| attempt.episodes.iter().map(|episode| (attempt.attempt, episode)));
    told.map(|(attempt, episode)| EpisodeUpdate {
        run_id: whole.run.id.as_uuid(),
        attempt: to_i32(attempt.0),
        episode: episode.id.clone(),
        node: episode.node.clone(),
        exit_code: episode.exit_code,
        signal: episode.signal,
        reason: episode.reason.clone(),
        started_at: episode.started_at.map(kept),
        ended_at: episode.ended_at.map(kept),
    })
    .collect()
}

/// What was told, and behind it who brought it here.
fn events(whole: &Import) -> Vec<NewEvent> {
    let id = whole.run.id.as_uuid();
    let mut events: Vec<NewEvent> = whole
        .events
        .iter()
        .map(|event| NewEvent {
            run_id: id,
            seq: event.seq,
            at: kept(event.at),
            kind: event.kind,
            attempt: to_i32(event.attempt.0),
            message: event.message.clone(),
            data: if event.data.is_null() {
                json!({})
            } else {
                event.data.clone()
            },
        })
        .collect();
    let Imported { at, by } = &whole.imported;
    events.push(NewEvent {
        run_id: id,
        seq: i64::try_from(events.len() + 1).unwrap_or(i64::MAX),
        at: kept(*at),
        kind: EventKind::Imported,
        attempt: to_i32(whole.run.attempt.0),
        message: format!("brought here by {by}; it ended elsewhere"),
        data: json!({ "by": by }),
    });
    events
}

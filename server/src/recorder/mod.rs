//! The only writer of run state: takes observations, applies [`qwex_core::transition::next`], and writes what
//! moved together with history, attempts, episodes, the intents that follow and the deliveries owed, in one
//! transaction a batch. A run that ended elsewhere is no observation: [`Recorder::import`] writes it down as told.
//!
//! Called by `watch`, `dispatch` and `runs`. Never talks to a backend and never to the network but Postgres.

mod changes;
mod history;
mod import;
mod payload;
mod text;
mod writer;

use std::sync::Arc;

use qwex_api::run::PlacementReport;
use qwex_core::{Attempt, BackendInfo, BackendKind, ClusterName, Fact, Observation, RunId, RunStatus};
use qwex_runner::{Details, ObjectRef, WatchPosition};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

pub use crate::db::record::LeaseGuard;
pub use import::{Import, ImportOutcome};

use crate::db::{DbError, Pools};
use crate::hints::Hints;

/// Most entries that one transaction takes.
const BATCH: usize = 500;
/// Entries that may wait before senders are held back.
const QUEUE: usize = 4_096;

/// What is to be recorded as one: all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub observations: Vec<Observation>,
    /// What is known of attempts beside how they ended. Counts once the end is recorded, with these observations or before,
    /// and if the run ended with that attempt.
    pub details: Vec<(ObjectRef, Details)>,
    /// The lease under which it was seen; a batch of a holder that lost it is refused.
    pub guard: Option<LeaseGuard>,
    /// How far the watch has come with these observations.
    pub position: Option<(ClusterName, WatchPosition)>,
    /// Decisions about clusters.
    pub placements: Vec<Placed>,
    /// Where it was seen. What is seen of an attempt that is not pinned yet pins it: the reply to its submit may
    /// never be recorded.
    pub seen_on: Option<SeenOn>,
}

/// A backend on which objects are seen.
#[derive(Debug, Clone)]
pub struct SeenOn {
    pub kind: BackendKind,
    pub cluster: ClusterName,
    pub namespace: Option<String>,
}

impl SeenOn {
    /// What pins the attempt that `seen` is about to the object that it names.
    fn pin(&self, seen: &Observation) -> Option<Observation> {
        let uid = seen.uid.clone()?;
        let backend = BackendInfo {
            kind: self.kind,
            cluster: Some(self.cluster.clone()),
            address: None,
            namespace: self.namespace.clone(),
            object: seen.run_id.object_name(seen.attempt),
            uid: Some(uid),
        };
        Some(Observation {
            fact: Fact::Dispatched { backend },
            ..seen.clone()
        })
    }
}

/// A decision about one attempt, with its reasoning.
#[derive(Debug, Clone)]
pub struct Placed {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub report: PlacementReport,
}

impl From<Observation> for Batch {
    fn from(observation: Observation) -> Self {
        Self {
            observations: vec![observation],
            ..Self::default()
        }
    }
}

/// What became of one observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The run is now so.
    Moved { status: RunStatus, attempt: Attempt },
    /// Nothing new, or refused; the run is so.
    Unmoved { status: RunStatus, attempt: Attempt },
    /// There is no such run.
    UnknownRun,
}

/// Why a batch is not recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// The lease of the batch has passed on: stop watching.
    #[error("the lease has passed on")]
    Fenced,
    /// Nothing was written; the same batch may be recorded later.
    #[error("the batch was not written")]
    Database(#[source] Arc<DbError>),
    #[error("the Recorder has stopped")]
    Stopped,
}

struct Entry {
    batch: Batch,
    done: oneshot::Sender<Result<Vec<Outcome>, RecordError>>,
}

/// Handle of the Recorder of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    entries: mpsc::Sender<Entry>,
    /// For runs that ended elsewhere: each is a transaction of its own, beside the batches.
    pool: PgPool,
    hints: Hints,
}

/// Settings of the Recorder.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Base of the links in webhook payloads, without a slash at the end.
    pub public_base: String,
}

impl Recorder {
    /// Starts the Recorder. It ends when the last handle is dropped.
    #[must_use]
    pub fn start(pools: &Pools, hints: Hints, config: RecorderConfig) -> Self {
        let (entries, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(pools.record.clone(), hints.clone(), config, inbox));
        Self {
            entries,
            pool: pools.work.clone(),
            hints,
        }
    }

    /// Records a batch durably. Outcomes come in the order of the observations.
    ///
    /// # Errors
    /// Nothing of the batch was written.
    pub async fn record(&self, batch: impl Into<Batch>) -> Result<Vec<Outcome>, RecordError> {
        let (done, answer) = oneshot::channel();
        let entry = Entry {
            batch: batch.into(),
            done,
        };
        self.entries.send(entry).await.map_err(|_| RecordError::Stopped)?;
        answer.await.map_err(|_| RecordError::Stopped)?
    }

    /// Records one observation durably.
    ///
    /// # Errors
    /// It was not written.
    pub async fn record_one(&self, observation: Observation) -> Result<Outcome, RecordError> {
        let outcomes = self.record(observation).await?;
        Ok(outcomes.first().copied().unwrap_or(Outcome::UnknownRun))
    }
}

impl RecordError {
    /// Whether the same batch may be recorded later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Fenced => false,
            Self::Database(error) => error.is_passing(),
            Self::Stopped => true,
        }
    }
}

/// The runs of a batch, each once.
fn distinct_runs(batch: &[&Batch]) -> Vec<RunId> {
    let seen = batch
        .iter()
        .flat_map(|batch| batch.observations.iter().map(|seen| seen.run_id));
    let placed = batch
        .iter()
        .flat_map(|batch| batch.placements.iter().map(|placed| placed.run_id));
    let detailed = batch
        .iter()
        .flat_map(|batch| batch.details.iter().map(|(object, _)| object.run_id));
    let mut ids: Vec<RunId> = seen.chain(placed).chain(detailed).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

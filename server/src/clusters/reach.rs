//! Whether a cluster can be seen, told to people and to the runs on it; and what its watch needs from SQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use qwex_core::{ClusterName, Fact, Observation};
use qwex_runner::{Handle, RunnerError, WatchPosition};
use tokio::sync::Mutex;

use crate::db::{Pools, cluster, dispatch};
use crate::recorder::{Batch, LeaseGuard, Recorder};

const UNKNOWN: u8 = 0;
const SEEN: u8 = 1;
const LOST: u8 = 2;

/// A cluster that answers is noted as seen this often.
const NOTE: Duration = Duration::from_secs(30);

/// The sight of one cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reach {
    pools: Pools,
    name: ClusterName,
    sight: Arc<AtomicU8>,
    noted: Arc<Mutex<Option<Instant>>>,
}

impl Reach {
    #[must_use]
    pub fn new(pools: Pools, name: ClusterName) -> Self {
        Self {
            pools,
            name,
            sight: Arc::new(AtomicU8::new(UNKNOWN)),
            noted: Arc::default(),
        }
    }

    /// The cluster answered.
    pub async fn seen(&self, recorder: &Recorder, guard: &LeaseGuard) {
        let before = self.sight.swap(SEEN, Ordering::Relaxed);
        let mut noted = self.noted.lock().await;
        if before == SEEN && noted.is_some_and(|at| at.elapsed() < NOTE) {
            return;
        }
        *noted = Some(Instant::now());
        drop(noted);
        self.note(true, None).await;
        if before != SEEN {
            self.tell(recorder, guard, &Fact::Reachable).await;
        }
    }

    /// The cluster did not answer, or refused us. Says nothing about its runs.
    pub async fn lost(&self, recorder: &Recorder, guard: &LeaseGuard, error: &RunnerError) {
        if !error.is_blind() {
            return;
        }
        let message = error.to_string();
        self.note(false, Some(&message)).await;
        if self.sight.swap(LOST, Ordering::Relaxed) != LOST {
            metrics::counter!("qwex_cluster_lost_total", "cluster" => self.name.to_string()).increment(1);
            self.tell(recorder, guard, &Fact::Unreachable { message }).await;
        }
    }

    /// The cluster could not even be connected; the message says why.
    pub async fn refused(&self, message: &str) {
        self.note(false, Some(message)).await;
    }

    async fn note(&self, reachable: bool, message: Option<&str>) {
        let noted = cluster::note_reachable(&self.pools.work, &self.name, reachable, message).await;
        if let Err(error) = noted {
            tracing::warn!(cluster = %self.name, error = &error as &dyn std::error::Error, "reachability was not noted");
        }
    }

    async fn tell(&self, recorder: &Recorder, guard: &LeaseGuard, fact: &Fact) {
        let open = self.open_attempts().await;
        for part in open.chunks(500) {
            let observations = part.iter().map(|handle| Observation {
                run_id: handle.run_id,
                attempt: handle.attempt,
                uid: handle.backend.uid.clone(),
                at: jiff::Timestamp::now(),
                fact: fact.clone(),
            });
            let batch = Batch {
                observations: observations.collect(),
                guard: Some(guard.clone()),
                ..Batch::default()
            };
            if let Err(error) = recorder.record(batch).await {
                tracing::warn!(cluster = %self.name, error = &error as &dyn std::error::Error, "runs were not told");
                return;
            }
        }
    }

    /// Where the watch may be resumed; none if SQL cannot say.
    pub async fn position(&self) -> Option<WatchPosition> {
        match dispatch::find_position(&self.pools.work, self.name.as_str()).await {
            Ok(position) => position.map(WatchPosition),
            Err(error) => {
                tracing::warn!(cluster = %self.name, error = &error as &dyn std::error::Error, "no position; a full list serves");
                None
            }
        }
    }

    /// The attempts that SQL believes to be on the cluster and not over.
    pub async fn open_attempts(&self) -> Vec<Handle> {
        match dispatch::list_open(&self.pools.work, self.name.as_str()).await {
            Ok(open) => open
                .into_iter()
                .map(|one| Handle {
                    run_id: one.run_id,
                    attempt: one.attempt,
                    backend: one.backend,
                })
                .collect(),
            Err(error) => {
                tracing::warn!(cluster = %self.name, error = &error as &dyn std::error::Error, "open attempts cannot be read");
                Vec::new()
            }
        }
    }
}

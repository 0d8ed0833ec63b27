//! Whether a cluster can be seen, told to people and to the runs on it; and what its watch needs from SQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use qwex_core::{ClusterName, Fact, JobSpec, Observation};
use qwex_runner::{Claim, Handle, RunnerError, WatchPosition};
use tokio::sync::Mutex;

use super::Backend;
use crate::db::dispatch::ClaimedAttempt;
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

/// Whether an object is the one that it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ours,
    Stranger { why: &'static str },
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

    /// Judges objects that claim to be ours by what is recorded of their runs; `None` if SQL cannot say.
    pub async fn judge(&self, backend: &Backend, claims: Vec<Claim>) -> Option<Vec<(Claim, Verdict)>> {
        let attempts: Vec<_> = claims
            .iter()
            .map(|claim| (claim.object.run_id, claim.object.attempt))
            .collect();
        let known = match dispatch::list_claimed(&self.pools.work, &attempts).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(cluster = %self.name, error = &error as &dyn std::error::Error, "objects cannot be told from strangers");
                return None;
            }
        };
        let known: HashMap<_, _> = known.iter().map(|one| ((one.run_id, one.attempt), one)).collect();
        let judged = claims.into_iter().map(|claim| {
            let recorded = known.get(&(claim.object.run_id, claim.object.attempt));
            let verdict = verdict(backend, &claim, recorded.copied());
            (claim, verdict)
        });
        Some(judged.collect())
    }
}

/// The object that an attempt is pinned to is ours, and no other. Before that, its name and the hash of its spec
/// must be those of the Job that we would make.
fn verdict(backend: &Backend, claim: &Claim, recorded: Option<&ClaimedAttempt>) -> Verdict {
    let stranger = |why| Verdict::Stranger { why };
    let Some(recorded) = recorded else {
        return stranger("no such run is recorded here");
    };
    match &recorded.uid {
        Some(uid) if *uid == claim.object.uid.0 => return Verdict::Ours,
        Some(_) => return stranger("the attempt has another object"),
        None => {}
    }
    if claim.name != claim.object.run_id.object_name(claim.object.attempt) {
        return stranger("its name is not that of the attempt");
    }
    let made_from = |spec: &JobSpec| claim.spec_hash.as_ref() == Some(&spec.hash());
    // The cluster's default queue may have changed since it was made.
    if made_from(&backend.spec_for(&recorded.spec)) || made_from(&recorded.spec) {
        return Verdict::Ours;
    }
    stranger("it was made from another spec")
}

//! Hints that something changed, within this process and, by NOTIFY, among replicas. A hint may be lost or
//! come for nothing: who waits on one looks into SQL again at least every second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qwex_core::RunId;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::db::hint;

/// Handle of the hints of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hints {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    runs: Mutex<HashMap<RunId, watch::Sender<u64>>>,
    work: watch::Sender<u64>,
}

impl Hints {
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            shared: Arc::new(Shared {
                pool,
                runs: Mutex::default(),
                work: watch::channel(0).0,
            }),
        }
    }

    /// Wakes whenever the run may have changed.
    #[must_use]
    pub fn subscribe(&self, run: RunId) -> watch::Receiver<u64> {
        let mut runs = self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() > 1_024 {
            runs.retain(|_, sender| sender.receiver_count() > 0);
        }
        runs.entry(run).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Wakes whenever there may be work to place, to dispatch, to clean up or to deliver; also for what was told
    /// since the last look.
    #[must_use]
    pub fn subscribe_work(&self) -> watch::Receiver<u64> {
        self.shared.work.subscribe()
    }

    /// Wakes those who wait in this process.
    pub fn wake(&self, runs: &[RunId], work: bool) {
        let mut known = self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for run in runs {
            if let Some(sender) = known.get(run) {
                if sender.receiver_count() == 0 {
                    known.remove(run);
                } else {
                    sender.send_modify(|count| *count += 1);
                }
            }
        }
        drop(known);
        if work {
            self.shared.work.send_modify(|count| *count += 1);
        }
    }

    /// Wakes those who wait in any replica.
    pub async fn tell(&self, runs: &[RunId], work: bool) {
        self.wake(runs, work);
        let told = async {
            hint::notify_runs(&self.shared.pool, runs).await?;
            if work {
                hint::notify_work(&self.shared.pool).await
            } else {
                Ok(())
            }
        };
        if let Err(error) = told.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a hint was not told; polling serves"
            );
        }
    }

    /// Hears the hints of other replicas until `stop`; reconnects for ever.
    pub async fn listen(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = self.hear() => heard,
            };
            if let Err(error) = heard {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the hint connection broke; polling serves"
                );
            }
            metrics::counter!("qwex_hint_reconnects_total").increment(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn hear(&self) -> crate::db::DbResult<()> {
        let mut listener = hint::listen(&self.shared.pool).await?;
        loop {
            // `None`: the connection was lost and made anew; whatever was told meanwhile is lost.
            match listener.try_recv().await? {
                Some(told) if told.channel() == hint::RUNS => {
                    let runs: Vec<RunId> = told
                        .payload()
                        .split(',')
                        .filter_map(|id| id.parse().ok())
                        .collect();
                    self.wake(&runs, false);
                }
                Some(_) | None => self.wake(&[], true),
            }
        }
    }
}

/// Without a hint, SQL is looked at this often.
const POLL: Duration = Duration::from_secs(1);

/// Paces a loop over SQL: the next round comes with a hint or after a second.
pub struct Rounds {
    work: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Rounds {
    #[must_use]
    pub fn new(hints: &Hints, stop: &CancellationToken) -> Self {
        Self {
            work: hints.subscribe_work(),
            stop: stop.clone(),
        }
    }

    /// Waits for a hint, a second, or the end. Returns whether to go on.
    pub async fn next(&mut self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            // An error means that the hints are gone with the server.
            _ = self.work.changed() => true,
            () = tokio::time::sleep(POLL) => true,
        }
    }
}

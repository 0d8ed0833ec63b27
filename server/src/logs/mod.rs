//! The log archive: follows every stream live from its start, stores raw bytes in packed chunks, seals them
//! with a verdict, and reads them back by one cursor, live and archived.
//!
//! `watch` and `dispatch` call [`Archive`]'s writing half for clusters whose lease this replica holds; `http`
//! reads. Bytes never go into SQL, only their index. How a log stream fares never decides how a run ended.

mod chunk;
mod cursor;
mod follower;
mod health;
mod import;
mod lines;
mod read;
mod seal;
mod store;
mod tail;
mod trouble;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use qwex_api::log::LogStreamInfo;
use qwex_core::{Attempt, ClusterName, EpisodeId, RunId};
use qwex_runner::{Handle, LogSource, RunnerError};
use tokio_util::sync::CancellationToken;

pub use cursor::{Cursor, CursorError};
pub use health::Failing;
pub use import::{ImportLogError, ImportedLog};
pub use lines::LineSplitter;
pub use read::{LogPiece, LogStream, LogsError, ReadOptions};
pub use store::{ChunkStore, StoreError};
pub use upload::Upload;

use crate::clusters::Backend;
use crate::db::{DbResult, Pools, log};
use crate::hints::Hints;
use crate::recorder::{LeaseGuard, Recorder};
use tail::Tail;

const NUMBERING_TRIES: u32 = 5;

/// Names a stream before it has its number.
type SourceKey = (RunId, Attempt, EpisodeId, String);

fn key_of(source: &LogSource) -> SourceKey {
    (
        source.run_id,
        source.attempt,
        source.episode.clone(),
        source.stream.clone(),
    )
}

/// A stream that this replica follows.
#[derive(Debug, Clone)]
struct Followed {
    cluster: ClusterName,
    tail: Tail,
    stop: CancellationToken,
}

/// Handle of the archive of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    pools: Pools,
    store: ChunkStore,
    recorder: Recorder,
    hints: Hints,
    followed: Arc<Mutex<HashMap<SourceKey, Followed>>>,
}

impl Archive {
    #[must_use]
    pub fn new(pools: &Pools, store: ChunkStore, recorder: Recorder, hints: Hints) -> Self {
        Self {
            pools: pools.clone(),
            store,
            recorder,
            hints,
            followed: Arc::default(),
        }
    }

    fn with_followed<T>(&self, act: impl FnOnce(&mut HashMap<SourceKey, Followed>) -> T) -> T {
        act(&mut self.followed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows a stream until it ends, from where the archive has it. A stream that is followed is left alone.
    pub async fn follow(&self, guard: &LeaseGuard, backend: &Backend, source: LogSource) {
        let key = key_of(&source);
        if self.with_followed(|followed| followed.contains_key(&key)) {
            return;
        }
        if let Err(error) = self.try_follow(guard, backend, source).await {
            tracing::warn!(run = %key.0, error = &error as &dyn std::error::Error, "a log is not followed yet; the clean-up asks again");
        }
    }

    async fn try_follow(&self, guard: &LeaseGuard, backend: &Backend, source: LogSource) -> DbResult<()> {
        self.ensure_stream(&source, &backend.name).await?;
        let rows = log::list_streams(&self.pools.work, source.run_id, Some(source.attempt)).await?;
        let key = key_of(&source);
        let Some(row) = rows
            .into_iter()
            .find(|row| key_of(&row.source) == key && !row.is_sealed())
        else {
            return Ok(());
        };
        let tail = Tail::new(row.position.clone());
        let stop = CancellationToken::new();
        let followed = Followed {
            cluster: backend.name.clone(),
            tail: tail.clone(),
            stop: stop.clone(),
        };
        let new = self.with_followed(|all| match all.contains_key(&key) {
            true => false,
            false => all.insert(key.clone(), followed).is_none(),
        });
        if new {
            let follower = follower::Follower::new(self.clone(), guard.clone(), backend.clone(), row, tail);
            let archive = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = follower.run() => {}
                }
                archive.with_followed(|all| all.remove(&key));
            });
        }
        Ok(())
    }

    /// Two streams of one run that begin at once may be given the same number: the second tries again.
    async fn ensure_stream(&self, source: &LogSource, cluster: &ClusterName) -> DbResult<()> {
        for _ in 0..NUMBERING_TRIES {
            match log::ensure_stream(&self.pools.work, source, cluster.as_str()).await {
                Err(error) if error.constraint() == Some("log_stream_pkey") => {}
                result => return result,
            }
        }
        log::ensure_stream(&self.pools.work, source, cluster.as_str()).await
    }

    /// Stops following what a cluster writes: another replica goes on.
    pub async fn leave(&self, cluster: &ClusterName) {
        self.with_followed(|all| {
            for followed in all.values().filter(|one| one.cluster == *cluster) {
                followed.stop.cancel();
            }
        });
    }

    /// Whether every log of an ended attempt is sealed; sets about it where it is not.
    ///
    /// # Errors
    /// The cluster or the database cannot say now.
    pub async fn finish(
        &self,
        guard: &LeaseGuard,
        backend: &Backend,
        handle: &Handle,
    ) -> Result<bool, RunnerError> {
        let unavailable = |error: crate::db::DbError| RunnerError::Failed {
            message: error.to_string(),
        };
        let rows = || log::list_streams(&self.pools.work, handle.run_id, Some(handle.attempt));
        let known = rows().await.map_err(unavailable)?;
        if known.is_empty() || known.iter().any(|row| !row.is_sealed()) {
            let sources = match backend.watcher.list_logs(handle).await {
                Ok(sources) => sources,
                Err(RunnerError::NotFound { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            let lost = known
                .into_iter()
                .filter(|row| !row.is_sealed())
                .map(|row| row.source);
            for source in sources.into_iter().chain(lost) {
                self.follow(guard, backend, source).await;
            }
        }
        let sealed = rows()
            .await
            .map_err(unavailable)?
            .iter()
            .all(log::StreamRow::is_sealed);
        if sealed {
            self.summarise(handle.run_id)
                .await
                .map_err(|error| RunnerError::Failed {
                    message: error.to_string(),
                })?;
        }
        Ok(sealed)
    }

    /// The streams of a run, in the order in which they are read.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn list_streams(&self, run: RunId) -> DbResult<Vec<LogStreamInfo>> {
        let rows = log::list_streams(&self.pools.api, run, None).await?;
        Ok(rows.into_iter().map(log::StreamRow::into_info).collect())
    }

    fn tail_of(&self, source: &LogSource) -> Option<Tail> {
        self.with_followed(|all| all.get(&key_of(source)).map(|followed| followed.tail.clone()))
    }
}

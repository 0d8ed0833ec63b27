//! What is written last: verdicts, hashes, the summary of a run's whole log.

use futures::TryStreamExt;
use qwex_core::{Attempt, Fact, LogSummary, LogVerdict, Observation, RunId};
use qwex_runner::{LogSource, RunnerError};
use sha2::{Digest, Sha256};

use super::{Archive, StoreError};
use crate::db::log::{self, ChunkRow};
use crate::db::{DbError, DbResult};

/// Why a stream does not get on now.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("its backend does not give it")]
    Backend(#[from] RunnerError),
    #[error("it cannot be archived")]
    Store(#[from] StoreError),
    #[error("its index cannot be written")]
    Database(#[from] DbError),
}

impl LogError {
    /// Whether another replica goes on with it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Database(DbError::Fenced { .. }))
    }
}

/// Chunks looked up at once.
const PAGE: i64 = 200;

impl Archive {
    /// Every chunk of a stream from an offset on, in order.
    pub(super) fn chunks(
        &self,
        run: RunId,
        ordinal: i32,
        from: u64,
    ) -> impl futures::Stream<Item = DbResult<ChunkRow>> + Send + use<> {
        let pool = self.pools.api.clone();
        async_stream::try_stream! {
            let mut at = from;
            loop {
                let page = log::list_chunks(&pool, run, ordinal, at, PAGE).await?;
                let more = page.len() as i64 == PAGE;
                for chunk in page {
                    at = chunk.start + chunk.length;
                    yield chunk;
                }
                if !more {
                    break;
                }
            }
        }
    }

    /// SHA-256 over the archived bytes of these streams, one behind the other, lower-case hex.
    pub(super) async fn hash_streams(&self, run: RunId, ordinals: &[i32]) -> Result<String, LogError> {
        let mut hash = Sha256::new();
        for ordinal in ordinals {
            let mut chunks = std::pin::pin!(self.chunks(run, *ordinal, 0));
            while let Some(row) = chunks.try_next().await? {
                hash.update(&self.store.get(&row.object_key).await?.bytes);
            }
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Why bytes of a stream are missing; empty if none are.
    pub(super) async fn gaps(
        &self,
        run: RunId,
        ordinal: i32,
        trailing: Option<String>,
    ) -> DbResult<Vec<String>> {
        let mut gaps = Vec::new();
        let mut chunks = std::pin::pin!(self.chunks(run, ordinal, 0));
        while let Some(row) = chunks.try_next().await? {
            gaps.extend(row.gap_before);
        }
        gaps.extend(trailing);
        Ok(gaps)
    }

    /// Flags a run whose log is not whole.
    pub(super) async fn tell_incomplete(&self, source: &LogSource, message: String) {
        let observation = Observation {
            run_id: source.run_id,
            attempt: Attempt::FIRST,
            uid: None,
            at: jiff::Timestamp::now(),
            fact: Fact::LogsIncomplete { message },
        };
        if let Err(error) = self.recorder.record_one(observation).await {
            tracing::warn!(run = %source.run_id, error = &error as &dyn std::error::Error, "the verdict stands on the stream alone");
        }
    }

    /// Writes the summary of a run's log once the run is over and every stream is sealed.
    pub(super) async fn summarise(&self, run: RunId) -> Result<(), LogError> {
        let streams = log::list_streams(&self.pools.work, run, None).await?;
        if streams.iter().any(|stream| !stream.is_sealed()) {
            return Ok(());
        }
        let sha256 = match streams.as_slice() {
            [only] => only.sha256.clone().unwrap_or_default(),
            several => {
                self.hash_streams(run, &several.iter().map(|one| one.ordinal).collect::<Vec<_>>())
                    .await?
            }
        };
        let summary = LogSummary {
            verdict: worst(streams.iter().filter_map(|stream| stream.verdict)),
            bytes: streams.iter().map(|stream| stream.bytes).sum(),
            lines: streams.iter().map(|stream| stream.lines).sum(),
            sha256,
        };
        if log::store_summary(&self.pools.work, run, &summary).await? {
            self.hints.tell(&[run], false).await;
        }
        Ok(())
    }
}

pub(super) fn worst(verdicts: impl Iterator<Item = LogVerdict>) -> LogVerdict {
    verdicts.max().unwrap_or(LogVerdict::Complete)
}

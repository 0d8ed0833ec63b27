//! Follows one stream: reads it from its backend, shows it to live readers, archives it in chunks, seals it.
//! Whatever breaks, it goes on from what is durable; nothing is read faster than it can be stored.

use std::time::Duration;

use futures::StreamExt;
use qwex_api::log::ArchiveTrouble;
use qwex_core::LogVerdict;
use qwex_runner::{LogItem, LogPosition};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Archive;
use super::seal::LogError;
use super::tail::Tail;
use super::trouble::trouble_of;
use crate::clusters::Backend;
use crate::db::log::{self, ChunkRow, StreamRow};
use crate::db::record::{self, LeaseGuard};

/// A chunk is sealed at this size…
const CHUNK_BYTES: usize = 1 << 20;
/// …or this age, whichever comes first.
const CHUNK_AGE: Duration = Duration::from_secs(2);
/// Longest pause before a broken stream is opened again.
const PAUSE: Duration = Duration::from_secs(10);
/// That the archive refuses is written down so often while it goes on.
const TELL: Duration = Duration::from_secs(30);

pub(super) struct Follower {
    archive: Archive,
    guard: LeaseGuard,
    backend: Backend,
    row: StreamRow,
    tail: Tail,
    position: LogPosition,
    lines: u64,
    /// Of every byte that is archived; `None` where an earlier follower archived some.
    hash: Option<Sha256>,
    /// What was last written down of the archive's refusals, and when.
    told: Option<(ArchiveTrouble, Instant)>,
}

/// How a stream ended.
enum Over {
    /// Every byte was delivered.
    Whole,
    /// It was cut; go on from the position.
    Cut,
}

impl Follower {
    pub fn new(archive: Archive, guard: LeaseGuard, backend: Backend, row: StreamRow, tail: Tail) -> Self {
        let hash = (row.bytes == 0).then(Sha256::new);
        Self {
            archive,
            guard,
            backend,
            position: row.position.clone(),
            lines: row.lines,
            row,
            tail,
            hash,
            told: None,
        }
    }

    /// Runs until the stream is sealed, or the lease has passed on.
    pub async fn run(mut self) {
        let mut failures: u32 = 0;
        loop {
            let before = self.position.offset;
            let over = self.read().await;
            match over {
                Ok(Over::Whole) => match self.seal().await {
                    Ok(()) => return,
                    Err(error) => self.note(&error).await,
                },
                Ok(Over::Cut) => {}
                Err(error) if error.is_final() => return self.note(&error).await,
                Err(error) => self.note(&error).await,
            }
            failures = if self.position.offset > before {
                0
            } else {
                failures.saturating_add(1)
            };
            metrics::counter!("qwex_log_restarts_total").increment(1);
            tokio::time::sleep((Duration::from_millis(100) * failures.min(100)).min(PAUSE)).await;
        }
    }

    async fn note(&mut self, error: &LogError) {
        tracing::warn!(run = %self.row.source.run_id, stream = self.row.ordinal, offset = self.position.offset, error = error as &dyn std::error::Error, "a log stream goes on later");
        let LogError::Store(error) = error else { return };
        let trouble = trouble_of(error);
        let is_told = |(told, at): (ArchiveTrouble, Instant)| told == trouble && at.elapsed() < TELL;
        if self.told.is_some_and(is_told) {
            return;
        }
        match self.archive.tell_refused(&self.guard, &self.row, trouble).await {
            Ok(()) => self.told = Some((trouble, Instant::now())),
            Err(error) => {
                tracing::warn!(run = %self.row.source.run_id, error = &error as &dyn std::error::Error, "nobody is told that a log waits");
            }
        }
    }

    async fn read(&mut self) -> Result<Over, LogError> {
        // Nothing more is read while what was read cannot be stored.
        self.flush().await?;
        let from = self.tail_position();
        let mut stream = self
            .backend
            .watcher
            .read_log(&self.row.source, from, true)
            .await?;
        let mut due: Option<Instant> = None;
        loop {
            let item = tokio::select! {
                () = sleep_until(due) => {
                    self.flush().await?;
                    due = None;
                    continue;
                }
                item = stream.next() => item,
            };
            match item {
                Some(Ok(LogItem::Chunk(chunk))) => {
                    let waiting = self.tail.push(&chunk);
                    due = due.or_else(|| Some(Instant::now() + CHUNK_AGE));
                    if waiting >= CHUNK_BYTES {
                        self.flush().await?;
                        due = None;
                    }
                }
                Some(Ok(LogItem::Gap { message })) => {
                    self.flush().await?;
                    self.tail.mark_gap(&message);
                }
                Some(Ok(LogItem::End)) => {
                    self.flush().await?;
                    return Ok(Over::Whole);
                }
                Some(Err(error)) => {
                    self.flush().await?;
                    return Err(error.into());
                }
                None => {
                    self.flush().await?;
                    return Ok(Over::Cut);
                }
            }
        }
    }

    /// Behind the last byte that was read: what waits in the tail is not read twice.
    fn tail_position(&self) -> LogPosition {
        self.tail
            .ready()
            .map_or_else(|| self.position.clone(), |ready| ready.position)
    }

    /// Archives what waits: object first, then its row, then it counts.
    async fn flush(&mut self) -> Result<(), LogError> {
        let Some(ready) = self.tail.ready() else {
            return Ok(());
        };
        let (run, ordinal) = (self.row.source.run_id, self.row.ordinal);
        let began = std::time::Instant::now();
        let (object_key, stored_length) = self
            .archive
            .store
            .put(run, ordinal, ready.start, ready.chunk.clone())
            .await?;
        let length = ready.chunk.bytes.len();
        let lines = ready.chunk.lines.len() as u64;
        let row = ChunkRow {
            start: ready.start,
            length: length as u64,
            lines,
            first_at: ready.chunk.lines.first().map(|line| line.time),
            last_at: ready.chunk.lines.last().map(|line| line.time),
            object_key,
            stored_length,
            gap_before: ready.gap_before,
        };
        let mut tx = self
            .archive
            .pools
            .work
            .begin()
            .await
            .map_err(crate::db::DbError::from)?;
        record::check_lease(&mut tx, &self.guard).await?;
        log::insert_chunk(&mut tx, run, ordinal, &row, self.lines, &ready.position).await?;
        tx.commit().await.map_err(crate::db::DbError::from)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&ready.chunk.bytes);
        }
        self.told = None;
        self.lines += lines;
        self.position = ready.position;
        self.tail.archived(length);
        self.archive.hints.wake(&[run], false);
        metrics::histogram!("qwex_log_flush_seconds").record(began.elapsed().as_secs_f64());
        metrics::counter!("qwex_log_raw_bytes_total").increment(length as u64);
        metrics::counter!("qwex_log_stored_bytes_total").increment(stored_length);
        Ok(())
    }

    async fn seal(&mut self) -> Result<(), LogError> {
        let (run, ordinal) = (self.row.source.run_id, self.row.ordinal);
        let sha256 = match self.hash.take() {
            Some(hash) => hex::encode(hash.finalize()),
            None => self.archive.hash_streams(run, &[ordinal]).await?,
        };
        let gaps = self.archive.gaps(run, ordinal, self.tail.trailing_gap()).await?;
        let verdict = if gaps.is_empty() {
            LogVerdict::Complete
        } else {
            LogVerdict::Gap
        };
        let message = (!gaps.is_empty()).then(|| gaps.join("; "));
        log::seal_stream(
            &self.archive.pools.work,
            run,
            ordinal,
            verdict,
            &sha256,
            message.as_deref(),
        )
        .await?;
        if let Some(message) = message {
            self.archive.tell_incomplete(&self.row.source, message).await;
        }
        self.tail.wake();
        self.archive.hints.tell(&[run], true).await;
        Ok(())
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

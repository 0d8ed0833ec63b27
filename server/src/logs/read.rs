//! Reads a run's log from a cursor on: archived chunks, then the live tail, then the next stream.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use qwex_core::{Attempt, RunId};
use qwex_runner::LineTime;
use tokio::sync::watch;

use super::chunk::Chunk;
use super::cursor::Cursor;
use super::{Archive, StoreError};
use crate::db::log::{self, StreamRow};
use crate::db::{DbError, DbResult};

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    pub cursor: Option<Cursor>,
    /// Go on until the log gets no more bytes.
    pub follow: bool,
    /// Begin at the last so many lines.
    pub tail: Option<u64>,
    pub attempt: Option<Attempt>,
    /// `output`, `stdout` or `stderr`.
    pub stream: Option<String>,
    /// Only lines that began at or after this time.
    pub since: Option<Timestamp>,
    /// Only lines that began before this time.
    pub until: Option<Timestamp>,
}

/// Bytes in a row of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece {
    pub attempt: Attempt,
    pub stream: String,
    /// Where `bytes` begin.
    pub at: Cursor,
    pub bytes: Bytes,
    /// One entry for each line that begins in `bytes`.
    pub lines: Vec<LineTime>,
    /// Bytes are missing before `bytes`; why.
    pub gap: Option<String>,
}

impl LogPiece {
    /// Where to go on behind this piece.
    #[must_use]
    pub fn next(&self) -> Cursor {
        Cursor {
            ordinal: self.at.ordinal,
            offset: self.at.offset + self.bytes.len() as u64,
        }
    }
}

/// Why a log cannot be read now.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("the archive does not give it")]
    Store(#[from] StoreError),
    #[error("its index cannot be read")]
    Database(#[from] DbError),
}

pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogPiece, LogsError>> + Send>>;

/// A reader of what another replica follows looks at least this often.
const LOOK: Duration = Duration::from_millis(500);
/// A reader whose stream is followed here is woken by every byte; this only backs that up.
const LOOK_LIVE: Duration = Duration::from_secs(2);

impl Archive {
    /// Reads a run's log. The caller has checked that the asker may see the run.
    #[must_use]
    pub fn read(&self, run: RunId, options: ReadOptions) -> LogStream {
        let archive = self.clone();
        Box::pin(async_stream::try_stream! {
            let mut hint = archive.hints.subscribe(run);
            let mut at = archive.begin(run, &options).await?;
            loop {
                // Asked before reading: whatever is written later shows in the next round.
                let settled = log::is_settled(&archive.pools.api, run).await?;
                let streams = log::list_streams(&archive.pools.api, run, None).await?;
                let mut live = None;
                let begin = at.ordinal;
                for stream in streams.iter().filter(|one| one.ordinal >= begin) {
                    if stream.ordinal > at.ordinal {
                        at = Cursor { ordinal: stream.ordinal, offset: 0 };
                    }
                    if !wanted(stream, &options) {
                        continue;
                    }
                    let mut pieces = std::pin::pin!(archive.read_stream(run, stream, at, &options));
                    while let Some(piece) = pieces.try_next().await? {
                        at = piece.next();
                        yield piece;
                    }
                    if !stream.is_sealed() {
                        live = archive.tail_of(&stream.source).map(|tail| tail.subscribe());
                        break;
                    }
                }
                if settled || !options.follow {
                    break;
                }
                wait(&mut hint, live).await;
            }
        })
    }

    /// Where a read begins.
    async fn begin(&self, run: RunId, options: &ReadOptions) -> DbResult<Cursor> {
        if let Some(cursor) = options.cursor {
            return Ok(cursor);
        }
        let Some(mut wanted_lines) = options.tail else {
            return Ok(Cursor::default());
        };
        let streams = log::list_streams(&self.pools.api, run, None).await?;
        for stream in streams.iter().rev().filter(|one| wanted(one, options)) {
            let live = self
                .tail_of(&stream.source)
                .and_then(|tail| tail.read(stream.bytes));
            let live_lines = live.as_ref().map_or(0, |(chunk, _)| chunk.lines.len() as u64);
            if stream.lines + live_lines < wanted_lines {
                wanted_lines -= stream.lines + live_lines;
                continue;
            }
            let offset = match live {
                Some((chunk, _)) if live_lines >= wanted_lines => {
                    stream.bytes + skip_lines(&chunk, live_lines - wanted_lines)
                }
                Some(_) | None => {
                    self.tail_offset(run, stream.ordinal, wanted_lines - live_lines)
                        .await?
                }
            };
            return Ok(Cursor {
                ordinal: stream.ordinal,
                offset,
            });
        }
        Ok(Cursor::default())
    }

    /// Offset of the last `lines` archived lines of a stream.
    async fn tail_offset(&self, run: RunId, ordinal: i32, lines: u64) -> DbResult<u64> {
        let Some((start, too_many)) = log::find_tail(&self.pools.api, run, ordinal, lines).await? else {
            return Ok(0);
        };
        let rows = log::list_chunks(&self.pools.api, run, ordinal, start, 1).await?;
        let Some(row) = rows.first() else { return Ok(start) };
        match self.store.get(&row.object_key).await {
            Ok(chunk) => Ok(start + skip_lines(&chunk, too_many)),
            // The read itself meets and tells the same fault.
            Err(_) => Ok(start),
        }
    }

    /// Archived chunks from a cursor on, then what waits in the tail.
    fn read_stream<'a>(
        &'a self,
        run: RunId,
        stream: &'a StreamRow,
        from: Cursor,
        options: &'a ReadOptions,
    ) -> impl Stream<Item = Result<LogPiece, LogsError>> + Send + 'a {
        let piece = move |at: u64, chunk: Chunk, gap: Option<String>| LogPiece {
            attempt: stream.source.attempt,
            stream: stream.source.stream.clone(),
            at: Cursor {
                ordinal: stream.ordinal,
                offset: at,
            },
            bytes: chunk.bytes,
            lines: chunk.lines,
            gap,
        };
        async_stream::try_stream! {
            let mut at = from.offset;
            let mut chunks = std::pin::pin!(self.chunks(run, stream.ordinal, at));
            while let Some(row) = chunks.try_next().await? {
                let before = row.last_at.zip(options.since).is_some_and(|(last, since)| last < since);
                if before {
                    at = row.start + row.length;
                    continue;
                }
                let chunk = self.store.get(&row.object_key).await?;
                let skip = usize::try_from(at.saturating_sub(row.start)).unwrap_or(usize::MAX);
                let gap = row.gap_before.filter(|_| skip == 0);
                at = row.start + row.length;
                yield piece(row.start + skip as u64, chunk.behind(skip), gap);
            }
            // Between the look at the index and this, the tail may have moved on: then the next round shows it.
            if let Some((chunk, gap)) = self.tail_of(&stream.source).and_then(|tail| tail.read(at)) {
                yield piece(at, chunk, gap);
            }
        }
    }
}

fn wanted(stream: &StreamRow, options: &ReadOptions) -> bool {
    options
        .attempt
        .is_none_or(|attempt| stream.source.attempt == attempt)
        && options
            .stream
            .as_ref()
            .is_none_or(|name| stream.source.stream == *name)
}

/// Offset of the line behind the first `lines` lines of a chunk.
fn skip_lines(chunk: &Chunk, lines: u64) -> u64 {
    let at = usize::try_from(lines)
        .ok()
        .and_then(|lines| chunk.lines.get(lines));
    at.map_or(chunk.bytes.len() as u64, |line| line.at_byte as u64)
}

async fn wait(hint: &mut watch::Receiver<u64>, live: Option<watch::Receiver<u64>>) {
    let look = if live.is_some() { LOOK_LIVE } else { LOOK };
    let live = async {
        match live {
            Some(mut live) => {
                // An error means that the follower is gone: the index has the rest.
                let _ = live.changed().await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = live => {}
        _ = hint.changed() => {}
        () = tokio::time::sleep(look) => {}
    }
}

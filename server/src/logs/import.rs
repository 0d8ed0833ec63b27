//! Taking in the log of a run that ended elsewhere: bytes as they come, cut into chunks, hashed, put into the archive.
//! Their index is written by the Recorder, with the run: until then they are an [`Upload`]'s, which gives them up.

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use qwex_api::log::LogStreamInfo;
use qwex_core::{LogSummary, LogVerdict, RunId};
use qwex_runner::LineTime;
use sha2::{Digest, Sha256};

use super::chunk::Chunk;
use super::seal::worst;
use super::upload::Upload;
use super::{Archive, StoreError};
use crate::db::DbError;
use crate::db::import::{ImportedChunk, ImportedStream};
use crate::db::to_i32;

/// Raw bytes of a chunk, as of a log that is followed.
const CHUNK_BYTES: usize = 1 << 20;

/// Why a log is not taken in. `E` is how its bytes may fail to come.
#[derive(Debug, thiserror::Error)]
pub enum ImportLogError<E> {
    #[error("its bytes did not come")]
    Body(E),
    #[error("the log ended after {got} bytes; the record tells of {told}")]
    Short { got: u64, told: u64 },
    #[error("more bytes came than the {told} that the record tells of")]
    Long { told: u64 },
    #[error("the SHA-256 of the bytes is {got}; the record says {told}")]
    OtherBytes { got: String, told: String },
    #[error("it cannot be archived")]
    Store(#[from] StoreError),
    #[error("its upload cannot be written down")]
    Database(#[from] DbError),
    /// It was silent for longer than uploads are kept.
    #[error("it was given up meanwhile")]
    GivenUp,
}

/// A log in the archive, and what is to be written of it.
#[derive(Debug)]
pub struct ImportedLog {
    pub summary: LogSummary,
    pub streams: Vec<ImportedStream>,
    pub chunks: Vec<ImportedChunk>,
    /// Whose objects they are until they belong to a run.
    pub upload: Upload,
}

impl Archive {
    /// Archives the bytes of `streams`, one behind the other, and checks them against `told`. All lines bear the time
    /// `at`: the files they come from hold none.
    ///
    /// # Errors
    /// Other bytes came than were told, or the archive refuses. What was archived is removed then.
    pub async fn take_in<E>(
        &self,
        run: RunId,
        told: &LogSummary,
        streams: &[LogStreamInfo],
        at: Timestamp,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<ImportedLog, ImportLogError<E>> {
        let mut input = Input::new(body, told.bytes);
        let mut hash = Sha256::new();
        let mut taken = ImportedLog {
            summary: told.clone(),
            streams: Vec::with_capacity(streams.len()),
            chunks: Vec::new(),
            upload: Upload::begin(self, run).await?,
        };
        for (ordinal, stream) in (0..).zip(streams) {
            let row = take_stream(ordinal, (stream, at), &mut input, &mut hash, &mut taken).await?;
            taken.streams.push(row);
        }
        if input.more().await? {
            return Err(ImportLogError::Long { told: told.bytes });
        }
        let got = hex::encode(hash.finalize());
        if got != told.sha256 {
            return Err(ImportLogError::OtherBytes {
                got,
                told: told.sha256.clone(),
            });
        }
        taken.summary.lines = taken.streams.iter().map(|stream| stream.lines).sum();
        taken.summary.verdict = told
            .verdict
            .max(worst(streams.iter().filter_map(|stream| stream.verdict)));
        Ok(taken)
    }
}

async fn take_stream<E>(
    ordinal: i32,
    (told, at): (&LogStreamInfo, Timestamp),
    input: &mut Input<impl Stream<Item = Result<Bytes, E>> + Unpin>,
    whole: &mut Sha256,
    taken: &mut ImportedLog,
) -> Result<ImportedStream, ImportLogError<E>> {
    let (mut start, mut lines, mut begins) = (0, 0, true);
    let mut hash = Sha256::new();
    while start < told.bytes {
        let bytes = input.take(told.bytes - start).await?;
        whole.update(&bytes);
        hash.update(&bytes);
        let length = bytes.len() as u64;
        let times = times(&bytes, begins, at);
        begins = bytes.ends_with(b"\n");
        let count = times.len() as u64;
        let is_any = (count > 0).then_some(at);
        let chunk = Chunk { bytes, lines: times };
        let (object_key, stored_length) = taken.upload.put(ordinal, start, chunk).await?;
        if !taken.upload.touch().await? {
            return Err(ImportLogError::GivenUp);
        }
        taken.chunks.push(ImportedChunk {
            ordinal,
            start,
            length,
            first_line: lines,
            lines: count,
            first_at: is_any,
            last_at: is_any,
            object_key,
            stored_length,
        });
        start += length;
        lines += count;
    }
    Ok(ImportedStream {
        ordinal,
        attempt: to_i32(told.attempt.0),
        episode: told.episode.clone(),
        stream: told.stream.clone(),
        bytes: told.bytes,
        lines,
        verdict: told.verdict.unwrap_or(LogVerdict::Complete).as_str(),
        sha256: hex::encode(hash.finalize()),
        message: told.message.clone(),
    })
}

/// The lines that begin in these bytes, all of one time.
fn times(bytes: &[u8], begins: bool, time: Timestamp) -> Vec<LineTime> {
    let ends = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .filter(|at| *at < bytes.len());
    let first = begins.then_some(0);
    first
        .into_iter()
        .chain(ends)
        .map(|at_byte| LineTime { at_byte, time })
        .collect()
}

/// Bytes as they come, handed out in pieces of at most a chunk.
struct Input<S> {
    body: S,
    waiting: BytesMut,
    taken: u64,
    told: u64,
}

impl<S, E> Input<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// `told`: bytes that should come in all.
    fn new(body: S, told: u64) -> Self {
        Self {
            body,
            waiting: BytesMut::new(),
            taken: 0,
            told,
        }
    }

    /// The next bytes: a whole chunk, or all that is `left` of a stream.
    async fn take(&mut self, left: u64) -> Result<Bytes, ImportLogError<E>> {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        while self.waiting.len() < wanted {
            if !self.pull().await? {
                return Err(ImportLogError::Short {
                    got: self.taken + self.waiting.len() as u64,
                    told: self.told,
                });
            }
        }
        self.taken += wanted as u64;
        Ok(self.waiting.split_to(wanted).freeze())
    }

    /// Whether bytes are left that nobody took.
    async fn more(&mut self) -> Result<bool, ImportLogError<E>> {
        while self.waiting.is_empty() {
            if !self.pull().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn pull(&mut self) -> Result<bool, ImportLogError<E>> {
        let next = self.body.try_next().await.map_err(ImportLogError::Body)?;
        if let Some(bytes) = &next {
            self.waiting.extend_from_slice(bytes);
        }
        Ok(next.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test]
    async fn bytes_are_handed_out_in_the_pieces_that_are_asked_for() {
        let parts = ["ab", "", "cdef"].map(|part| Ok::<_, ()>(Bytes::from(part)));
        let mut input = Input::new(stream::iter(parts), 10);
        assert_eq!(input.take(3).await.unwrap(), "abc");
        assert!(input.more().await.unwrap());
        assert_eq!(input.take(2).await.unwrap(), "de");
        let short = input.take(5).await.unwrap_err();
        assert_eq!(
            short.to_string(),
            "the log ended after 6 bytes; the record tells of 10"
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_is_no_end() {
        let parts = [Ok(Bytes::from("a")), Err("cut")];
        let mut input = Input::new(stream::iter(parts), 2);
        assert!(matches!(input.take(2).await, Err(ImportLogError::Body("cut"))));
    }

    #[test]
    fn lines_are_counted_over_the_cuts_of_chunks() {
        let at = Timestamp::UNIX_EPOCH;
        let starts = |bytes: &[u8], begins| {
            let lines = times(bytes, begins, at);
            lines.iter().map(|line| line.at_byte).collect::<Vec<_>>()
        };
        assert_eq!(starts(b"one\ntwo", true), [0, 4]);
        assert_eq!(starts(b"rest\nthree\n", false), [5]);
        assert_eq!(starts(b"\n\n", true), [0, 1]);
    }
}

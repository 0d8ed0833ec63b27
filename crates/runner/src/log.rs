//! Raw log bytes on their way from a backend, with what is needed to resume without a hole or a repeat.

use bytes::Bytes;
use jiff::Timestamp;
use qwex_core::{Attempt, EpisodeId, RunId};
use serde::{Deserialize, Serialize};

/// One stream of bytes that an episode writes: (attempt, pod UID, container, restart).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogSource {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub episode: EpisodeId,
    /// `output` where both streams are one (containers, embedded clusters), else `stdout` or `stderr`.
    pub stream: String,
    /// The backend's own address of the stream (`namespace/pod/container/restart`, a file path).
    pub locator: String,
}

/// Where to go on reading. Opaque but for `offset`; stored beside what was archived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// Raw bytes delivered so far.
    pub offset: u64,
    /// The backend's own mark (a timestamp and the count of lines that carry it, for Kubernetes).
    #[serde(default)]
    pub mark: Option<String>,
}

/// When a line began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineTime {
    /// Byte offset of the line's first byte within the chunk.
    pub at_byte: usize,
    /// The backend's clock, else the time of reading.
    pub time: Timestamp,
}

impl LineTime {
    /// One for each line that begins in `bytes`, all at the same time; `starts_line` tells whether the first byte is
    /// the first of its line.
    #[must_use]
    pub fn of_lines(bytes: &[u8], starts_line: bool, time: Timestamp) -> Vec<Self> {
        let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let behind = newlines.map(|(at, _)| at + 1).filter(|at| *at < bytes.len());
        let first = starts_line.then_some(0);
        first
            .into_iter()
            .chain(behind)
            .map(|at_byte| Self { at_byte, time })
            .collect()
    }
}

/// Raw bytes in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    pub bytes: Bytes,
    /// One entry for each line that begins in `bytes`, in order.
    pub lines: Vec<LineTime>,
    /// The position after `bytes`.
    pub position: LogPosition,
}

/// What a log stream yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    Chunk(LogChunk),
    /// Bytes are missing here and cannot be had any more; the message says which and why.
    Gap {
        message: String,
    },
    /// The source has ended and every byte before was delivered. Last item of a whole stream; a stream
    /// that stops without it was cut and may be resumed.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_the_first_byte_of_each_line() {
        let at = |bytes: &[u8], first| -> Vec<usize> {
            let starts = LineTime::of_lines(bytes, first, Timestamp::UNIX_EPOCH);
            starts.into_iter().map(|line| line.at_byte).collect()
        };
        assert_eq!(at(b"a\nb\n", true), [0, 2]);
        assert_eq!(at(b"rest\nb", false), [5]);
        assert_eq!(at(b"\n\n", true), [0, 1]);
    }
}

//! Collects messages of an engine into chunks with the begin of each line.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use qwex_runner::{LineTime, LogChunk, LogPosition};

/// A chunk in the making.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: BytesMut,
    lines: Vec<LineTime>,
    /// The last byte that was taken ended no line.
    within_line: bool,
}

impl Lines {
    /// Goes on behind a byte that ended a line, or did not.
    pub fn behind(last: Option<u8>) -> Self {
        Self {
            within_line: last.is_some_and(|byte| byte != b'\n'),
            ..Self::default()
        }
    }

    /// Takes bytes that were written at `time`.
    pub fn push(&mut self, bytes: &[u8], time: Timestamp) {
        for (at, byte) in bytes.iter().enumerate() {
            if !self.within_line {
                self.lines.push(LineTime {
                    at_byte: self.bytes.len() + at,
                    time,
                });
            }
            self.within_line = *byte != b'\n';
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub fn is_within_line(&self) -> bool {
        self.within_line
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The chunk, if there is anything in it.
    pub fn take(&mut self, position: LogPosition) -> Option<LogChunk> {
        if self.bytes.is_empty() {
            return None;
        }
        let bytes: Bytes = self.bytes.split().freeze();
        Some(LogChunk {
            bytes,
            lines: std::mem::take(&mut self.lines),
            position,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_where_the_last_one_ended() {
        let mut lines = Lines::behind(Some(b'x'));
        lines.push(b"rest\n", Timestamp::UNIX_EPOCH);
        lines.push(b"a", Timestamp::UNIX_EPOCH);
        lines.push(b"b\n\nc", Timestamp::UNIX_EPOCH);
        let chunk = lines.take(LogPosition::default()).unwrap();
        assert_eq!(chunk.bytes.as_ref(), b"rest\nab\n\nc");
        let starts: Vec<usize> = chunk.lines.iter().map(|line| line.at_byte).collect();
        assert_eq!(starts, [5, 8, 9]);
        assert!(lines.take(LogPosition::default()).is_none());
    }
}

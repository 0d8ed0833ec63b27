//! Cuts pieces of a log into lines for JSON readers, each with the cursor behind it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use qwex_api::log::LogLine;

use super::cursor::Cursor;
use super::read::{LogPiece, ReadOptions};

/// A line without an end is told in parts of this size.
const PART: usize = 64 * 1024;

/// Collects bytes until a line is whole. Feed it every piece in order, then [`LineSplitter::rest`].
#[derive(Debug, Default)]
pub struct LineSplitter {
    held: Vec<u8>,
    /// What `held` belongs to; `None` while nothing is held.
    begun: Option<Begun>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct Begun {
    piece: LogPiece,
    at: Timestamp,
    /// Cursor behind the held bytes.
    next: Cursor,
}

impl LineSplitter {
    #[must_use]
    pub fn new(options: &ReadOptions) -> Self {
        Self {
            since: options.since,
            until: options.until,
            ..Self::default()
        }
    }

    /// The lines that a piece completes.
    pub fn push(&mut self, piece: &LogPiece) -> Vec<LogLine> {
        let mut lines = Vec::new();
        let another = self.begun.as_ref().is_some_and(|begun| begun.next != piece.at);
        if another {
            lines.extend(self.rest());
        }
        if let Some(gap) = &piece.gap {
            lines.extend(self.rest());
            lines.push(gap_line(piece, gap));
        }
        let mut times = piece.lines.iter().peekable();
        let mut time = self.begun.as_ref().map_or_else(Timestamp::now, |begun| begun.at);
        let mut at = 0;
        for line in piece.bytes.split_inclusive(|byte| *byte == b'\n') {
            while let Some(begin) = times.next_if(|begin| begin.at_byte <= at) {
                time = begin.time;
            }
            at += line.len();
            self.hold(piece, time, line, at);
            if line.ends_with(b"\n") {
                lines.extend(self.take(false));
            } else if self.held.len() >= PART {
                lines.extend(self.take(true));
            }
        }
        lines.retain(|line| self.is_wanted(line));
        lines
    }

    /// The last line, where it has no newline: partial, so that a reader adds none.
    pub fn rest(&mut self) -> Option<LogLine> {
        let line = if self.held.is_empty() {
            None
        } else {
            self.take(true)
        };
        line.filter(|line| self.is_wanted(line))
    }

    fn is_wanted(&self, line: &LogLine) -> bool {
        self.since.is_none_or(|since| line.at >= since) && self.until.is_none_or(|until| line.at < until)
    }

    fn hold(&mut self, piece: &LogPiece, time: Timestamp, bytes: &[u8], behind: usize) {
        self.held.extend_from_slice(bytes);
        let next = Cursor {
            ordinal: piece.at.ordinal,
            offset: piece.at.offset + behind as u64,
        };
        match &mut self.begun {
            Some(begun) => begun.next = next,
            None => {
                let piece = LogPiece {
                    bytes: bytes::Bytes::new(),
                    lines: Vec::new(),
                    ..piece.clone()
                };
                self.begun = Some(Begun {
                    piece,
                    at: time,
                    next,
                });
            }
        }
    }

    fn take(&mut self, partial: bool) -> Option<LogLine> {
        let begun = self.begun.take()?;
        let mut held = std::mem::take(&mut self.held);
        if held.last() == Some(&b'\n') {
            held.pop();
        }
        let (text, base64) = match String::from_utf8(held) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        Some(LogLine {
            cursor: begun.next.to_string(),
            attempt: begun.piece.attempt,
            stream: begun.piece.stream,
            at: begun.at,
            text,
            base64,
            partial,
            gap: None,
        })
    }
}

fn gap_line(piece: &LogPiece, gap: &str) -> LogLine {
    LogLine {
        cursor: piece.at.to_string(),
        attempt: piece.attempt,
        stream: piece.stream.clone(),
        at: piece.lines.first().map_or_else(Timestamp::now, |line| line.time),
        text: None,
        base64: None,
        partial: false,
        gap: Some(gap.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwex_core::Attempt;
    use qwex_runner::LineTime;

    fn piece(offset: u64, bytes: &'static [u8], lines: &[(usize, i64)]) -> LogPiece {
        LogPiece {
            attempt: Attempt::FIRST,
            stream: "output".to_owned(),
            at: Cursor { ordinal: 0, offset },
            bytes: bytes::Bytes::from_static(bytes),
            lines: lines
                .iter()
                .map(|(at_byte, second)| LineTime {
                    at_byte: *at_byte,
                    time: Timestamp::from_second(*second).unwrap(),
                })
                .collect(),
            gap: None,
        }
    }

    #[test]
    fn joins_lines_over_pieces_and_keeps_their_times() {
        let mut splitter = LineSplitter::default();
        let first = splitter.push(&piece(0, b"one\ntw", &[(0, 1), (4, 2)]));
        assert_eq!(first[0].text.as_deref(), Some("one"));
        assert_eq!(
            first[0].cursor,
            Cursor {
                ordinal: 0,
                offset: 4
            }
            .to_string()
        );
        let second = splitter.push(&piece(6, b"o\nthree", &[(2, 3)]));
        assert_eq!(second[0].text.as_deref(), Some("two"));
        assert_eq!(second[0].at, Timestamp::from_second(2).unwrap());
        let rest = splitter.rest().unwrap();
        assert_eq!((rest.text.as_deref(), rest.partial), (Some("three"), true));
        assert!(splitter.rest().is_none());
    }

    #[test]
    fn d09_bytes_that_are_no_text_come_as_base64() {
        let mut splitter = LineSplitter::default();
        let lines = splitter.push(&piece(0, b"\xff\x00\n", &[(0, 1)]));
        assert_eq!(lines[0].base64.as_deref(), Some("/wA="));
        assert_eq!(lines[0].text, None);
    }

    #[test]
    fn filters_by_time() {
        let options = ReadOptions {
            since: Some(Timestamp::from_second(2).unwrap()),
            until: Some(Timestamp::from_second(3).unwrap()),
            ..ReadOptions::default()
        };
        let mut splitter = LineSplitter::new(&options);
        let lines = splitter.push(&piece(0, b"a\nb\nc\n", &[(0, 1), (2, 2), (4, 3)]));
        assert_eq!(
            lines.into_iter().filter_map(|line| line.text).collect::<Vec<_>>(),
            ["b"]
        );
    }

    #[test]
    fn a_line_without_end_comes_in_parts() {
        let mut splitter = LineSplitter::default();
        let big: &'static [u8] = Box::leak(vec![b'x'; PART + 10].into_boxed_slice());
        let lines = splitter.push(&piece(0, big, &[(0, 1)]));
        assert!(lines[0].partial);
    }
}

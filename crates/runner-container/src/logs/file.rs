//! Reads the file into which podman's conmon writes a log, in the format of the CRI:
//! `2026-11-21T12:08:04.642948127+00:00 stdout F text`, `P` for a line without an end (yet). A position is the place in
//! this file, so a reader resumes where it was.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use jiff::Timestamp;
use qwex_runner::{LogItem, LogPosition, RunnerError};

use super::lines::Lines;
use super::{Stream, Subject};
use crate::backend::Inner;

/// Most bytes of one read.
const CHUNK: u64 = 256 * 1024;
const QUICK: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_millis(200);
/// How often the engine is asked whether a silent container has ended.
const ASK: Duration = Duration::from_millis(500);

pub fn read(
    inner: Arc<Inner>,
    subject: Subject,
    path: PathBuf,
    from: LogPosition,
    follow: bool,
) -> BoxStream<'static, Result<LogItem, RunnerError>> {
    Box::pin(async_stream::try_stream! {
        let mut reader = Some(Reader::open(path, subject.stream, &from)?);
        let mut news = inner.changed.subscribe();
        let mut over = subject.inspect(&inner).await?.is_over();
        let mut asked = Some(Instant::now());
        let mut pause = QUICK;
        while let Some(open) = reader.take() {
            let (mut open, items) = tokio::task::spawn_blocking(move || open.next())
                .await
                .map_err(|error| failed(&error.to_string()))??;
            if !items.is_empty() {
                pause = QUICK;
                for item in items {
                    yield item;
                }
            } else if over {
                if let Some(item) = open.rest() {
                    yield item;
                }
                yield LogItem::End;
                return;
            } else if !follow {
                return;
            } else {
                if asked.is_none_or(|asked| asked.elapsed() >= ASK) {
                    over = subject.inspect(&inner).await?.is_over();
                    asked = Some(Instant::now());
                } else if tokio::time::timeout(pause, news.recv()).await.is_ok() {
                    // Whatever this process did to a container is worth a look.
                    asked = None;
                }
                pause = (pause * 2).min(SLOW);
            }
            reader = Some(open);
        }
    })
}

/// A place in the file.
struct Reader {
    file: File,
    stream: Stream,
    /// Bytes of the file that were taken.
    read_to: u64,
    /// Bytes of the log that were delivered.
    offset: u64,
    /// Bytes of the log to be dropped: the position came without a place in the file.
    skip: u64,
    /// A line of the file that is not complete yet.
    partial: Vec<u8>,
    lines: Lines,
}

impl Reader {
    fn open(path: PathBuf, stream: Stream, from: &LogPosition) -> Result<Self, RunnerError> {
        let file =
            File::open(&path).map_err(|error| failed(&format!("cannot open {}: {error}", path.display())))?;
        let mark = from.mark.as_deref().and_then(Mark::parse);
        Ok(Self {
            file,
            stream,
            read_to: mark.map_or(0, |mark| mark.place),
            offset: mark.map_or(0, |_| from.offset),
            skip: if mark.is_some() { 0 } else { from.offset },
            partial: Vec::new(),
            lines: Lines::behind(mark.filter(|mark| mark.within_line).map(|_| b'x')),
        })
    }

    /// What can be read now; nothing at the end of the file.
    fn next(mut self) -> Result<(Self, Vec<LogItem>), RunnerError> {
        loop {
            let read = self.fill().map_err(|error| failed(&error.to_string()))?;
            let chunk = self.lines.take(self.position());
            // A read may hold nothing but the other stream's lines.
            if chunk.is_some() || read == 0 {
                return Ok((self, chunk.into_iter().map(LogItem::Chunk).collect()));
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.file
            .seek(SeekFrom::Start(self.read_to + self.partial.len() as u64))?;
        let mut bytes = std::mem::take(&mut self.partial);
        let before = bytes.len();
        let read = self.file.by_ref().take(CHUNK).read_to_end(&mut bytes)?;
        debug_assert_eq!(read, bytes.len() - before);
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.partial = bytes.split_off(whole);
        self.read_to += whole as u64;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.take(line);
        }
        Ok(read)
    }

    fn take(&mut self, line: &[u8]) {
        let Some(line) = Line::parse(line) else {
            tracing::warn!("a line of podman's log is not in its format; left out");
            return;
        };
        if line.stream != self.stream {
            return;
        }
        let mut whole = line.text.to_vec();
        whole.extend(line.has_end.then_some(b'\n'));
        let dropped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(whole.len());
        self.skip -= dropped as u64;
        self.offset = self.offset.saturating_add(whole.len() as u64);
        if dropped > 0 {
            self.lines = Lines::behind(whole.get(dropped - 1).copied());
        }
        self.lines.push(&whole[dropped..], line.time);
    }

    fn position(&self) -> LogPosition {
        LogPosition {
            offset: self.offset,
            mark: Some(format!(
                "{}{}",
                self.read_to,
                if self.lines.is_within_line() { "+" } else { "" }
            )),
        }
    }

    /// What stays behind when the writer was killed within a line.
    fn rest(&mut self) -> Option<LogItem> {
        let bytes = std::mem::take(&mut self.partial).len();
        (bytes > 0).then(|| LogItem::Gap {
            message: format!("podman's log ends within a line of {bytes} bytes that cannot be read"),
        })
    }
}

/// A place in the file; `+` where the log is within a line there.
#[derive(Debug, Clone, Copy)]
struct Mark {
    place: u64,
    within_line: bool,
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches('+');
        Some(Self {
            place: digits.parse().ok()?,
            within_line: digits.len() < text.len(),
        })
    }
}

/// A line of the file.
struct Line<'a> {
    time: Timestamp,
    stream: Stream,
    text: &'a [u8],
    /// Whether the log has a newline behind the text.
    has_end: bool,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n")?;
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stream = Stream::named(std::str::from_utf8(parts.next()?).ok()?)?;
        let (text, has_end): (&[u8], bool) = match parts.next()? {
            // A newer conmon closes a stream that ended within a line: no text, and no newline either.
            b"F" => (b"", false),
            [b'F', b' ', text @ ..] => (text, true),
            [b'P', b' ', text @ ..] => (text, false),
            _ => return None,
        };
        Some(Self {
            time,
            stream,
            text,
            has_end,
        })
    }
}

fn failed(why: &str) -> RunnerError {
    RunnerError::Failed {
        message: format!("cannot read podman's log: {why}"),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

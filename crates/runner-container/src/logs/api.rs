//! Reads a log through the engine's API. bollard takes the frames apart; every frame is one message of the log driver,
//! behind its time. The API resumes by whole seconds only, so a resumed reader is given some messages twice and drops
//! them: all before the marked time, then as many bytes as were delivered since.

use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use qwex_runner::{LogItem, LogPosition, RunnerError};

use super::lines::Lines;
use super::{Stream, Subject};
use crate::backend::Inner;
use crate::errors;

/// Most messages, and about the most bytes, of one chunk.
const MESSAGES: usize = 512;
const CHUNK: usize = 256 * 1024;
/// Longest message of Docker's log drivers.
const BUFFER: usize = 16 * 1024;

pub fn read(
    inner: Arc<Inner>,
    subject: Subject,
    from: LogPosition,
    follow: bool,
) -> BoxStream<'static, Result<LogItem, RunnerError>> {
    Box::pin(async_stream::try_stream! {
        let mut place = Place::at(&from);
        loop {
            // Whether it is over must be known before the log is read to its end.
            let over = subject.inspect(&inner).await?.is_over();
            let docker = inner.link.client().await?.docker.clone();
            let options = place.options(subject.stream, follow && !over);
            let mut batches = docker.logs(&subject.container, Some(options)).ready_chunks(MESSAGES);
            let mut resume = place.resume();
            let mut lines = resume.lines();
            while let Some(batch) = batches.next().await {
                for message in batch {
                    let message = message.map_err(|error| errors::runner_error(&error))?;
                    resume.take(message, subject.stream, &mut lines, &mut place)?;
                    if lines.len() >= CHUNK
                        && let Some(chunk) = lines.take(place.position())
                    {
                        yield LogItem::Chunk(chunk);
                    }
                }
                if let Some(chunk) = lines.take(place.position()) {
                    yield LogItem::Chunk(chunk);
                }
            }
            if over {
                yield LogItem::End;
                return;
            }
            if !follow {
                return;
            }
        }
    })
}

/// How far a reader is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    offset: u64,
    mark: Option<Mark>,
    /// Times went backwards: they tell nothing about places any more.
    disordered: bool,
}

/// All messages of this time and later begin at this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    time: Timestamp,
    offset: u64,
}

impl Place {
    fn at(position: &LogPosition) -> Self {
        let mark = position.mark.as_deref().and_then(|mark| {
            let (time, offset) = mark.split_once('@')?;
            Some(Mark {
                time: time.parse().ok()?,
                offset: offset.parse().ok().filter(|offset| *offset <= position.offset)?,
            })
        });
        Self {
            offset: position.offset,
            disordered: mark.is_none() && position.offset > 0,
            mark,
        }
    }

    fn position(&self) -> LogPosition {
        let mark = self.mark.filter(|_| !self.disordered);
        LogPosition {
            offset: self.offset,
            mark: mark.map(|mark| format!("{}@{}", mark.time, mark.offset)),
        }
    }

    fn options(&self, stream: Stream, follow: bool) -> LogsOptions {
        let mark = self.mark.filter(|_| !self.disordered);
        let since = mark.map_or(0, |mark| mark.time.as_second());
        LogsOptions {
            follow,
            stdout: stream == Stream::Stdout,
            stderr: stream == Stream::Stderr,
            since: i32::try_from(since).unwrap_or(0),
            timestamps: true,
            tail: "all".to_owned(),
            ..LogsOptions::default()
        }
    }

    fn resume(&self) -> Resume {
        let mark = self.mark.filter(|_| !self.disordered);
        Resume {
            after: mark.map(|mark| mark.time),
            at: mark.map_or(0, |mark| mark.offset),
            until: self.offset,
            within_long_line: false,
        }
    }

    /// A message of this time begins at the offset.
    fn note(&mut self, time: Timestamp, offset: u64) {
        match self.mark {
            Some(mark) if time < mark.time => self.disordered = true,
            Some(mark) if time == mark.time => {}
            Some(_) | None => self.mark = Some(Mark { time, offset }),
        }
    }
}

/// Drops what was delivered before.
#[derive(Debug)]
struct Resume {
    /// Messages before it are not counted; `None`: all are.
    after: Option<Timestamp>,
    /// Offset of the next message.
    at: u64,
    /// Bytes before it were delivered.
    until: u64,
    /// The last message filled its buffer and had no end of line: the next one belongs to the same line.
    within_long_line: bool,
}

impl Resume {
    fn lines(&self) -> Lines {
        Lines::default()
    }

    fn take(
        &mut self,
        message: LogOutput,
        stream: Stream,
        lines: &mut Lines,
        place: &mut Place,
    ) -> Result<(), RunnerError> {
        let bytes = match (message, stream) {
            (LogOutput::StdOut { message }, Stream::Stdout)
            | (LogOutput::StdErr { message }, Stream::Stderr) => message,
            (LogOutput::StdOut { .. } | LogOutput::StdErr { .. } | LogOutput::StdIn { .. }, _) => {
                return Ok(());
            }
            // What is left of a frame when the engine goes away.
            (LogOutput::Console { .. }, _) => {
                return Err(RunnerError::Unreachable {
                    message: "the engine's log stream was cut within a message".to_owned(),
                });
            }
        };
        let (time, text) = split_time(&bytes)?;
        if self.after.is_some_and(|after| time < after) {
            return Ok(());
        }
        // Only the first message at or after the mark may be told by its time; from there on bytes are counted.
        self.after = None;
        let text = &self.with_its_end(text)[..];
        let begins = self.at;
        self.at = self.at.saturating_add(text.len() as u64);
        if self.at <= self.until && !text.is_empty() {
            *lines = Lines::behind(text.last().copied());
            return Ok(());
        }
        let known = usize::try_from(self.until.saturating_sub(begins)).unwrap_or(usize::MAX);
        let fresh = text.get(known..).unwrap_or_default();
        if known > 0 && known < text.len() {
            *lines = Lines::behind(text.get(known - 1).copied());
        }
        place.note(time, begins);
        lines.push(fresh, time);
        place.offset = self.at;
        Ok(())
    }
}

impl Resume {
    /// Docker's driver `local` forgets the newline of a line that took several messages; a shorter message than the
    /// buffer is the last of them. (A log that ends within such a line gets a newline it did not have.)
    fn with_its_end<'a>(&mut self, text: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        let ends = text.last() == Some(&b'\n');
        let full = !ends && text.len() >= BUFFER;
        let forgotten = std::mem::replace(&mut self.within_long_line, full) && !ends && !full;
        if forgotten {
            [text, b"\n"].concat().into()
        } else {
            text.into()
        }
    }
}

/// `2026-11-21T12:08:40.992261706Z text`.
fn split_time(message: &[u8]) -> Result<(Timestamp, &[u8]), RunnerError> {
    let broken = || RunnerError::Failed {
        message: "the engine sent a log message without its time".to_owned(),
    };
    let space = message.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
    let (time, text) = message.split_at(space);
    let time = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok());
    Ok((time.ok_or_else(broken)?, &text[1..]))
}

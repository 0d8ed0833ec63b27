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

use super::cuts::LOST;
use super::lines::Lines;
use super::{Stream, Subject};
use crate::ask::ask_stream;
use crate::backend::Inner;
use crate::errors;

/// Most messages, and about the most bytes, of one chunk.
const MESSAGES: usize = 512;
const CHUNK: usize = 256 * 1024;
/// Longest message of Docker's log drivers.
const BUFFER: usize = 16 * 1024;

const UNKNOWN_END: &str = "the log ends within a line of more than 16 KiB, and its driver does not keep whether a newline ended it: \
     none is told";

pub fn read(
    inner: Arc<Inner>,
    subject: Subject,
    from: LogPosition,
    follow: bool,
) -> BoxStream<'static, Result<LogItem, RunnerError>> {
    Box::pin(async_stream::try_stream! {
        let mut place = Place::at(&from);
        let mut runs = false;
        loop {
            // Whether it is over must be known before the log is read to its end.
            let container = inner.cuts.noted(&subject, runs, subject.inspect(&inner).await)?;
            if inner.has_lost(&subject, &container).await? {
                yield LogItem::Gap { message: LOST.to_owned() };
            }
            let over = container.is_over();
            runs = !over;
            let docker = inner.link.client().await?.docker.clone();
            let options = place.options(subject.stream, follow && !over);
            let messages = ask_stream(|| docker.logs(&subject.container, Some(options.clone())));
            let mut batches = std::pin::pin!(messages.ready_chunks(MESSAGES));
            let mut resume = place.resume(Driver::of(container.log_driver.as_deref()));
            let mut lines = resume.lines();
            while let Some(batch) = batches.next().await {
                for message in batch {
                    let taken = message
                        .map_err(|error| errors::runner_error(&error))
                        .and_then(|message| resume.take(message, subject.stream, &mut lines, &mut place));
                    inner.cuts.noted(&subject, runs, taken)?;
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
                if resume.owed.is_some() {
                    yield LogItem::Gap { message: UNKNOWN_END.to_owned() };
                }
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

    fn resume(&self, driver: Driver) -> Resume {
        let mark = self.mark.filter(|_| !self.disordered);
        Resume {
            after: mark.map(|mark| mark.time),
            at: mark.map_or(0, |mark| mark.offset),
            until: self.offset,
            within_long_line: false,
            driver,
            owed: None,
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
    driver: Driver,
    /// The last message ended a long line, and its newline is not there: it was written if anything follows. With its time.
    owed: Option<Timestamp>,
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
        if let Some(before) = self.owed.take() {
            self.give(b"\n", before, lines, place);
        }
        self.owed = self.forgets_its_end(text).then_some(time);
        let begins = self.at;
        self.give(text, time, lines, place);
        if self.at > self.until || text.is_empty() {
            place.note(time, begins);
        }
        Ok(())
    }

    /// Takes bytes that were written at `time`, but for those that were delivered before.
    fn give(&mut self, text: &[u8], time: Timestamp, lines: &mut Lines, place: &mut Place) {
        let begins = self.at;
        self.at = self.at.saturating_add(text.len() as u64);
        if self.at <= self.until && !text.is_empty() {
            *lines = Lines::behind(text.last().copied());
            return;
        }
        let known = usize::try_from(self.until.saturating_sub(begins)).unwrap_or(usize::MAX);
        let fresh = text.get(known..).unwrap_or_default();
        if known > 0 && known < text.len() {
            *lines = Lines::behind(text.get(known - 1).copied());
        }
        lines.push(fresh, time);
        place.offset = self.at;
    }
}

impl Resume {
    /// Docker's driver `local` forgets the newline of a line that took several messages; a shorter message than the
    /// buffer is the last of them.
    fn forgets_its_end(&mut self, text: &[u8]) -> bool {
        let ends = text.last() == Some(&b'\n');
        let full = !ends && text.len() >= BUFFER;
        let is_last = std::mem::replace(&mut self.within_long_line, full) && !ends && !full;
        is_last && self.driver == Driver::Forgetful
    }
}

/// Whether a log driver keeps the newline of a long line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Exact,
    Forgetful,
}

impl Driver {
    fn of(name: Option<&str>) -> Self {
        match name {
            Some("json-file") => Self::Exact,
            Some(_) | None => Self::Forgetful,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of messages a second apart, read from `from`; and whether a newline may be missing at the end.
    fn read(driver: Driver, texts: &[&[u8]], place: &mut Place) -> (Vec<u8>, bool) {
        let mut resume = place.resume(driver);
        let mut lines = resume.lines();
        for (second, text) in texts.iter().enumerate() {
            let time = Timestamp::from_second(1_795_262_920 + i64::try_from(second).unwrap()).unwrap();
            let message = [format!("{time} ").as_bytes(), text].concat().into();
            let message = LogOutput::StdOut { message };
            resume.take(message, Stream::Stdout, &mut lines, place).unwrap();
        }
        let chunk = lines.take(place.position());
        let bytes = chunk.map_or_else(Vec::new, |chunk| chunk.bytes.to_vec());
        (bytes, resume.owed.is_some())
    }

    fn start() -> Place {
        Place::at(&LogPosition::default())
    }

    #[test]
    fn d08_the_newline_of_a_long_line_is_told_once_something_follows() {
        let long = vec![b'x'; BUFFER];
        let texts: [&[u8]; 3] = [&long, b"tail", b"next\n"];
        let (bytes, owed) = read(Driver::Forgetful, &texts, &mut start());
        assert!(!owed && bytes == [&long[..], b"tail\nnext\n"].concat());
        let (bytes, owed) = read(Driver::Forgetful, &texts[..2], &mut start());
        assert!(owed && bytes == [&long[..], b"tail"].concat(), "nobody knows");
        let (bytes, owed) = read(Driver::Exact, &texts[..2], &mut start());
        assert!(!owed && bytes == [&long[..], b"tail"].concat(), "there is none");
        let written: [&[u8]; 2] = [&long, b"tail\n"];
        let (bytes, owed) = read(Driver::Exact, &written, &mut start());
        assert!(!owed && bytes.ends_with(b"tail\n"));
    }

    #[test]
    fn d05_a_newline_that_came_later_is_told_to_who_reads_on() {
        let long = vec![b'x'; BUFFER];
        let texts: [&[u8]; 3] = [&long, b"tail", b"next\n"];
        let mut place = start();
        read(Driver::Forgetful, &texts[..2], &mut place);
        // As driver and reader do, with a mark at the begin of the line.
        let mark = Timestamp::from_second(1_795_262_920).unwrap();
        let position = LogPosition {
            offset: place.offset,
            mark: Some(format!("{mark}@0")),
        };
        let (rest, _) = read(Driver::Forgetful, &texts, &mut Place::at(&position));
        assert_eq!(rest, b"\nnext\n");
    }
}

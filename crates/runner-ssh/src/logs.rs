//! Reads the log files of an attempt on its host: raw bytes by offset, so that a reader resumes without
//! a hole or a repeat, also over another connection.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use jiff::Timestamp;
use qwex_runner::supervised::episode;
use qwex_runner::{Key, LineTime, LogChunk, LogItem, LogPosition, LogSource, RunnerError};

use crate::serve::{Reply, Served};
use crate::snapshot::Snapshot;

const STREAMS: [&str; 2] = ["stdout", "stderr"];
/// Most bytes of one chunk.
const CHUNK: u64 = 1 << 20;
const QUICK: Duration = Duration::from_millis(15);
const SLOW: Duration = Duration::from_millis(500);
/// A file that was not written to for this long holds old data, not what was written just now.
const OLD: i64 = 2;

/// What is told of a log that the command emptied.
const EMPTIED: &str = "the command emptied its own log, as `> /dev/stderr` does: what it had written before is lost \
                       (`>> /dev/stderr` and `>&2` keep it)";

/// The logs of an attempt whose command was started.
pub fn sources(host: &str, snapshot: &Snapshot) -> Vec<LogSource> {
    let Some(start) = &snapshot.start else {
        return Vec::new();
    };
    let source = |stream: &str| LogSource {
        run_id: snapshot.key.run_id,
        attempt: snapshot.key.attempt,
        episode: episode(start),
        stream: stream.to_owned(),
        locator: format!("{host}:runs/{}/{stream}.log", snapshot.key.object()),
    };
    STREAMS.into_iter().map(source).collect()
}

/// Reads a log from `from`; with `follow` until the attempt is over and all was read.
pub fn read(
    served: Arc<Served>,
    source: &LogSource,
    from: LogPosition,
    follow: bool,
) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
    // The caller's name never becomes part of a request.
    let stream = STREAMS.into_iter().find(|stream| *stream == source.stream);
    let stream = stream.ok_or_else(|| RunnerError::NotFound {
        message: format!("a run over ssh has no log stream {:?}", source.stream),
    })?;
    let key = Key::new(source.run_id, source.attempt);
    Ok(Box::pin(async_stream::stream! {
        let mut at = Place::of(&from);
        let mut pause = QUICK;
        loop {
            let look = match look(&served, key, stream, at).await {
                Ok(look) => look,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            match look {
                Look::Bytes(chunk) => {
                    at = Place::of(&chunk.position);
                    pause = QUICK;
                    yield Ok(LogItem::Chunk(chunk));
                }
                Look::Emptied(first) => {
                    at = Place { place: first, told: true, ..at };
                    yield Ok(LogItem::Gap { message: EMPTIED.to_owned() });
                }
                Look::End => {
                    yield Ok(LogItem::End);
                    return;
                }
                Look::Nothing if follow => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 3 / 2).min(SLOW);
                }
                Look::Nothing => return,
            }
        }
    }))
}

/// Where a reader is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Bytes given so far.
    offset: u64,
    /// Where the next one is in the file: elsewhere once the command has emptied it, and then a position bears it as mark.
    place: u64,
    told: bool,
}

impl Place {
    fn of(position: &LogPosition) -> Self {
        let mark = position.mark.as_ref().and_then(|mark| mark.parse().ok());
        Self {
            offset: position.offset,
            place: mark.unwrap_or(position.offset),
            told: mark.is_some(),
        }
    }

    fn position(self) -> LogPosition {
        LogPosition {
            offset: self.offset,
            mark: self.told.then(|| self.place.to_string()),
        }
    }

    fn behind(self, bytes: usize) -> Self {
        Self {
            offset: self.offset + bytes as u64,
            place: self.place + bytes as u64,
            ..self
        }
    }
}

enum Look {
    Bytes(LogChunk),
    /// The command emptied the file; bytes are missing, and the next is at this place in it.
    Emptied(u64),
    /// Nothing more for now.
    Nothing,
    /// Nothing more for ever.
    End,
}

/// One trip: the bytes from `offset` on, and with them the byte before, which tells where lines begin.
async fn look(served: &Served, key: Key, stream: &str, at: Place) -> Result<Look, RunnerError> {
    let before = at.place.min(1);
    let begin = at.place - before;
    let request = format!("read_log {} {stream} {begin} {}", key.object(), CHUNK + before);
    let reply = served.ask(&[request]).await?.pop().unwrap_or_default();
    if reply.has("absent") {
        return Err(RunnerError::NotFound {
            message: format!(
                "run {} has no directory on {} any more",
                key.run_id,
                served.config().host
            ),
        });
    }
    let over = reply.find("over") == Some("yes");
    let skip = usize::from(before == 1);
    let size = reply.find("size").and_then(|size| size.parse::<u64>().ok());
    if size.is_some_and(|size| size < at.place) {
        return Ok(Look::Emptied(0));
    }
    if reply.data.len() <= skip {
        if over && !at.told && reply.find("emptied").is_some() {
            return Ok(Look::Emptied(at.place));
        }
        if over && size.is_some_and(|size| size > at.place) {
            return Err(RunnerError::Unreachable {
                message: format!(
                    "{stream} of run {} on {} cannot be read behind byte {}",
                    key.run_id,
                    served.config().host,
                    at.place
                ),
            });
        }
        return Ok(if over { Look::End } else { Look::Nothing });
    }
    let starts_line = skip == 0 || reply.data[0] == b'\n';
    let bytes = reply.data.slice(skip..);
    let lines = LineTime::of_lines(&bytes, starts_line, written(&reply, over));
    let position = at.behind(bytes.len()).position();
    Ok(Look::Bytes(LogChunk {
        bytes,
        lines,
        position,
    }))
}

/// Now, or when the file was last written to if that is long ago.
fn written(reply: &Reply, over: bool) -> Timestamp {
    let now = Timestamp::now();
    let seconds = reply.find("written").and_then(|text| text.trim().parse().ok());
    match seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(time) if over || now.as_second() - time.as_second() > OLD => time,
        Some(_) | None => now,
    }
}

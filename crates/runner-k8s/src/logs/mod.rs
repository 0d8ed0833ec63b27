//! Raw log bytes of one container, followed or read, resumable at any byte: exactly what the node keeps. containerd keeps
//! `\r\n` as `\n`, where nobody can know it any more.
//!
//! Called through `Watcher::read_log` and `list_logs`. The log's transport never decides how a run
//! ended. A stream yields `End` only when the container has ended and was read once more after that;
//! anything else that stops it is a cut, after which the caller comes back with its position.

mod pace;
mod pod;
mod reader;
mod start;

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use qwex_core::{Attempt, EpisodeId, RunId};
use qwex_runner::{LogItem, LogPosition, LogSource, RunnerError};
use tokio::time::{Instant, timeout};

use self::pace::{Pace, SKIPPED};
use self::pod::{Locator, Open, PodLog, State};
use self::reader::{Before, Reader, rotated};
use self::start::First;
use crate::decode::PodView;
use crate::names;
use crate::observe::has_run;
use crate::rest::{CallError, Rest};

/// Longest pause between two looks at a silent stream.
const LONGEST_QUIET: Duration = Duration::from_secs(120);

/// The API tells ends in whole seconds, rounded down.
const WHOLE_SECONDS: SignedDuration = SignedDuration::from_secs(1);

/// The logs of a pod that can be read now.
pub(crate) fn sources(run_id: RunId, attempt: Attempt, pod: &PodView) -> Vec<LogSource> {
    let Some(main) = pod.main().filter(|_| has_run(pod)) else {
        return Vec::new();
    };
    let locator = Locator {
        namespace: pod.metadata.namespace.clone(),
        pod: pod.metadata.name.clone(),
        container: names::CONTAINER.to_owned(),
        restart: main.restart_count,
    };
    vec![LogSource {
        run_id,
        attempt,
        episode: EpisodeId(pod.metadata.uid.clone()),
        stream: "output".to_owned(),
        locator: locator.to_string(),
    }]
}

/// Why a followed stream stopped giving bytes.
enum Pause {
    Bytes(Vec<LogItem>),
    /// The server closed the answer in good order.
    Closed,
    /// Silent though there is more to read, or though the container has ended.
    Stuck,
}

struct Tail {
    log: PodLog,
    reader: Reader,
    quiet: Duration,
    /// A followed answer was closed in good order: the kubelet had seen the container end.
    read_to_end: bool,
    pace: Pace,
    /// Whether the bytes that come are those of a followed answer, and whether any came.
    follows: bool,
    heard: bool,
    container_ended: Option<Timestamp>,
    /// Until the first line of a reading from the very begin has come.
    begin: Option<Begin>,
}

/// What is known before the first line: when the container started, and when the first answer began.
#[derive(Default)]
struct Begin {
    container_started: Option<Timestamp>,
    opened: Option<(Timestamp, Instant)>,
}

pub(crate) fn read(
    rest: Rest,
    stall: Duration,
    source: &LogSource,
    from: &LogPosition,
    follow: bool,
) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
    let tail = Tail {
        log: PodLog::new(rest, source)?,
        reader: Reader::new(from),
        quiet: stall,
        read_to_end: false,
        pace: Pace::default(),
        follows: false,
        heard: false,
        container_ended: None,
        begin: (*from == LogPosition::default()).then(Begin::default),
    };
    Ok(items(tail, follow).boxed())
}

fn items(mut tail: Tail, follow: bool) -> impl futures::Stream<Item = Result<LogItem, RunnerError>> + Send {
    async_stream::try_stream! {
        let mut state = tail.look().await?;
        loop {
            let last = match &state {
                State::NotStarted => return,
                State::Running => false,
                State::Ended => true,
                State::Gone(why) => {
                    if !tail.read_to_end {
                        yield LogItem::Gap { message: why.clone() };
                    }
                    yield LogItem::End;
                    return;
                }
            };
            let pause = match tail.log.open(follow && !last, tail.reader.mark()).await? {
                // Nothing will ever make it readable, such as a container that its node does not know any more.
                Open::Unreadable(why) if last => {
                    state = State::Gone(why);
                    continue;
                }
                Open::Unreadable(_) => return,
                Open::Gone(why) => {
                    state = State::Gone(why);
                    continue;
                }
                Open::Bytes(mut bytes) => {
                    tail.opened(follow && !last);
                    loop {
                        match tail.next(&mut bytes).await? {
                            Pause::Bytes(items) => {
                                for item in items {
                                    yield item;
                                }
                            }
                            other => break other,
                        }
                    }
                }
            };
            let stuck = matches!(pause, Pause::Stuck);
            for item in tail.finish(last, stuck) {
                yield item;
            }
            if last {
                yield LogItem::End;
                return;
            }
            if !follow {
                return;
            }
            state = if stuck {
                tail.look().await?
            } else {
                tail.read_to_end = true;
                tail.settle().await?
            };
            if !stuck && matches!(state, State::Running) {
                // Closed while the container runs: a cut.
                return;
            }
        }
    }
}

impl Tail {
    async fn look(&mut self) -> Result<State, RunnerError> {
        let found = self.log.look().await?;
        if let Some(begin) = &mut self.begin {
            begin.container_started = found.started_at.or(begin.container_started);
        }
        self.container_ended = found.ended_at.or(self.container_ended);
        Ok(found.state)
    }

    async fn settle(&mut self) -> Result<State, RunnerError> {
        let found = self.log.settle().await?;
        self.container_ended = found.ended_at.or(self.container_ended);
        Ok(found.state)
    }

    /// A pass begins.
    fn opened(&mut self, follows: bool) {
        self.reader.restart(match self.read_to_end {
            false => Before::Cut,
            true => Before::AtEnd {
                late: self.pace.is_late(),
            },
        });
        self.follows = follows;
        self.heard = false;
        if let Some(begin) = &mut self.begin {
            begin
                .opened
                .get_or_insert_with(|| (Timestamp::now(), Instant::now()));
        }
    }

    /// What was read, behind a gap where its begin may be missing, and with one where a file may have been skipped.
    async fn read(&mut self, bytes: &[u8]) -> Vec<LogItem> {
        self.heard = true;
        let late = self.pace.is_late();
        let mut items = self.reader.feed(bytes);
        let now = Timestamp::now();
        // Asked once for all of these bytes: what it says is younger than each of them.
        let mut oldest = None;
        for jump in self.reader.jumps().into_iter().rev() {
            // With lines before it in the same bytes, those are as old as they are.
            let mut pace = self.pace;
            pace.heard(jump.from, now);
            let late = if jump.at == 0 { late } else { pace.is_late() };
            if !self.follows || !late {
                continue;
            }
            let begins = match oldest {
                Some(begins) => begins,
                None => *oldest.insert(self.oldest_stamp().await),
            };
            // Whether the file that the node has at hand begins behind the line; in doubt it does.
            if begins.is_none_or(|begins| begins > jump.from) {
                let message = rotated(jump.from);
                items.insert(jump.at, LogItem::Gap { message });
            }
        }
        if let Some(mark) = self.reader.mark() {
            self.pace.heard(mark.stamp, now);
        }
        let line = items.iter().find_map(|item| match item {
            LogItem::Chunk(chunk) => chunk.lines.first().map(|line| line.time),
            LogItem::Gap { .. } | LogItem::End => None,
        });
        let begun = line.and_then(|line| Some((line, self.begin.take()?)));
        if let Some((line, begin)) = begun
            && let Some((opened, since)) = begin.opened
        {
            let first = First {
                line,
                container_started: begin.container_started,
                opened,
                waited: if self.follows {
                    since.elapsed()
                } else {
                    Duration::ZERO
                },
            };
            let doubt = first.doubt().map(|message| LogItem::Gap { message });
            items.splice(0..0, doubt);
        }
        items
    }

    /// Bytes, or why there are none. Silence is looked into, less and less often.
    async fn next(
        &mut self,
        bytes: &mut BoxStream<'static, Result<bytes::Bytes, CallError>>,
    ) -> Result<Pause, RunnerError> {
        match timeout(self.quiet, bytes.next()).await {
            Ok(Some(read)) => Ok(Pause::Bytes(self.read(&read?).await)),
            Ok(None) => Ok(Pause::Closed),
            Err(_) => {
                if self.is_stuck().await? {
                    return Ok(Pause::Stuck);
                }
                self.quiet = (self.quiet * 2).min(LONGEST_QUIET);
                Ok(Pause::Bytes(Vec::new()))
            }
        }
    }

    /// Where the file that the node has at hand begins; one answer that does not come is no doubt yet.
    async fn oldest_stamp(&self) -> Option<Timestamp> {
        match self.log.oldest_stamp().await {
            Ok(oldest) => oldest,
            Err(_) => self.log.oldest_stamp().await.ok().flatten(),
        }
    }

    async fn is_stuck(&self) -> Result<bool, RunnerError> {
        match self.log.look().await?.state {
            State::Ended | State::Gone(_) => Ok(true),
            State::NotStarted => Ok(false),
            State::Running => {
                let newest = self.log.newest_stamp().await?;
                Ok(newest > self.reader.mark().map(|mark| mark.stamp))
            }
        }
    }

    /// The last pass of a container that was read to its end before adds only log bytes: that its
    /// log is being removed by now is no loss.
    fn finish(&mut self, last: bool, stuck: bool) -> Vec<LogItem> {
        let mut items = self.reader.finish(!stuck);
        let brought = items.iter().any(|item| matches!(item, LogItem::Chunk(_)));
        if last && self.read_to_end && !brought && !self.may_lack_a_file() {
            items.clear();
        }
        items
    }

    /// Whether the node has begun a new file, in which nothing is, and one may have come and gone between that and the
    /// one that was read, late, to its end.
    fn may_lack_a_file(&self) -> bool {
        let last = self.reader.mark().map(|mark| mark.stamp);
        let silent = self
            .container_ended
            .zip(last)
            .is_none_or(|(ended, last)| ended.duration_since(last) >= SKIPPED - WHOLE_SECONDS);
        last.is_some() && !self.heard && silent && self.pace.is_late()
    }
}

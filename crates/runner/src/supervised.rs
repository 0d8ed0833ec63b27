//! What a supervisor leaves of an attempt, and what follows from it: the same files, the same verdict and the same story
//! on this machine and on a host behind ssh, whoever supervised.
//!
//! Used by backends whose runs are processes. Reads nothing itself.

use jiff::Timestamp;
use qwex_core::{
    BackendInfo, Ending, EpisodeEnd, EpisodeId, Fact, Failure, FailureCode, ObjectUid, Observation,
    PendingCode, Usage,
};
use serde::{Deserialize, Serialize};

use crate::backend::Details;
use crate::key::Key;
use crate::log::LogSource;
use crate::watcher::{ObjectRef, Sighting};

/// `start.json`: which process runs the command, by `P`, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord<P> {
    pub process: P,
    pub started_at: Timestamp,
}

/// `end.json`: how it ended. Exit code and signal are what the kernel said, apart from the cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord<P> {
    pub cause: EndCause,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    #[serde(default)]
    pub core_dumped: bool,
    /// A sentence for people.
    pub message: String,
    /// `None` if the command never ran.
    pub start: Option<StartRecord<P>>,
    pub ended_at: Timestamp,
    /// Of the largest process.
    #[serde(default)]
    pub max_rss_bytes: Option<u64>,
    /// Of all processes, user and system.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// Processes of the run that were still there after its command had ended, and were killed.
    #[serde(default)]
    pub leftovers: u32,
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The command ended by itself or by a signal that we did not send.
    Ended,
    StartError,
    TimedOut,
    OutOfMemory,
    /// Stopped because somebody asked through qwex.
    Cancelled,
    /// The supervisor itself was told to stop, as at a shutdown.
    Stopped,
}

impl EndCause {
    /// The reason of an episode, in the words of containers.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ended => "Completed",
            Self::StartError => "StartError",
            Self::TimedOut => "TimedOut",
            Self::OutOfMemory => "OOMKilled",
            Self::Cancelled => "Cancelled",
            Self::Stopped => "Stopped",
        }
    }
}

impl<P> EndRecord<P> {
    /// The verdict.
    #[must_use]
    pub fn ending(&self) -> Ending {
        let code = match (self.cause, self.exit_code, self.signal) {
            (EndCause::Cancelled | EndCause::Stopped, exit_code, signal) => {
                return Ending::Stopped {
                    message: self.message.clone(),
                    exit_code,
                    signal,
                };
            }
            (EndCause::Ended, Some(0), _) => return Ending::Succeeded { verified: true },
            (EndCause::Ended, _, Some(_)) => FailureCode::Signal,
            (EndCause::Ended, _, None) => FailureCode::ExitCode,
            (EndCause::StartError, _, _) => FailureCode::StartError,
            (EndCause::TimedOut, _, _) => FailureCode::Timeout,
            (EndCause::OutOfMemory, _, _) => FailureCode::Oom,
        };
        Ending::Failed {
            failure: Failure {
                code,
                message: self.message.clone(),
                exit_code: self.exit_code,
                signal: self.signal,
            },
        }
    }

    /// What its processes used; `None` where the supervisor could not know.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let usage = Usage {
            cpu_ms: self.cpu_ms,
            max_memory_bytes: self.max_rss_bytes,
            sampled: false,
        };
        Some(usage).filter(|usage| *usage != Usage::default())
    }
}

/// An attempt that has a supervisor, as far as it is.
#[derive(Debug, Clone)]
pub struct Story<'a, P> {
    pub key: Key,
    /// With the UID of the attempt.
    pub backend: BackendInfo,
    /// When its supervisor began.
    pub attended_at: Timestamp,
    /// What is said while the command is not started yet.
    pub starting: String,
    pub node: Option<String>,
    pub start: Option<&'a StartRecord<P>>,
    pub end: End<'a, P>,
}

/// The last thing that is known of it.
#[derive(Debug, Clone)]
pub enum End<'a, P> {
    None,
    Recorded(&'a EndRecord<P>),
    /// No supervisor and no record; says what is known.
    Lost(String),
}

impl<P: ToString> Story<'_, P> {
    /// Everything that can be said of it now. A later story of the same attempt only appends.
    #[must_use]
    pub fn observations(self) -> Vec<Observation> {
        let (key, uid) = (self.key, self.backend.uid.clone());
        let seen = |at: Timestamp, fact: Fact| Observation {
            run_id: key.run_id,
            attempt: key.attempt,
            uid: uid.clone(),
            at,
            fact,
        };
        let begun = self.attended_at;
        let starting = Fact::Waiting {
            code: PendingCode::Starting,
            message: self.starting,
            round: 0,
        };
        let backend = self.backend;
        let mut all = vec![seen(begun, Fact::Dispatched { backend }), seen(begun, starting)];
        if let Some(start) = self.start {
            let started = Fact::EpisodeStarted {
                episode: episode(start),
                node: self.node,
            };
            all.push(seen(start.started_at, started));
            all.push(seen(start.started_at, Fact::Running { round: 0 }));
        }
        let started_at = self.start.map(|start| start.started_at);
        let ended = |ending| Fact::Ended { ending, started_at };
        match self.end {
            End::None => {}
            End::Recorded(end) => {
                all.extend(episode_end(end).map(|fact| seen(end.ended_at, fact)));
                all.push(seen(end.ended_at, ended(end.ending())));
            }
            End::Lost(message) => {
                let failure = Failure::new(FailureCode::Lost, message);
                all.push(seen(Timestamp::now(), ended(Ending::Failed { failure })));
            }
        }
        all
    }
}

/// The episode is the process.
pub fn episode<P: ToString>(start: &StartRecord<P>) -> EpisodeId {
    EpisodeId(start.process.to_string())
}

fn episode_end<P: ToString>(end: &EndRecord<P>) -> Option<Fact> {
    let start = end.start.as_ref()?;
    Some(Fact::EpisodeEnded {
        episode: episode(start),
        end: EpisodeEnd {
            exit_code: end.exit_code,
            signal: end.signal,
            reason: Some(end.cause.reason().to_owned()),
            started_at: Some(start.started_at),
            ended_at: Some(end.ended_at),
        },
    })
}

/// What a watch that looks again and again has told of one attempt.
#[derive(Debug, Default)]
pub struct Told {
    observations: usize,
    logs: bool,
    /// Nothing will change any more.
    pub over: bool,
    pub uid: Option<ObjectUid>,
}

/// What one look at an attempt brought.
#[derive(Debug)]
pub struct Look {
    /// All of them, from the first.
    pub observations: Vec<Observation>,
    pub uid: Option<ObjectUid>,
    pub over: bool,
    /// Empty until the command was started.
    pub logs: Vec<LogSource>,
    /// Known once it is over.
    pub details: Option<Details>,
}

impl Told {
    /// What of a look was not told yet.
    pub fn news(&mut self, key: Key, look: Look) -> Vec<Sighting> {
        let known = std::mem::replace(&mut self.observations, look.observations.len());
        let fresh = look.observations.into_iter().skip(known);
        let mut news: Vec<Sighting> = fresh.map(Sighting::Seen).collect();
        self.uid = look.uid;
        self.over = look.over;
        if !self.logs && !look.logs.is_empty() {
            self.logs = true;
            news.extend(look.logs.into_iter().map(Sighting::LogReady));
        }
        let detailed = self.listed(key).zip(look.details);
        news.extend(detailed.map(|(object, details)| Sighting::Detailed(object, details)));
        news
    }

    /// The attempt in a list; `None` before it has a supervisor.
    #[must_use]
    pub fn listed(&self, key: Key) -> Option<ObjectRef> {
        Some(ObjectRef {
            run_id: key.run_id,
            attempt: key.attempt,
            uid: self.uid.clone()?,
        })
    }
}

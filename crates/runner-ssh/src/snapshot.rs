//! What a host says of one attempt, and what follows from it: the only way from files over there to
//! observations, for the watch and a single read alike.

use jiff::Timestamp;
use qwex_core::{
    Attempt, BackendInfo, BackendKind, Ending, EpisodeEnd, EpisodeId, Fact, Failure, FailureCode, ObjectUid,
    Observation, PendingCode, RunId,
};
use qwex_runner::{Handle, RunnerError};
use serde::de::DeserializeOwned;

use crate::config::SshConfig;
use crate::error;
use crate::records::{EndCause, EndRecord, ProcessRecord};

/// Names an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub run_id: RunId,
    pub attempt: Attempt,
}

impl Key {
    #[must_use]
    pub fn of(handle: &Handle) -> Self {
        Self {
            run_id: handle.run_id,
            attempt: handle.attempt,
        }
    }

    #[must_use]
    pub fn object(self) -> String {
        self.run_id.object_name(self.attempt)
    }

    /// Reads `qwex-<run id>-a<attempt>` in its one canonical spelling.
    #[must_use]
    pub fn read(object: &str) -> Option<Self> {
        let (run_id, attempt) = object.strip_prefix("qwex-")?.rsplit_once("-a")?;
        let key = Self {
            run_id: run_id.parse().ok()?,
            attempt: Attempt(attempt.parse().ok()?),
        };
        (key.object() == object).then_some(key)
    }

    #[must_use]
    pub fn backend(self, config: &SshConfig, uid: Option<ObjectUid>) -> BackendInfo {
        BackendInfo {
            kind: BackendKind::Ssh,
            cluster: None,
            address: Some(config.host.clone()),
            namespace: None,
            object: self.object(),
            uid,
        }
    }
}

/// An attempt as it stands on the host.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub key: Key,
    pub supervisor: Option<ProcessRecord>,
    pub start: Option<ProcessRecord>,
    pub stage: Stage,
}

/// How far it is.
#[derive(Debug, Clone)]
pub enum Stage {
    /// No supervisor has begun yet.
    Unattended,
    Attended,
    Ended(EndRecord),
    /// Its supervisor is gone and left no end.
    Lost {
        rebooted: bool,
        left: Vec<String>,
    },
}

impl Snapshot {
    /// Reads one `look`; `None` if the attempt is not there.
    pub fn read(config: &SshConfig, key: Key, lines: &[String]) -> Result<Option<Self>, RunnerError> {
        let find = |word: &str| -> Option<&str> {
            lines
                .iter()
                .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        };
        if lines.iter().any(|line| line == "absent") {
            return Ok(None);
        }
        let damaged = |name: &str, error: &serde_json::Error| {
            error::refused(config, &format!("{name} of {} is damaged: {error}", key.object()))
        };
        let supervisor: Option<ProcessRecord> =
            record(find("supervisor")).map_err(|error| damaged("supervisor.json", &error))?;
        // Without these two the attempt is only less known.
        let end: Option<EndRecord> = record(find("end")).unwrap_or_default();
        let start: Option<ProcessRecord> = match &end {
            Some(end) => end.start.clone(),
            None => record(find("start")).unwrap_or_default(),
        };
        let left = find("left").unwrap_or_default();
        let stage = match (end, find("life")) {
            (Some(end), _) => Stage::Ended(end),
            (None, None) => Stage::Unattended,
            (None, Some("alive")) => Stage::Attended,
            (None, Some(life)) => Stage::Lost {
                rebooted: life == "reboot",
                left: left.split_ascii_whitespace().map(str::to_owned).collect(),
            },
        };
        Ok(Some(Self {
            key,
            supervisor,
            start,
            stage,
        }))
    }

    #[must_use]
    pub fn uid(&self) -> Option<ObjectUid> {
        self.supervisor
            .as_ref()
            .map(|record| ObjectUid(record.process.clone()))
    }

    /// Whether the handle is about the object that is there.
    #[must_use]
    pub fn is_pinned_by(&self, handle: &Handle) -> bool {
        match (&handle.backend.uid, self.uid()) {
            (Some(pinned), Some(uid)) => *pinned == uid,
            (Some(_) | None, _) => true,
        }
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Unattended | Stage::Attended => false,
            Stage::Ended(_) | Stage::Lost { .. } => true,
        }
    }

    /// Everything that can be said of it now. A later snapshot of the same attempt only appends.
    #[must_use]
    pub fn observations(&self, config: &SshConfig) -> Vec<Observation> {
        let (Some(supervisor), Some(uid)) = (&self.supervisor, self.uid()) else {
            return Vec::new();
        };
        let seen = |at: Timestamp, fact: Fact| Observation {
            run_id: self.key.run_id,
            attempt: self.key.attempt,
            uid: Some(uid.clone()),
            at,
            fact,
        };
        let backend = self.key.backend(config, Some(uid.clone()));
        let starting = Fact::Waiting {
            code: PendingCode::Starting,
            message: format!("starting on {}", config.host),
            round: 0,
        };
        let at = supervisor.started_at;
        let mut all = vec![seen(at, Fact::Dispatched { backend }), seen(at, starting)];
        if let Some(start) = &self.start {
            let episode = EpisodeId(start.process.clone());
            let node = Some(config.host.clone());
            all.push(seen(start.started_at, Fact::EpisodeStarted { episode, node }));
            all.push(seen(start.started_at, Fact::Running { round: 0 }));
        }
        match &self.stage {
            Stage::Unattended | Stage::Attended => {}
            Stage::Ended(end) => {
                all.extend(episode_end(end).map(|fact| seen(end.ended_at, fact)));
                all.push(seen(end.ended_at, self.ended(ending(end))));
            }
            Stage::Lost { rebooted, left } => {
                let lost = lost(config, &supervisor.process, *rebooted, left);
                all.push(seen(Timestamp::now(), self.ended(lost)));
            }
        }
        all
    }

    fn ended(&self, ending: Ending) -> Fact {
        Fact::Ended {
            ending,
            started_at: self.start.as_ref().map(|start| start.started_at),
        }
    }
}

fn record<T: DeserializeOwned>(text: Option<&str>) -> serde_json::Result<Option<T>> {
    text.map(serde_json::from_str).transpose()
}

fn lost(config: &SshConfig, supervisor: &str, rebooted: bool, left: &[String]) -> Ending {
    let host = &config.host;
    let pid = supervisor.split('/').nth(1).unwrap_or_default();
    let message = if rebooted {
        format!("{host} was started anew while the run was under way (reboot)")
    } else if left.is_empty() {
        format!("its supervisor (pid {pid} on {host}) is gone and left no result; nothing of the run is left")
    } else {
        format!(
            "its supervisor (pid {pid} on {host}) is gone and left no result, but processes of the run are \
             still there: {}; cancel the run to end them",
            left.join(", ")
        )
    };
    Ending::Failed {
        failure: Failure::new(FailureCode::Lost, message),
    }
}

fn episode_end(end: &EndRecord) -> Option<Fact> {
    let start = end.start.as_ref()?;
    Some(Fact::EpisodeEnded {
        episode: EpisodeId(start.process.clone()),
        end: EpisodeEnd {
            exit_code: end.exit_code,
            signal: end.signal,
            reason: Some(reason(end.cause).to_owned()),
            started_at: Some(start.started_at),
            ended_at: Some(end.ended_at),
        },
    })
}

fn reason(cause: EndCause) -> &'static str {
    match cause {
        EndCause::Ended => "Completed",
        EndCause::StartError => "StartError",
        EndCause::TimedOut => "TimedOut",
        EndCause::OutOfMemory => "OOMKilled",
        EndCause::Cancelled => "Cancelled",
        EndCause::Stopped => "Stopped",
    }
}

/// The verdict on a record of an end.
fn ending(end: &EndRecord) -> Ending {
    let code = match (end.cause, end.exit_code, end.signal) {
        (EndCause::Cancelled | EndCause::Stopped, exit_code, signal) => {
            return Ending::Stopped {
                message: end.message.clone(),
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
            message: end.message.clone(),
            exit_code: end.exit_code,
            signal: end.signal,
        },
    }
}

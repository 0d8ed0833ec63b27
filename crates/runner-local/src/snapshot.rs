//! What the directory of an attempt says, and what follows from it: the only way from files to
//! observations, for the watch, a single read and the foreground alike.

use std::io;

use jiff::Timestamp;
use qwex_core::{
    BackendInfo, Ending, EpisodeEnd, Fact, Failure, FailureCode, ObjectUid, Observation, PendingCode, Usage,
};
use qwex_runner::durable::Dir;

use crate::identity::{Life, ProcessId};
use crate::layout::Key;
use crate::records::{
    self, END, EndCause, EndRecord, START, SUPERVISOR, StartRecord, SupervisorRecord, WORK, WorkRecord,
};
use crate::survivors::{self, Mark};

/// An attempt as it stands on disk.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub key: Key,
    pub work: WorkRecord,
    pub supervisor: Option<SupervisorRecord>,
    pub start: Option<StartRecord>,
    pub stage: Stage,
}

/// How far it is.
#[derive(Debug, Clone)]
pub enum Stage {
    /// No supervisor has begun yet.
    Unattended,
    /// Its supervisor lives.
    Attended,
    Ended(EndRecord),
    /// Its supervisor is gone and left no end.
    Lost(Lost),
}

/// An attempt about whose end nobody can know.
#[derive(Debug, Clone)]
pub struct Lost {
    pub rebooted: bool,
    /// What of it still runs.
    pub survivors: Vec<ProcessId>,
}

impl Snapshot {
    /// Reads an attempt; `None` if its directory holds no work yet.
    pub fn read(dir: &Dir, key: Key) -> io::Result<Option<Self>> {
        let Some(work) = records::read::<WorkRecord>(dir, WORK)? else {
            return Ok(None);
        };
        let supervisor: Option<SupervisorRecord> = records::read(dir, SUPERVISOR)?;
        // First whether it lives, then whether there is an end: it writes the end before it goes.
        let life = supervisor.as_ref().map(|supervisor| supervisor.process.life());
        let end: Option<EndRecord> = records::read_or_absent(dir, END)?;
        let start: Option<StartRecord> = match &end {
            Some(end) => end.start.clone(),
            None => records::read_or_absent(dir, START)?,
        };
        let stage = match (end, life) {
            (Some(end), _) => Stage::Ended(end),
            (None, None) => Stage::Unattended,
            (None, Some(Life::Alive)) => Stage::Attended,
            (None, Some(Life::OtherBoot)) => Stage::Lost(Lost {
                rebooted: true,
                survivors: Vec::new(),
            }),
            (None, Some(Life::Dead)) => Stage::Lost(Lost {
                rebooted: false,
                survivors: survivors::find(&mark(key, start.as_ref())),
            }),
        };
        Ok(Some(Self {
            key,
            work,
            supervisor,
            start,
            stage,
        }))
    }

    #[must_use]
    pub fn uid(&self) -> Option<ObjectUid> {
        self.supervisor
            .as_ref()
            .map(|supervisor| supervisor.process.uid())
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Unattended | Stage::Attended => false,
            Stage::Ended(_) | Stage::Lost(_) => true,
        }
    }

    /// Whether its log files are as long as they will ever be.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match &self.stage {
            Stage::Unattended | Stage::Attended => false,
            Stage::Ended(_) => true,
            Stage::Lost(lost) => lost.survivors.is_empty(),
        }
    }

    /// What its processes used; `None` before its end, or where no command ran.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let Stage::Ended(end) = &self.stage else {
            return None;
        };
        let usage = Usage {
            cpu_ms: end.cpu_ms,
            max_memory_bytes: end.max_rss_bytes,
        };
        Some(usage).filter(|usage| *usage != Usage::default())
    }

    /// Everything that can be said of it now. A later snapshot of the same attempt only appends.
    #[must_use]
    pub fn observations(&self, backend: &BackendInfo) -> Vec<Observation> {
        let Some(supervisor) = &self.supervisor else {
            return Vec::new();
        };
        let uid = supervisor.process.uid();
        let seen = |at: Timestamp, fact: Fact| Observation {
            run_id: self.key.run_id,
            attempt: self.key.attempt,
            uid: Some(uid.clone()),
            at,
            fact,
        };
        let mut backend = backend.clone();
        backend.uid = Some(uid.clone());
        let at = supervisor.started_at;
        let mut all = vec![seen(at, Fact::Dispatched { backend }), seen(at, self.starting())];
        if let Some(start) = &self.start {
            let episode = start.process.episode();
            all.push(seen(
                start.started_at,
                Fact::EpisodeStarted { episode, node: None },
            ));
            all.push(seen(start.started_at, Fact::Running { round: 0 }));
        }
        match &self.stage {
            Stage::Unattended | Stage::Attended => {}
            Stage::Ended(end) => {
                all.extend(episode_end(end).map(|fact| seen(end.ended_at, fact)));
                all.push(seen(end.ended_at, self.ended(ending(end))));
            }
            Stage::Lost(lost) => all.push(seen(Timestamp::now(), self.ended(self.lost(lost)))),
        }
        all
    }

    fn starting(&self) -> Fact {
        let message = if self.work.unused.is_empty() {
            "starting as a process of this machine".to_owned()
        } else {
            let unused = self.work.unused.join(", ");
            format!("starting as a process of this machine; not used here: {unused}")
        };
        Fact::Waiting {
            code: PendingCode::Starting,
            message,
            round: 0,
        }
    }

    fn ended(&self, ending: Ending) -> Fact {
        Fact::Ended {
            ending,
            started_at: self.start.as_ref().map(|start| start.started_at),
        }
    }

    fn lost(&self, lost: &Lost) -> Ending {
        let supervisor = self
            .supervisor
            .as_ref()
            .map(|s| s.process.pid)
            .unwrap_or_default();
        let message = if lost.rebooted {
            "the machine was started anew while the run was under way (reboot)".to_owned()
        } else if lost.survivors.is_empty() {
            format!(
                "its supervisor (pid {supervisor}) is gone and left no result; nothing of the run is left"
            )
        } else {
            let left: Vec<String> = lost.survivors.iter().map(ToString::to_string).collect();
            format!(
                "its supervisor (pid {supervisor}) is gone and left no result, but processes of the run \
                 are still there: {}; cancel the run to end them",
                left.join(", ")
            )
        };
        Ending::Failed {
            failure: Failure::new(FailureCode::Lost, message),
        }
    }
}

/// By what to find the processes of an attempt whose supervisor is gone.
#[must_use]
pub fn mark(key: Key, start: Option<&StartRecord>) -> Mark {
    Mark {
        run_id: key.run_id,
        attempt: key.attempt,
        supervisor: None,
        command: start.map(|start| start.process.clone()),
    }
}

fn episode_end(end: &EndRecord) -> Option<Fact> {
    let start = end.start.as_ref()?;
    Some(Fact::EpisodeEnded {
        episode: start.process.episode(),
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
#[must_use]
pub fn ending(end: &EndRecord) -> Ending {
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

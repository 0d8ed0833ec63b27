//! What the directory of an attempt says, and what follows from it: the only way from files to
//! observations, for the watch, a single read and the foreground alike.

use std::io;

use qwex_core::{BackendInfo, ObjectUid, Observation, Usage};
use qwex_runner::Key;
use qwex_runner::backend::Details;
use qwex_runner::durable::Dir;
use qwex_runner::supervised::{End, Story};

use crate::identity::{Life, ProcessId};
use crate::records::{
    self, END, EndRecord, START, SUPERVISOR, StartRecord, SupervisorRecord, WORK, WorkRecord,
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
    /// Its supervisor is on another machine or in another container, and left no end yet.
    Elsewhere,
    Ended(EndRecord),
    /// Its supervisor is gone and left no end.
    Lost(Lost),
}

/// An attempt about whose end nobody can know.
#[derive(Debug, Clone, Default)]
pub struct Lost {
    pub rebooted: bool,
    /// What of it still runs.
    pub survivors: Vec<ProcessId>,
}

/// What is known of an attempt on this machine beside how it ended.
pub fn details(snapshot: Option<&Snapshot>) -> Details {
    let name = nix::unistd::gethostname().ok();
    Details {
        image_digest: None,
        host: name.and_then(|name| name.into_string().ok()),
        usage: snapshot.and_then(Snapshot::usage),
    }
}

impl Snapshot {
    /// Reads an attempt; `None` if its directory holds no work yet. `shared`: whether other machines may have put it there.
    pub fn read(dir: &Dir, key: Key, shared: bool) -> io::Result<Option<Self>> {
        let Some(work) = records::read::<WorkRecord>(dir, WORK)? else {
            return Ok(None);
        };
        let supervisor: Option<SupervisorRecord> = records::read(dir, SUPERVISOR)?;
        // First whether it lives, then whether there is an end: it writes the end before it goes.
        let life = supervisor.as_ref().map(SupervisorRecord::life);
        let end: Option<EndRecord> = records::read_or_absent(dir, END)?;
        let start: Option<StartRecord> = match &end {
            Some(end) => end.start.clone(),
            None => records::read_or_absent(dir, START)?,
        };
        let stage = match (end, life) {
            (Some(end), _) => Stage::Ended(end),
            (None, None) => Stage::Unattended,
            (None, Some(Life::Alive)) => Stage::Attended,
            (None, Some(Life::Elsewhere)) if shared => Stage::Elsewhere,
            // The machine or container that this was before is gone.
            (None, Some(Life::Elsewhere)) => Stage::Lost(Lost::default()),
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
            Stage::Unattended | Stage::Attended | Stage::Elsewhere => false,
            Stage::Ended(_) | Stage::Lost(_) => true,
        }
    }

    /// Whether its log files are as long as they will ever be.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match &self.stage {
            Stage::Unattended | Stage::Attended | Stage::Elsewhere => false,
            Stage::Ended(_) => true,
            Stage::Lost(lost) => lost.survivors.is_empty(),
        }
    }

    /// What its processes used; `None` before its end, or where no command ran.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        match &self.stage {
            Stage::Ended(end) => end.usage(),
            Stage::Unattended | Stage::Attended | Stage::Elsewhere | Stage::Lost(_) => None,
        }
    }

    /// Everything that can be said of it now. A later snapshot of the same attempt only appends.
    #[must_use]
    pub fn observations(&self, backend: &BackendInfo) -> Vec<Observation> {
        let Some(supervisor) = &self.supervisor else {
            return Vec::new();
        };
        let mut backend = backend.clone();
        backend.uid = Some(supervisor.process.uid());
        let story = Story {
            key: self.key,
            backend,
            attended_at: supervisor.started_at,
            starting: self.starting(),
            node: None,
            start: self.start.as_ref(),
            end: match &self.stage {
                Stage::Unattended | Stage::Attended | Stage::Elsewhere => End::None,
                Stage::Ended(end) => End::Recorded(end),
                Stage::Lost(lost) => End::Lost(self.lost(lost)),
            },
        };
        story.observations()
    }

    fn starting(&self) -> String {
        let mut words = vec!["starting as a process of this machine".to_owned()];
        if !self.work.unused.is_empty() {
            words.push(format!("not used here: {}", self.work.unused.join(", ")));
        }
        let limits = self.supervisor.iter().flat_map(|record| &record.limits);
        words.extend(limits.cloned());
        words.join("; ")
    }

    fn lost(&self, lost: &Lost) -> String {
        let supervisor = self
            .supervisor
            .as_ref()
            .map(|s| s.process.pid)
            .unwrap_or_default();
        if lost.rebooted {
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

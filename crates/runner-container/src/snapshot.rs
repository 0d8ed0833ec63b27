//! What an engine says of one container, reduced to what we decide by.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use jiff::Timestamp;
use qwex_core::ObjectUid;
use qwex_runner::Key;

use crate::names;

/// A container as `inspect` showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: String,
    pub name: String,
    pub labels: HashMap<String, String>,
    pub phase: Phase,
    pub exit_code: Option<i64>,
    /// Of its first process, as the engine's machine counts; `None` while it does not run.
    pub pid: Option<i64>,
    pub oom_killed: bool,
    /// The engine's words about a failed start.
    pub error: String,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Id of the image it was made from.
    pub image_id: Option<String>,
    /// Where podman writes its log.
    pub log_path: Option<String>,
    /// Which of its drivers the engine keeps the log with; `None`: it does not tell.
    pub log_driver: Option<String>,
    /// Bytes; 0 without a limit.
    pub memory_limit: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Created,
    Running,
    Paused,
    Ended,
    /// The engine says it runs, and nothing of it does ([`crate::vigil`]).
    Abandoned,
    /// Being removed by somebody.
    Removing,
}

impl Snapshot {
    /// `None` where the engine's answer lacks an id or a state.
    pub fn of(inspect: ContainerInspectResponse) -> Option<Self> {
        let state = inspect.state?;
        let host = inspect.host_config.unwrap_or_default();
        let memory_limit = host.memory;
        let log_driver = host.log_config.and_then(|log| log.typ);
        Some(Self {
            id: inspect.id?,
            name: inspect
                .name
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            labels: inspect
                .config
                .and_then(|config| config.labels)
                .unwrap_or_default(),
            phase: phase(state.status?),
            exit_code: state.exit_code,
            pid: state.pid.filter(|pid| *pid > 0),
            oom_killed: state.oom_killed.unwrap_or(false),
            error: state.error.unwrap_or_default(),
            created_at: time(inspect.created.as_deref()),
            started_at: time(state.started_at.as_deref()),
            finished_at: time(state.finished_at.as_deref()),
            image_id: inspect.image,
            log_path: inspect.log_path.filter(|path| !path.is_empty()),
            log_driver,
            memory_limit: memory_limit.unwrap_or(0),
        })
    }

    /// From an answer of podman with one of its own states in it.
    pub fn of_podman(text: &str) -> Option<Self> {
        let mut inspect: serde_json::Value = serde_json::from_str(text).ok()?;
        let status = inspect.pointer_mut("/State/Status")?;
        let word = match status.as_str()? {
            // Its command has ended; what it used is not cleared away yet.
            "stopped" => "exited",
            "initialized" | "configured" => "created",
            other => other,
        };
        *status = word.into();
        Self::of(serde_json::from_value(inspect).ok()?)
    }

    pub fn key(&self) -> Option<Key> {
        names::of_labels(&self.labels)
    }

    pub fn uid(&self) -> ObjectUid {
        let label = self.labels.get(names::UID);
        ObjectUid(label.unwrap_or(&self.id).clone())
    }

    pub fn timeout(&self) -> Option<Duration> {
        let millis = self.labels.get(names::TIMEOUT)?.parse().ok()?;
        Some(Duration::from_millis(millis))
    }

    /// When its time is over.
    pub fn deadline(&self) -> Option<Timestamp> {
        let timeout = jiff::SignedDuration::try_from(self.timeout()?).ok()?;
        self.started_at?.checked_add(timeout).ok()
    }

    /// Whether its command was ever begun.
    pub fn was_started(&self) -> bool {
        self.started_at.is_some()
    }

    pub fn is_over(&self) -> bool {
        match self.phase {
            Phase::Created | Phase::Running | Phase::Paused => false,
            Phase::Ended | Phase::Abandoned | Phase::Removing => true,
        }
    }
}

fn phase(status: ContainerStateStatusEnum) -> Phase {
    match status {
        ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY => Phase::Created,
        ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::RESTARTING
        | ContainerStateStatusEnum::STOPPING => Phase::Running,
        ContainerStateStatusEnum::PAUSED => Phase::Paused,
        ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD => Phase::Ended,
        ContainerStateStatusEnum::REMOVING => Phase::Removing,
    }
}

/// Engines write year 1 for "never".
fn time(text: Option<&str>) -> Option<Timestamp> {
    let time: Timestamp = text?.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_podman_alone_are_understood() {
        let phase = |status: &str| {
            let text = format!(r#"{{"Id":"c","State":{{"Status":"{status}","ExitCode":3}}}}"#);
            Snapshot::of_podman(&text).map(|found| (found.phase, found.exit_code))
        };
        assert_eq!(phase("stopped"), Some((Phase::Ended, Some(3))));
        assert_eq!(phase("initialized"), Some((Phase::Created, Some(3))));
        assert_eq!(phase("running"), Some((Phase::Running, Some(3))));
        assert_eq!(phase("sleeping"), None);
        assert_eq!(Snapshot::of_podman("{"), None);
    }
}

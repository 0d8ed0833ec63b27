//! What a host says of one attempt, and what follows from it: the only way from files over there to
//! observations, for the watch and a single read alike.

use qwex_core::{BackendInfo, BackendKind, ObjectUid, Observation};
use qwex_runner::supervised::{End, Story};
use qwex_runner::{Key, RunnerError};
use serde::de::DeserializeOwned;

use crate::config::SshConfig;
use crate::error;
use crate::records::{EndRecord, ProcessRecord};

/// Where an attempt is.
#[must_use]
pub fn backend(key: Key, config: &SshConfig, uid: Option<ObjectUid>) -> BackendInfo {
    BackendInfo {
        kind: BackendKind::Ssh,
        cluster: None,
        address: Some(config.host.clone()),
        namespace: None,
        object: key.object(),
        uid,
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
    /// Its supervisor is on a machine that shares its files with the one that answered (`THERE HERE`), and left no end yet.
    Elsewhere(String),
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
            (None, Some("elsewhere")) => Stage::Elsewhere(find("elsewhere").unwrap_or_default().to_owned()),
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

    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Unattended | Stage::Attended | Stage::Elsewhere(_) => false,
            Stage::Ended(_) | Stage::Lost { .. } => true,
        }
    }

    /// Everything that can be said of it now. A later snapshot of the same attempt only appends.
    #[must_use]
    pub fn observations(&self, config: &SshConfig) -> Vec<Observation> {
        // One that no supervisor could begin may have an end all the same.
        let unattended = match &self.stage {
            Stage::Ended(end) => Some(end.ended_at),
            Stage::Unattended | Stage::Attended | Stage::Elsewhere(_) | Stage::Lost { .. } => None,
        };
        let supervised = self.supervisor.as_ref().map(|supervisor| supervisor.started_at);
        let Some(attended_at) = supervised.or(unattended) else {
            return Vec::new();
        };
        let story = Story {
            key: self.key,
            backend: backend(self.key, config, self.uid()),
            attended_at,
            starting: format!("starting on {}", config.host),
            node: Some(config.host.clone()),
            start: self.start.as_ref(),
            end: match &self.stage {
                Stage::Unattended | Stage::Attended | Stage::Elsewhere(_) => End::None,
                Stage::Ended(end) => End::Recorded(end),
                Stage::Lost { rebooted, left } => {
                    let supervisor = self.supervisor.as_ref().map(|record| record.process.as_str());
                    End::Lost(lost(config, supervisor.unwrap_or_default(), *rebooted, left))
                }
            },
        };
        story.observations()
    }
}

fn record<T: DeserializeOwned>(text: Option<&str>) -> serde_json::Result<Option<T>> {
    text.map(serde_json::from_str).transpose()
}

fn lost(config: &SshConfig, supervisor: &str, rebooted: bool, left: &[String]) -> String {
    let host = &config.host;
    let pid = supervisor.split('/').nth(1).unwrap_or_default();
    if rebooted {
        format!("{host} was started anew while the run was under way (reboot)")
    } else if left.is_empty() {
        format!("its supervisor (pid {pid} on {host}) is gone and left no result; nothing of the run is left")
    } else {
        format!(
            "its supervisor (pid {pid} on {host}) is gone and left no result, but processes of the run are \
             still there: {}; cancel the run to end them",
            left.join(", ")
        )
    }
}

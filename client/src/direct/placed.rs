//! What a run was asked to run on, kept beside its record: any process can take the run up again with it.

use std::path::PathBuf;

use qwex_core::Run;
use qwex_runner::durable::Durability;
use qwex_runner::{Journal, StoreError, Transfer, Work, Workspace};
use qwex_runner_k8s::Identity;
use qwex_runner_ssh::SshSettings;
use serde::{Deserialize, Serialize};

use super::beside;

pub(super) const FILE: &str = "placed.json";

/// A backend by the words of the command line, and the directory a run belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The word of `--backend`.
    pub backend: String,
    /// SSH host, kubeconfig context or engine address; `None`: the backend's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Kubernetes namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The cluster that the context led to when the run was placed: later processes find it there or do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Identity>,
    /// Absolute; `None`: the run sees no files of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<PathBuf>,
    #[serde(default)]
    pub send: Sent,
    /// What was configured for the ssh host when the run was submitted: its directory there must be found again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshSettings>,
    /// Directories of nodes that the run may mount, as the policy said when it was submitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_paths: Vec<String>,
}

/// What of the workspace goes to a backend elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    #[default]
    Nothing,
    Everything,
    Only(Vec<PathBuf>),
}

impl Placed {
    /// Keeps it beside the run's record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, journal: &Journal) -> Result<(), StoreError> {
        journal.write_file(FILE, &self.bytes(), Durability::Machine)
    }

    /// What is written.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("words and paths serialise")
    }

    /// `None`: the run is a plain process of this machine, or was never handed to anyone.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(journal: &Journal) -> Result<Option<Self>, StoreError> {
        beside::read(journal, FILE)
    }

    /// Where that is, for people.
    #[must_use]
    pub fn words(&self) -> String {
        match (&self.address, self.backend.as_str()) {
            (None, "local") => "this machine".to_owned(),
            (None, backend) => backend.to_owned(),
            (Some(address), backend) => format!("{backend} {address}"),
        }
    }

    /// The attempt a run is at, ready for its backend.
    #[must_use]
    pub fn work(&self, run: &Run) -> Work {
        Work {
            run_id: run.id,
            attempt: run.attempt,
            project: run.project.clone(),
            name: run.name.clone(),
            labels: run.labels.clone(),
            spec: run.spec.clone(),
            workspace: self.workspace.clone().map(|dir| Workspace {
                dir,
                send: match &self.send {
                    Sent::Nothing => Transfer::Nothing,
                    Sent::Everything => Transfer::Everything,
                    Sent::Only(paths) => Transfer::Only(paths.clone()),
                },
            }),
        }
    }
}

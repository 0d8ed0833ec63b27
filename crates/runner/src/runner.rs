//! The acting half of a backend.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use qwex_core::{Attempt, BackendInfo, BackendKind, JobSpec, Project, RunId, RunName};

use crate::error::RunnerError;

/// One attempt of a run, ready for a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub project: Project,
    pub name: Option<RunName>,
    pub labels: BTreeMap<String, String>,
    pub spec: JobSpec,
    /// The directory of this machine that the command belongs to; `None` on a server.
    pub workspace: Option<Workspace>,
}

/// Files of this machine that a run works on. Backends of this machine work in the directory itself,
/// others send what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Absolute.
    pub dir: PathBuf,
    pub send: Transfer,
}

/// What of a workspace goes to a backend that does not see this machine's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transfer {
    Nothing,
    /// The tree, without what `.gitignore` and `.qwexignore` name, `.git` and `.qwex`.
    Everything,
    /// These paths, relative to the directory.
    Only(Vec<PathBuf>),
}

impl Work {
    /// The name of the object this attempt becomes.
    #[must_use]
    pub fn object_name(&self) -> String {
        self.run_id.object_name(self.attempt)
    }
}

/// Names an attempt on the backend that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    pub run_id: RunId,
    pub attempt: Attempt,
    /// Its `uid` may be missing when the reply to the submit was lost.
    pub backend: BackendInfo,
}

/// A submit that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// With the UID set.
    pub backend: BackendInfo,
    /// The object was there already and is ours.
    pub adopted: bool,
}

/// How far a cancel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelProgress {
    /// Asked; something of it still runs. Ask again later.
    Stopping { message: String },
    /// Nothing of it runs any more, and nothing of it can start.
    Stopped,
}

/// Starts and cancels. Never calls the qwexcloud API, never judges how a run ended.
#[async_trait]
pub trait Runner: Send + Sync {
    fn kind(&self) -> BackendKind;

    /// Hands one attempt to the backend and returns at once. Idempotent: a second call for the same
    /// attempt adopts the object of the first.
    async fn submit(&self, work: &Work) -> Result<Submitted, RunnerError>;

    /// Asks to stop an attempt. Idempotent; call it again until it says `Stopped`. An object with
    /// another UID than the handle's is never touched.
    async fn cancel(&self, handle: &Handle) -> Result<CancelProgress, RunnerError>;

    /// Tells that result and logs are durable: the backend may remove its objects in its own time.
    async fn release(&self, handle: &Handle) -> Result<(), RunnerError>;
}

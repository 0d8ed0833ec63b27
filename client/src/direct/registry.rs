//! Every backend of this program. A new one is a crate and a line here.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use qwex_runner::{Backend, RunnerError};

use super::placed::Placed;

/// What a backend is opened with.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The directory of all records: `.qwex/runs`.
    pub runs: PathBuf,
    /// Where commands of this machine start.
    pub dir: PathBuf,
    pub placed: Placed,
}

pub type Opened = BoxFuture<'static, Result<Arc<dyn Backend>, RunnerError>>;

/// A backend by its word.
pub struct Entry {
    pub name: &'static str,
    /// One line for help and for `doctor`.
    pub about: &'static str,
    pub open: fn(Opening) -> Opened,
}

pub const REGISTRY: &[Entry] = &[Entry {
    name: "local",
    about: "a process of this machine",
    open: |opening| Box::pin(async move { Ok(Arc::new(super::local(opening)?) as Arc<dyn Backend>) }),
}];

/// The backend of a word.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}

/// Opens the backend that a run was asked to run on.
///
/// # Errors
/// It is not built into this version, or it cannot be set up.
pub async fn open(opening: Opening) -> Result<Arc<dyn Backend>, RunnerError> {
    match find(&opening.placed.backend) {
        Some(entry) => (entry.open)(opening).await,
        None => Err(RunnerError::Unsupported {
            message: format!(
                "there is no backend {:?} in this version of qwexctl",
                opening.placed.backend
            ),
        }),
    }
}

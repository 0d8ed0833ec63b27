//! How the run store can fail.

use std::io;
use std::path::{Path, PathBuf};

use qwex_core::RunId;

/// An error of the run store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// No run of this store is meant by the word.
    #[error("no run here is named `{word}`; `qwexctl ps` lists them")]
    NotFound { word: String },
    /// More than one id begins like this.
    #[error("`{word}` may be {}; give more of the id", list(ids))]
    Ambiguous { word: String, ids: Vec<RunId> },
    /// The id is taken by a run with another spec.
    #[error("run {id} is recorded already, with another spec")]
    Conflict { id: RunId },
    /// The run is under way.
    #[error("run {id} has not ended; cancel it first")]
    Active { id: RunId },
    /// The records are somebody else's.
    #[error("{path} belongs to another user (uid {owner}), so nothing in it is looked at", path = path.display())]
    Foreign { path: PathBuf, owner: u32 },
    /// The record cannot be read.
    #[error("{path} is damaged: {message}", path = path.display())]
    Damaged { path: PathBuf, message: String },
    /// A newer version of qwex wrote the record; this one must not change it.
    #[error("{path} has version {version}, this qwex writes {ours}; update qwex", path = path.display(), ours = super::VERSION)]
    Newer { path: PathBuf, version: u64 },
}

impl StoreError {
    /// An error of a file.
    #[must_use]
    pub fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

fn list(ids: &[RunId]) -> String {
    let some: Vec<String> = ids.iter().take(5).map(ToString::to_string).collect();
    let more = if ids.len() > some.len() { ", …" } else { "" };
    format!("{}{more}", some.join(" or "))
}

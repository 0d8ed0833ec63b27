//! How a pipeline may fail to be recorded, read or driven.

use std::io;
use std::path::{Path, PathBuf};

use qwex_core::RunId;
use qwex_runner::StoreError;

use super::record::PipelineId;

#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("there is no pipeline {word:?} here")]
    NotFound { word: String },
    /// It is under way.
    #[error("pipeline {id} has not ended")]
    Active { id: PipelineId },
    /// Its record was put there by somebody else, or by something.
    #[error("pipeline {id} is not driven")]
    Foreign {
        id: PipelineId,
        /// Runs of this directory that it calls under way.
        open: Vec<RunId>,
        source: Doubt,
    },
    #[error("cannot find a place for the key that marks pipelines as yours")]
    Key { source: io::Error },
    /// The directory that holds `.qwex` cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{word:?} is the beginning of more than one pipeline id")]
    Ambiguous { word: String },
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the record {} is damaged: {message}", path.display())]
    Damaged { path: PathBuf, message: String },
    #[error("the record {} was written by a newer qwex (version {version})", path.display())]
    Newer { path: PathBuf, version: u64 },
    /// The stored bytes are not there, or not those of the hash.
    #[error("the stored file {hash} is gone or damaged")]
    Spoilt { hash: String },
    #[error("{message}")]
    Refused { message: String },
}

/// Why a pipeline is taken for somebody else's.
#[derive(Debug, thiserror::Error)]
#[error(
    "nobody can say that you began it on this machine ({0}), so nothing of it is started, resumed or cancelled here"
)]
pub struct Doubt(pub(super) String);

impl PipelineError {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

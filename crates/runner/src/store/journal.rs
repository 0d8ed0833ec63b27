//! The only writer of a run's record.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::OFlag;
use qwex_core::transition::{RejectReason, next};
use qwex_core::{LogSummary, Observation, Provenance, Run, RunId, Step, Usage};

use super::record::Record;
use super::{RECORD, StoreError};
use crate::durable::{Dir, Durability};

const LOCK: &str = ".lock";

/// Writes the record of one run. Any number of processes may have one: each change reads, decides and
/// writes under a file lock, so that none is lost.
#[derive(Debug, Clone)]
pub struct Journal {
    id: RunId,
    dir: Arc<Dir>,
}

/// What observations did to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The run after them.
    pub run: Run,
    /// Whether any of them changed it.
    pub moved: bool,
    /// Facts that contradict what is known.
    pub refused: Vec<RejectReason>,
}

impl Journal {
    pub(super) fn new(id: RunId, dir: Dir) -> Self {
        Self {
            id,
            dir: Arc::new(dir),
        }
    }

    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The run as it is recorded now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn read(&self) -> Result<Run, StoreError> {
        Ok(self.record()?.run)
    }

    /// Applies observations in order, through the transition function, in one write.
    ///
    /// # Errors
    /// [`StoreError::Newer`] and those of [`Journal::read`]; the record is then as it was.
    pub fn apply(&self, seen: &[Observation]) -> Result<Applied, StoreError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let (moved, refused) = self.advance(&mut record, seen);
        if moved {
            self.write(&record, Durability::Machine)?;
        }
        Ok(Applied {
            run: record.run,
            moved,
            refused,
        })
    }

    /// The run as these observations would leave it; nothing is written.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn preview(&self, seen: &[Observation]) -> Result<Run, StoreError> {
        let mut record = self.record()?;
        self.advance(&mut record, seen);
        Ok(record.run)
    }

    /// Whether anything moved, and the facts that were refused.
    fn advance(&self, record: &mut Record, seen: &[Observation]) -> (bool, Vec<RejectReason>) {
        let mut state = record.state();
        let mut moved = false;
        let mut refused = Vec::new();
        for observation in seen.iter().filter(|seen| seen.run_id == self.id) {
            match next(&state, observation) {
                Step::Move(after) => {
                    state = *after;
                    moved = true;
                }
                Step::Stay(_) => {}
                Step::Reject(reason) => {
                    tracing::warn!(run_id = %self.id, ?reason, fact = ?observation.fact, "refused an observation");
                    refused.push(reason);
                }
            }
        }
        if moved {
            record.put(state);
        }
        (moved, refused)
    }

    /// Stores the summary of the sealed log; the first one stays.
    ///
    /// # Errors
    /// As [`Journal::apply`].
    pub fn seal_logs(&self, summary: LogSummary) -> Result<Run, StoreError> {
        self.conclude(&[], summary, None)
    }

    /// Stores what was seen last of a run, the summary of its sealed log and what it used, in one write. Once there is
    /// a summary, nothing changes.
    ///
    /// # Errors
    /// As [`Journal::apply`].
    pub fn conclude(
        &self,
        seen: &[Observation],
        summary: LogSummary,
        usage: Option<Usage>,
    ) -> Result<Run, StoreError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        if record.run.logs.is_none() {
            self.advance(&mut record, seen);
            record.run.logs = Some(summary);
            record.run.usage = usage.or(record.run.usage.take());
            self.write(&record, Durability::Machine)?;
        }
        Ok(record.run)
    }

    /// Stores what is known of the run beside its state. What was known before and is not told again stays.
    ///
    /// # Errors
    /// As [`Journal::apply`].
    pub fn note(&self, provenance: Provenance, usage: Option<Usage>) -> Result<Run, StoreError> {
        let _lock = self.lock()?;
        let mut record = self.record()?;
        let known = record.run.provenance.clone().unwrap_or_default();
        let noted = Provenance {
            git_commit: provenance.git_commit.or(known.git_commit),
            git_dirty: provenance.git_dirty.or(known.git_dirty),
            image_digest: provenance.image_digest.or(known.image_digest),
            host: provenance.host.or(known.host),
            qwex_version: provenance.qwex_version.or(known.qwex_version),
            runs_by: provenance.runs_by.or(known.runs_by),
        };
        let before = (record.run.provenance.clone(), record.run.usage.clone());
        record.run.provenance = Some(noted).filter(|noted| *noted != Provenance::default());
        record.run.usage = usage.or(record.run.usage.take());
        if before != (record.run.provenance.clone(), record.run.usage.clone()) {
            self.write(&record, Durability::Machine)?;
        }
        Ok(record.run)
    }

    /// Writes a file beside the record, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_file(&self, name: &str, bytes: &[u8], durability: Durability) -> Result<(), StoreError> {
        self.dir
            .write(name, bytes, durability)
            .map_err(|source| StoreError::io("write", &self.path_of(name), source))
    }

    /// Reads a file beside the record; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.dir
            .read(name)
            .map_err(|source| StoreError::io("read", &self.path_of(name), source))
    }

    /// Opens a file beside the record.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open_file(&self, name: &str, flags: OFlag) -> Result<File, StoreError> {
        self.dir
            .open_file(name, flags)
            .map_err(|source| StoreError::io("open", &self.path_of(name), source))
    }

    /// Path of a file beside the record.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the first record, unless the same run is recorded already.
    pub(super) fn begin(&self, run: &Run, durability: Durability) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        match self.record() {
            Err(StoreError::NotFound { .. }) => self.write(&Record::new(run.clone()), durability),
            Ok(known) if known.run.spec == run.spec => Ok(()),
            Ok(_) => Err(StoreError::Conflict { id: self.id }),
            Err(error) => Err(error),
        }
    }

    /// Writes the record of a run as another keeper of runs told it, with the fields that we do not know.
    pub(super) fn adopt(&self, json: &[u8]) -> Result<Run, StoreError> {
        let record = Record::parse(&self.path(), json)?;
        if record.run.id != self.id {
            return Err(StoreError::Damaged {
                path: self.path(),
                message: format!("it is of run {}", record.run.id),
            });
        }
        self.write(&record, Durability::Machine)?;
        Ok(record.run)
    }

    /// Held until dropped.
    pub(super) fn lock(&self) -> Result<File, StoreError> {
        let locked = self
            .dir
            .open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)
            .and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| StoreError::io("lock", &self.dir.path().join(LOCK), source))
    }

    fn record(&self) -> Result<Record, StoreError> {
        let path = self.path();
        match self.dir.read(RECORD) {
            Ok(Some(bytes)) => Record::parse(&path, &bytes),
            Ok(None) => Err(StoreError::NotFound {
                word: self.id.to_string(),
            }),
            Err(source) => Err(StoreError::io("read", &path, source)),
        }
    }

    fn write(&self, record: &Record, durability: Durability) -> Result<(), StoreError> {
        let path = self.path();
        let bytes = record.to_bytes(&path)?;
        self.dir
            .write(RECORD, &bytes, durability)
            .map_err(|source| StoreError::io("write", &path, source))
    }

    fn path(&self) -> PathBuf {
        self.path_of(RECORD)
    }
}

//! The run store of a project on this machine: `.qwex/runs/<id>/run.json`. Used by the client for runs
//! without a server.
//!
//! Reading needs no lock, because files are replaced whole. Run state is written by a [`Journal`] only,
//! and only through [`qwex_core::transition::next`].

mod error;
mod find;
mod incoming;
mod index;
mod journal;
mod owner;
mod record;

use std::io;
use std::path::{Path, PathBuf};

use qwex_core::{Run, RunId};

use crate::durable::{Dir, Durability};

pub use error::StoreError;
pub use find::Listing;
pub use incoming::Incoming;
pub use journal::{Applied, Journal};
pub use owner::{Nearest, is_trusted, nearest};
pub use record::{VERSION, state_of};

pub(crate) const RECORD: &str = "run.json";

/// The runs of one project directory.
#[derive(Debug)]
pub struct Store {
    /// `.qwex`.
    qwex: Dir,
    runs: Dir,
}

impl Store {
    /// Opens the store of a project directory, made if it is not there. Neither `.qwex` nor anything
    /// below it may be a symlink: a hostile checkout could lead our writes elsewhere.
    ///
    /// # Errors
    /// [`StoreError::Foreign`], [`StoreError::Io`].
    pub fn open(project: &Path) -> Result<Self, StoreError> {
        let place = project.join(".qwex");
        let broken = |source| StoreError::io("open", &place, source);
        let project = std::path::absolute(project).map_err(broken)?;
        let qwex = Dir::open(&project)
            .and_then(|project| project.ensure_dir(".qwex"))
            .map_err(broken)?;
        owner::check(&project)?;
        if !qwex.has(".gitignore").map_err(broken)? {
            qwex.write(".gitignore", b"*\n", Durability::Process)
                .map_err(broken)?;
        }
        let runs = qwex.ensure_dir("runs").map_err(broken)?;
        Ok(Self { qwex, runs })
    }

    /// Opens the store of the nearest directory, from `start` upwards, that has one. Above `start` those of other users
    /// are passed over: anybody may put one into a directory that all share.
    ///
    /// # Errors
    /// [`StoreError::Foreign`], [`StoreError::Io`].
    pub fn find(start: &Path) -> Result<Option<Self>, StoreError> {
        nearest(start, "runs")?.dir.as_deref().map(Self::open).transpose()
    }

    /// The directory of all runs: root of a local backend with a directory per run.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.runs.path()
    }

    /// Directory of one run.
    #[must_use]
    pub fn run_path(&self, id: RunId) -> PathBuf {
        self.runs.path().join(id.to_string())
    }

    /// Records a new run. The same run once more is no error; the same id with another spec is.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::Io`].
    pub fn create(&self, run: &Run) -> Result<Journal, StoreError> {
        let journal = self.create_as(run, Durability::Machine)?;
        self.settle()
            .map_err(|source| StoreError::io("record", &self.run_path(run.id), source))?;
        Ok(journal)
    }

    /// Makes every run that was created survive a crash of the machine.
    ///
    /// # Errors
    /// The disk's.
    pub fn settle(&self) -> io::Result<()> {
        self.runs.sync()
    }

    /// Like [`Store::create`], for a run whose attempt is put beside the record at once: whoever puts it there syncs the
    /// run's directory, and the record with it, and then calls [`Store::settle`], before anything starts.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_with_attempt(&self, run: &Run) -> Result<Journal, StoreError> {
        self.create_as(run, Durability::Whole)
    }

    fn create_as(&self, run: &Run, durability: Durability) -> Result<Journal, StoreError> {
        let broken = |source| StoreError::io("record", &self.run_path(run.id), source);
        let name = run.id.to_string();
        let dir = match self.runs.open_dir(&name) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self
                .change(Some(run.id), || self.runs.ensure_dir(&name))
                .map_err(broken)?,
            Err(error) => return Err(broken(error)),
        };
        let journal = Journal::new(run.id, dir);
        journal.begin(run, durability)?;
        Ok(journal)
    }

    /// The writer of a run that exists.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn journal(&self, id: RunId) -> Result<Journal, StoreError> {
        match self.runs.open_dir(&id.to_string()) {
            Ok(dir) => Ok(Journal::new(id, dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NotFound { word: id.to_string() })
            }
            Err(source) => Err(StoreError::io("open", &self.run_path(id), source)),
        }
    }

    /// A run that exists.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn get(&self, id: RunId) -> Result<Run, StoreError> {
        self.journal(id)?.read()
    }

    /// Removes the record of a run, its logs and all else in its directory.
    ///
    /// # Errors
    /// [`StoreError::Active`] while it is under way, [`StoreError::Io`].
    pub fn remove(&self, id: RunId) -> Result<(), StoreError> {
        let journal = self.journal(id)?;
        let _lock = journal.lock()?;
        match journal.read() {
            Ok(run) if !run.status.is_terminal() => return Err(StoreError::Active { id }),
            // What cannot be read can only be removed.
            Ok(_) | Err(StoreError::Damaged { .. } | StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.take_away(id)
    }

    /// The same for a run that is under way by its record, and that nobody can bring to its end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn remove_anyway(&self, id: RunId) -> Result<(), StoreError> {
        let journal = self.journal(id)?;
        let _lock = journal.lock()?;
        self.take_away(id)
    }

    fn take_away(&self, id: RunId) -> Result<(), StoreError> {
        let aside = format!(".gone-{id}");
        let removed = self.change(None, || {
            // Aside first: who is killed here leaves no half of a run.
            self.runs.remove_tree(&aside)?;
            self.runs.move_to(&id.to_string(), &self.runs, &aside)?;
            self.runs.remove_tree(&aside)
        });
        removed.map_err(|source| StoreError::io("remove", &self.run_path(id), source))
    }
}

#[cfg(test)]
mod tests;

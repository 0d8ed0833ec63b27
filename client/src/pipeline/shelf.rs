//! Where pipelines are recorded: `.qwex/pipelines/<id>/` of the project's directory. Files are replaced whole, so that
//! reading needs no lock; only the driver of a pipeline writes its record, and the one who takes it up again. Each record
//! carries the mark of who wrote it (`mark::pipeline`).

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use qwex_core::{RunId, RunStatus};
use qwex_runner::durable::{Dir, Durability};
use qwex_runner::store::nearest;
use qwex_runner::{Store, StoreError};
use serde::Deserialize;

use super::error::{Doubt, PipelineError};
use super::record::{Pipeline, PipelineId, StageStatus, VERSION};
use crate::mark;

type Result<T> = std::result::Result<T, PipelineError>;

const RECORD: &str = "pipeline.json";
const LOCK: &str = "driver.lock";
const CANCEL: &str = "cancel";
const LOG: &str = "driver.log";
/// Before the id of one that is being removed.
const GONE: &str = ".gone-";
/// Fewer characters of an id mean nothing: the first eight are a time.
const SHORTEST_PREFIX: usize = 4;

/// The pipelines of a project.
#[derive(Debug)]
pub struct Shelf {
    project: PathBuf,
    dir: Dir,
}

/// One pipeline's place.
#[derive(Debug)]
pub struct Shelved {
    pub id: PipelineId,
    pub project: PathBuf,
    dir: Dir,
}

impl Shelf {
    /// Opens the place of a project's directory, made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(project: &Path) -> Result<Self> {
        let broken = |source| PipelineError::io("open", &project.join(".qwex/pipelines"), source);
        // The store of runs makes `.qwex` as it must be.
        Store::open(project)?;
        let project = std::path::absolute(project).map_err(broken)?;
        let dir = Dir::open(&project)
            .and_then(|project| project.ensure_dir(".qwex"))
            .and_then(|qwex| qwex.ensure_dir("pipelines"))
            .map_err(broken)?;
        Ok(Self { project, dir })
    }

    /// Opens the place of a project's directory if it is there.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn at(project: &Path) -> Result<Option<Self>> {
        let is_there = project.join(".qwex/pipelines").is_dir();
        is_there.then(|| Self::open(project)).transpose()
    }

    /// Opens that of the nearest directory, from `start` upwards, that has any; and why one that is nearer was passed over,
    /// as of runs.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn find(start: &Path) -> Result<(Option<Self>, Option<StoreError>)> {
        let nearest = nearest(start, "pipelines")?;
        let found = nearest.dir.as_deref().map(Self::open).transpose()?;
        Ok((found, nearest.passed_over))
    }

    #[must_use]
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// The directory of a pipeline.
    #[must_use]
    pub fn path_of(&self, id: PipelineId) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    /// Ids, newest first.
    ///
    /// # Errors
    /// The place cannot be read.
    pub fn ids(&self) -> Result<Vec<PipelineId>> {
        let names = self
            .dir
            .names()
            .map_err(|source| PipelineError::io("list", self.dir.path(), source))?;
        let mut ids: Vec<PipelineId> = names
            .iter()
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// All that can be read, newest first.
    ///
    /// # Errors
    /// The place cannot be read.
    pub fn list(&self) -> Result<Vec<Pipeline>> {
        let ids = self.ids()?;
        Ok(ids
            .into_iter()
            .filter_map(|id| self.get(id).ok()?.read().ok())
            .collect())
    }

    /// Records a new pipeline.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, pipeline: &Pipeline) -> Result<Shelved> {
        // Without it nothing is left behind.
        own_key()?;
        let shelved = self.make(pipeline.id)?;
        shelved.write(pipeline)?;
        let synced = self.dir.sync();
        synced.map_err(|source| PipelineError::io("make", shelved.dir.path(), source))?;
        Ok(shelved)
    }

    /// A place without a record.
    pub(super) fn make(&self, id: PipelineId) -> Result<Shelved> {
        let name = id.to_string();
        let made = self.dir.create_dir(&name);
        let dir = made.map_err(|source| PipelineError::io("make", &self.dir.path().join(&name), source))?;
        Ok(self.shelved(id, dir))
    }

    /// The place of a pipeline.
    ///
    /// # Errors
    /// It is not there.
    pub fn get(&self, id: PipelineId) -> Result<Shelved> {
        match self.dir.open_dir(&id.to_string()) {
            Ok(dir) => Ok(self.shelved(id, dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(PipelineError::NotFound { word: id.to_string() })
            }
            Err(source) => Err(PipelineError::io(
                "open",
                &self.dir.path().join(id.to_string()),
                source,
            )),
        }
    }

    /// Removes the record of a pipeline that is over, with `force` also of one that is not this user's to end. Its runs
    /// stay.
    ///
    /// # Errors
    /// [`PipelineError::Active`] while it is under way, [`PipelineError::Foreign`] if it could be with `force`; it is not
    /// there, or cannot be removed.
    pub fn remove(&self, id: PipelineId, force: bool) -> Result<()> {
        let shelved = self.get(id)?;
        let Some(_lock) = shelved.lock()? else {
            return Err(PipelineError::Active { id });
        };
        match shelved.read() {
            Ok(pipeline) if !pipeline.status.is_terminal() => match shelved.check_own() {
                Ok(()) => return Err(PipelineError::Active { id }),
                Err(PipelineError::Foreign { .. }) if force => {}
                Err(error) => return Err(error),
            },
            // What cannot be read can only be removed.
            Ok(_) | Err(PipelineError::Damaged { .. } | PipelineError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let (name, aside) = (id.to_string(), format!("{GONE}{id}"));
        // Aside first: who is killed here leaves no half of a pipeline.
        let removed = self
            .dir
            .remove_tree(&aside)
            .and_then(|()| self.dir.move_to(&name, &self.dir, &aside))
            .and_then(|()| self.dir.sync())
            .and_then(|()| self.dir.remove_tree(&aside));
        removed.map_err(|source| PipelineError::io("remove", &self.dir.path().join(name), source))
    }

    fn shelved(&self, id: PipelineId, dir: Dir) -> Shelved {
        Shelved {
            id,
            project: self.project.clone(),
            dir,
        }
    }

    /// The pipeline that a word means: id, unique beginning of one, name, `@latest`, `@last-failed`.
    ///
    /// # Errors
    /// None or more than one is meant.
    pub fn resolve(&self, word: &str) -> Result<Shelved> {
        let not_found = || PipelineError::NotFound {
            word: word.to_owned(),
        };
        if let Ok(id) = word.parse() {
            return self.get(id);
        }
        let newest = |wanted: &dyn Fn(&Pipeline) -> bool| -> Result<Option<PipelineId>> {
            Ok(self.list()?.iter().find(|one| wanted(one)).map(|one| one.id))
        };
        let named = match word {
            "@latest" => newest(&|_| true)?,
            "@last-failed" => newest(&|one| one.status == RunStatus::Failed)?,
            word => match newest(&|one| one.name.as_deref() == Some(word))? {
                Some(id) => Some(id),
                None => self.by_prefix(word)?,
            },
        };
        self.get(named.ok_or_else(not_found)?)
    }

    fn by_prefix(&self, word: &str) -> Result<Option<PipelineId>> {
        if word.len() < SHORTEST_PREFIX {
            return Ok(None);
        }
        let prefix = word.to_ascii_lowercase();
        let mut found = self
            .ids()?
            .into_iter()
            .filter(|id| id.to_string().starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(PipelineError::Ambiguous {
                word: word.to_owned(),
            }),
            (found, _) => Ok(found),
        }
    }
}

impl Shelved {
    /// The pipeline as it is recorded now.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn read(&self) -> Result<Pipeline> {
        self.parsed(&self.bytes()?)
    }

    /// The same for whoever acts upon it.
    ///
    /// # Errors
    /// As [`Shelved::read`]; [`PipelineError::Foreign`]: nobody can say that it is this user's.
    pub fn read_own(&self) -> Result<Pipeline> {
        let bytes = self.bytes()?;
        let pipeline = self.parsed(&bytes)?;
        // A key that cannot be read now says nothing of whose this is.
        mark::known_key().map_err(|source| PipelineError::Key { source })?;
        match mark::pipeline::doubt(self.id, &bytes) {
            None => Ok(pipeline),
            Some(doubt) => Err(PipelineError::Foreign {
                id: self.id,
                open: self.open_runs(&pipeline),
                source: Doubt(doubt),
            }),
        }
    }

    /// Runs that a record calls under way and that are in this directory. Nobody has to believe it: to end one is up to
    /// whoever reads of it.
    fn open_runs(&self, pipeline: &Pipeline) -> Vec<RunId> {
        let runs = self.project.join(".qwex/runs");
        let under_way = pipeline
            .stages
            .iter()
            .filter(|stage| stage.status == StageStatus::Running);
        under_way
            .map(|stage| stage.run_id)
            .filter(|id| runs.join(id.to_string()).is_dir())
            .collect()
    }

    /// Whether it is this user's to drive.
    ///
    /// # Errors
    /// As [`Shelved::read_own`].
    pub fn check_own(&self) -> Result<()> {
        self.read_own().map(drop)
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let read = self.dir.read(RECORD);
        read.map_err(|source| PipelineError::io("read", &self.dir.path().join(RECORD), source))?
            .ok_or_else(|| PipelineError::NotFound {
                word: self.id.to_string(),
            })
    }

    fn parsed(&self, bytes: &[u8]) -> Result<Pipeline> {
        let path = self.dir.path().join(RECORD);
        let damaged = |message: String| PipelineError::Damaged {
            path: path.clone(),
            message,
        };
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if head.version > VERSION {
            return Err(PipelineError::Newer {
                path,
                version: head.version,
            });
        }
        serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))
    }

    /// Replaces the record; it is on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written; the record is then as it was.
    pub fn write(&self, pipeline: &Pipeline) -> Result<()> {
        let path = self.dir.path().join(RECORD);
        let json = serde_json::to_vec_pretty(pipeline).map_err(|error| PipelineError::Damaged {
            path: path.clone(),
            message: error.to_string(),
        })?;
        let record = mark::pipeline::marked(&known_key()?, self.id, &json);
        let written = self.dir.write(RECORD, &record, Durability::Machine);
        written.map_err(|source| PipelineError::io("write", &path, source))
    }

    /// Changes whenever the record does.
    #[must_use]
    pub fn mark(&self) -> Option<(u64, std::time::SystemTime)> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(self.dir.path().join(RECORD)).ok()?;
        Some((meta.ino(), meta.modified().ok()?))
    }

    /// The right to drive it, held until dropped; `None`: another process drives it.
    ///
    /// # Errors
    /// The lock cannot be opened.
    pub fn lock(&self) -> Result<Option<File>> {
        let broken = |source| PipelineError::io("lock", &self.dir.path().join(LOCK), source);
        let file = self
            .dir
            .open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)
            .map_err(broken)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(broken(source)),
        }
    }

    /// Whether somebody holds the right to drive it. Looking never takes it from a driver that begins: a shared lock
    /// goes beside others that look, and a driver tries for a while.
    ///
    /// # Errors
    /// The lock cannot be opened.
    pub fn is_locked(&self) -> Result<bool> {
        let broken = |source| PipelineError::io("lock", &self.dir.path().join(LOCK), source);
        let file = self
            .dir
            .open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)
            .map_err(broken)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(broken(source)),
        }
    }

    /// Where its driver writes what goes wrong.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn log(&self) -> Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND;
        let log = self.dir.open_file(LOG, flags);
        log.map_err(|source| PipelineError::io("open", &self.dir.path().join(LOG), source))
    }

    /// Leaves word that it shall be cancelled.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn ask_to_cancel(&self) -> Result<()> {
        let written = self.dir.write(CANCEL, b"", Durability::Machine);
        written.map_err(|source| PipelineError::io("write", &self.dir.path().join(CANCEL), source))
    }

    #[must_use]
    pub fn is_asked_to_cancel(&self) -> bool {
        self.dir.has(CANCEL).unwrap_or(false)
    }

    /// Takes the word back.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget_cancel(&self) -> Result<()> {
        let removed = self.dir.remove_file(CANCEL);
        removed.map_err(|source| PipelineError::io("remove", &self.dir.path().join(CANCEL), source))
    }
}

/// The key that the pipeline was begun with: another one, made while that is out of reach, would make it a stranger's.
fn known_key() -> Result<mark::Key> {
    let key = mark::known_key().and_then(|key| {
        key.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "your key, by which the pipeline is known as yours, is not there now",
            )
        })
    });
    key.map_err(|source| PipelineError::Key { source })
}

fn own_key() -> Result<mark::Key> {
    mark::own_key().map_err(|source| PipelineError::Key { source })
}

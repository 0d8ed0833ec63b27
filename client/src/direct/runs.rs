//! [`Direct`]: the runs of a directory, on whatever backend each of them is. A plain run of this machine is brought up
//! to date by whoever looks; every other run has a keeper, and whoever looks sees to it that there is one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{
    Attempt, Fact, Flags, JobSpec, Observation, Pending, PendingCode, Project, Provenance, Run, RunId,
    RunName, RunStatus,
};
use qwex_runner::{Journal, Runner, Store, StoreError, store::nearest, store::state_of, wait};
use qwex_runner_local::LocalBackend;

use super::error::DirectError;
use super::facts::about;
use super::history::History;
use super::keeper::Unkept;
use super::outputs::Outputs;
use super::placed::Placed;
use super::plain::{handle_of, plain};
use super::registry::Opening;
use super::{keeper, log_files, vouch};

pub(super) type Result<T> = std::result::Result<T, DirectError>;

/// Pause between two questions whether a run has stopped.
const LOOK: Duration = Duration::from_millis(50);
/// The same while a run is handed over.
const QUICK_LOOK: Duration = Duration::from_millis(5);
/// How long whoever only looks waits until all of a run is stored: what a backend that is away has of it may never come.
const SETTLING: Duration = Duration::from_secs(10);

/// The runs of one directory.
pub struct Direct {
    pub(super) store: Store,
    dir: PathBuf,
    pub backend: LocalBackend,
}

/// What names a new run.
pub struct NewRun {
    pub id: RunId,
    pub name: Option<RunName>,
    pub project: Project,
    pub labels: std::collections::BTreeMap<String, String>,
    pub spec: JobSpec,
    pub provenance: Provenance,
}

impl Direct {
    /// The runs recorded in this directory; the store is made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open() -> Result<Self> {
        let dir = here()?;
        Self::over(Store::open(&dir)?, dir)
    }

    /// The runs of this directory or the nearest one above it that has any; and why one that is nearer was passed over.
    ///
    /// # Errors
    /// There is a store, and it cannot be used.
    pub fn find() -> Result<(Option<Self>, Option<StoreError>)> {
        let dir = here()?;
        let nearest = nearest(&dir, "runs")?;
        let store = nearest.dir.as_deref().map(Store::open).transpose()?;
        let found = store.map(|store| Self::over(store, dir)).transpose()?;
        Ok((found, nearest.passed_over))
    }

    /// The runs recorded in a directory.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn at(dir: &Path) -> Result<Self> {
        Self::over(Store::open(dir)?, dir.to_owned())
    }

    fn over(store: Store, dir: PathBuf) -> Result<Self> {
        let backend = plain(store.path(), dir.clone())?;
        Ok(Self { store, dir, backend })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The directory that new runs of this one see.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the backend of a run is opened with.
    #[must_use]
    pub fn opening(&self, placed: Placed) -> Opening {
        Opening {
            runs: self.store.path().to_owned(),
            dir: placed.workspace.clone().unwrap_or_else(|| self.dir.clone()),
            placed,
            only: None,
        }
    }

    /// The writer of a run's record.
    ///
    /// # Errors
    /// There is no such run.
    pub fn journal(&self, id: RunId) -> Result<Journal> {
        Ok(self.store.journal(id)?)
    }

    /// The run that a word means.
    ///
    /// # Errors
    /// None or more than one is meant, or the store cannot be read.
    pub fn resolve(&self, word: &str) -> Result<RunId> {
        Ok(self.store.resolve(word)?)
    }

    /// All runs, newest first, brought up to date. Damaged records are told apart, as sentences.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<(Vec<Run>, Vec<String>)> {
        self.list_newest(usize::MAX, |_| true)
    }

    /// The newest `most` runs that `wanted` holds for, newest first, brought up to date; and the damaged records
    /// met on the way, as sentences.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list_newest(&self, most: usize, wanted: impl Fn(&Run) -> bool) -> Result<(Vec<Run>, Vec<String>)> {
        let listing = self.store.list_newest(most, |run| {
            let now = (!run.status.is_terminal())
                .then(|| self.refreshed(run.clone()).ok())
                .flatten();
            wanted(now.as_ref().map_or(run, |(now, _)| now))
        })?;
        let mut damaged: Vec<String> = listing.damaged.iter().map(ToString::to_string).collect();
        let mut runs = Vec::new();
        for run in listing.runs {
            let id = run.id;
            match self.refreshed(run) {
                Ok((run, unkept)) => {
                    runs.push(run);
                    damaged.extend(unkept.map(|why| DirectError::Unkept { id, why }.to_string()));
                }
                // Removed meanwhile.
                Err(DirectError::Store(StoreError::NotFound { .. })) => {}
                // One of them keeps nobody from the others.
                Err(error) => damaged.push(format!("run {id}: {error}")),
            }
        }
        Ok((runs, damaged))
    }

    /// Ids of all runs that are recorded, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn ids(&self) -> Result<Vec<RunId>> {
        Ok(self.store.list_ids()?)
    }

    /// One run, brought up to date.
    ///
    /// # Errors
    /// It is not there, or its record cannot be read or written.
    pub fn get(&self, id: RunId) -> Result<Run> {
        Ok(self.refreshed(self.store.get(id)?)?.0)
    }

    /// The same for whoever waits for news of it.
    ///
    /// # Errors
    /// As [`Direct::get`]; or nobody keeps it and none will come.
    pub(super) fn get_kept(&self, id: RunId) -> Result<Run> {
        match self.refreshed(self.store.get(id)?)? {
            (run, Some(why)) if run.logs.is_none() => Err(DirectError::Unkept { id, why }),
            (run, _) => Ok(run),
        }
    }

    /// Why nobody keeps a run that should be kept.
    ///
    /// # Errors
    /// As [`Direct::get`].
    pub fn unkept(&self, id: RunId) -> Result<Option<Unkept>> {
        Ok(self.refreshed(self.store.get(id)?)?.1)
    }

    fn refreshed(&self, run: Run) -> Result<(Run, Option<Unkept>)> {
        let journal = self.store.journal(run.id)?;
        let is_open = run.logs.is_none() || Outputs::are_tried(&journal, &run)?;
        if is_open && Placed::read(&journal)?.is_some() {
            let unkept = keeper::ensure(&self.dir_of_store(), &journal, &run)?;
            return Ok((run, unkept));
        }
        Ok((self.looked_at(run, &journal)?, None))
    }

    /// The directory that holds `.qwex`.
    #[must_use]
    pub fn dir_of_store(&self) -> PathBuf {
        let mut dir = self.store.path().to_owned();
        dir.pop();
        dir.pop();
        dir
    }

    /// Starts a run. A plain process of this machine is handed to its supervisor at once; whatever needs more than
    /// that is left to a keeper.
    ///
    /// # Errors
    /// It cannot be recorded, or it is refused or cannot be started.
    pub fn start(&self, new: NewRun, placed: &Placed) -> Result<Run> {
        let in_place = placed.workspace.is_none() || placed.workspace.as_deref() == Some(self.dir.as_path());
        if placed.backend == "local" && new.spec.retry.limit == 0 && in_place {
            self.submit(new)
        } else {
            self.leave_to_keeper(new, placed)
        }
    }

    /// Records a run and leaves it to a keeper.
    ///
    /// # Errors
    /// It cannot be recorded, or no process can be started.
    pub fn leave_to_keeper(&self, new: NewRun, placed: &Placed) -> Result<Run> {
        let key = vouch::own_key()?;
        let run = recorded(new);
        let journal = self.store.create(&run)?;
        let Some(right) = keeper::take(&journal)? else {
            return Ok(run);
        };
        let known = journal.read()?;
        if known.status.is_terminal() {
            return Ok(known);
        }
        // Before what makes it a kept run: without this nobody keeps it.
        vouch::vouch(&key, &journal, &known, placed)?;
        // Its time is that of the submit, also when it is submitted again.
        if Placed::read(&journal)?.as_ref() != Some(placed) {
            placed.write(&journal)?;
        }
        drop(right);
        keeper::ensure(&self.dir_of_store(), &journal, &run)?;
        Ok(run)
    }

    /// Returns once a backend has taken a kept run, or refused it, or after `limit`.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn taken(&self, id: RunId, limit: Duration) -> Result<Run> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let run = self.store.get(id)?;
            if run.backend.is_some() || run.status.is_terminal() || tokio::time::Instant::now() >= deadline {
                return Ok(run);
            }
            tokio::time::sleep(QUICK_LOOK).await;
        }
    }

    /// Stores what was seen of a run.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record(&self, id: RunId, seen: &[Observation]) -> Result<Run> {
        Ok(self.store.journal(id)?.apply(seen)?.run)
    }

    /// Asks a run to stop and returns when it has, or after `limit`; `Duration::MAX` is none.
    ///
    /// # Errors
    /// It cannot be reached or recorded.
    pub async fn cancel(&self, id: RunId, limit: Duration) -> Result<Run> {
        let run = self.get(id)?;
        if run.status.is_terminal() {
            return Ok(run);
        }
        let asked = about(&run, Fact::CancelRequested { by: user() });
        let run = self.record(id, &[asked])?;
        let handle = handle_of(&run);
        let is_kept = self.is_kept(id)?;
        if is_kept {
            keeper::try_anew(&self.journal(id)?)?;
        }
        let deadline = tokio::time::Instant::now().checked_add(limit);
        let is_late = || deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline);
        loop {
            if !is_kept {
                self.backend.cancel(&handle).await?;
            }
            let run = self.get_kept(id)?;
            if run.status.is_terminal() || is_late() {
                return Ok(run);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns when a run is over.
    ///
    /// # Errors
    /// It cannot be watched or recorded.
    pub async fn wait(&self, id: RunId) -> Result<Run> {
        let mut run = self.get(id)?;
        // Nothing tells of an attempt that was never made but the record itself.
        while !run.status.is_terminal() && (self.is_kept(id)? || !self.has_attempt(&run)?) {
            tokio::time::sleep(LOOK).await;
            run = self.get_kept(id)?;
        }
        if !run.status.is_terminal() {
            wait(&self.backend, &handle_of(&run), state_of(&run)).await?;
        }
        self.stored(self.get(id)?).await
    }

    /// What a run was asked to run on.
    ///
    /// # Errors
    /// The run is not there.
    pub fn placed(&self, id: RunId) -> Result<Placed> {
        let plain = || Placed {
            backend: "local".to_owned(),
            workspace: Some(self.dir.clone()),
            ..Placed::default()
        };
        Ok(Placed::read(&self.store.journal(id)?)?.unwrap_or_else(plain))
    }

    /// The log files of an attempt by stream, those that are there.
    ///
    /// # Errors
    /// The run is not there.
    pub fn log_files(&self, id: RunId, attempt: Attempt) -> Result<Vec<(&'static str, PathBuf)>> {
        Ok(log_files::files(&self.store.journal(id)?, attempt))
    }

    /// What the server told of a run that was brought here.
    ///
    /// # Errors
    /// The run is not there, or the file beside its record cannot be read.
    pub fn history(&self, id: RunId) -> Result<Option<History>> {
        Ok(History::read(&self.store.journal(id)?)?)
    }

    /// Whether a keeper sees to the run.
    ///
    /// # Errors
    /// The run is not there.
    pub fn is_kept(&self, id: RunId) -> Result<bool> {
        Ok(Placed::read(&self.store.journal(id)?)?.is_some())
    }

    /// A run as it is; one that is over with its log summed up, and a kept one with all of it stored, unless nobody
    /// keeps it or that takes long.
    ///
    /// # Errors
    /// The log cannot be read or the record cannot be written.
    pub async fn settled(&self, run: Run) -> Result<Run> {
        let id = run.id;
        match tokio::time::timeout(SETTLING, self.stored(run)).await {
            Err(_) | Ok(Err(DirectError::Unkept { .. })) => self.get(id),
            Ok(settled) => settled,
        }
    }

    /// The same for whoever needs it stored.
    async fn stored(&self, mut run: Run) -> Result<Run> {
        if run.status.is_terminal() && self.is_kept(run.id)? {
            while run.logs.is_none() {
                tokio::time::sleep(LOOK).await;
                run = self.get_kept(run.id)?;
            }
        }
        if !run.status.is_terminal() || run.logs.is_some() {
            return Ok(run);
        }
        self.conclude(&run, &[])
    }

    /// A run that was followed to its end, with its log summed up.
    ///
    /// # Errors
    /// As [`Direct::settled`].
    pub async fn ended(&self, id: RunId) -> Result<Run> {
        let run = self.store.get(id)?;
        if run.status.is_terminal() || self.is_kept(id)? {
            return self.stored(self.refreshed(run)?.0).await;
        }
        let seen = self.backend.observe_sync(&handle_of(&run))?;
        self.conclude(&run, &seen)
    }

    /// Where the runs are recorded.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.path()
    }
}

/// A run as it is first recorded.
pub(super) fn recorded(new: NewRun) -> Run {
    let now = Timestamp::now();
    Run {
        id: new.id,
        name: new.name,
        project: new.project,
        labels: new.labels,
        status: RunStatus::Pending,
        pending: Some(Pending {
            code: PendingCode::Accepted,
            message: "recorded, not yet started".to_owned(),
            since: now,
        }),
        failure: None,
        spec: new.spec,
        backend: None,
        attempt: Attempt::FIRST,
        exit_code: None,
        flags: Flags::new(),
        logs: None,
        created_at: now,
        dispatched_at: None,
        started_at: None,
        finished_at: None,
        created_by: user(),
        provenance: Some(new.provenance).filter(|known| *known != Provenance::default()),
        usage: None,
        imported: None,
    }
}

/// `local:<user>`.
fn user() -> String {
    let uid = nix::unistd::Uid::effective();
    let name = nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map(|user| user.name);
    format!("local:{}", name.unwrap_or_else(|| uid.to_string()))
}

fn here() -> Result<PathBuf> {
    std::env::current_dir().map_err(|source| DirectError::Surroundings {
        what: "the current directory",
        source,
    })
}

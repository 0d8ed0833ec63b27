//! [`Local`]: the run store of a directory together with the backend whose processes it records. Every look at a run
//! first brings its record up to date; nothing else here writes run state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use qwex_core::{
    Attempt, BackendInfo, BackendKind, Ending, Fact, Failure, FailureCode, Flags, JobSpec, LogSummary,
    LogVerdict, Observation, Pending, PendingCode, Project, Run, RunId, RunName, RunStatus,
};
use qwex_runner::{
    Handle, LogItem, LogPosition, Runner, RunnerError, Store, Watcher, Work, store::state_of, wait,
};
use qwex_runner_local::{LocalBackend, LocalConfig};
use sha2::{Digest, Sha256};

use super::SUPERVISE;
use super::error::LocalError;

type Result<T> = std::result::Result<T, LocalError>;

/// How long a run may be recorded before its process is handed to a supervisor.
const HANDING_OVER: SignedDuration = SignedDuration::from_secs(30);
/// Pause between two questions whether a run has stopped.
const LOOK: Duration = Duration::from_millis(50);

/// The runs of one directory.
pub struct Local {
    store: Store,
    pub backend: LocalBackend,
}

/// What names a new run.
pub struct NewRun {
    pub id: RunId,
    pub name: Option<RunName>,
    pub project: Project,
    pub labels: std::collections::BTreeMap<String, String>,
    pub spec: JobSpec,
}

impl Local {
    /// The runs recorded in this directory; the store is made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open() -> Result<Self> {
        let dir = here()?;
        Self::over(Store::open(&dir)?, dir)
    }

    /// The runs of this directory or the nearest one above it that has any.
    ///
    /// # Errors
    /// There is a store, and it cannot be used.
    pub fn find() -> Result<Option<Self>> {
        let dir = here()?;
        Store::find(&dir)?.map(|store| Self::over(store, dir)).transpose()
    }

    fn over(store: Store, dir: PathBuf) -> Result<Self> {
        let own = std::env::current_exe().map_err(|source| LocalError::Surroundings {
            what: "the program qwexctl",
            source,
        })?;
        let config = LocalConfig::laptop(store.path(), vec![own.into(), SUPERVISE.into()], dir);
        Ok(Self {
            store,
            backend: LocalBackend::new(config)?,
        })
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
        let listing = self.store.list()?;
        let damaged = listing.damaged.iter().map(ToString::to_string).collect();
        let runs = listing.runs.into_iter().map(|run| self.refreshed(run));
        Ok((runs.collect::<Result<_>>()?, damaged))
    }

    /// One run, brought up to date.
    ///
    /// # Errors
    /// It is not there, or its record cannot be read or written.
    pub fn get(&self, id: RunId) -> Result<Run> {
        self.refreshed(self.store.get(id)?)
    }

    fn refreshed(&self, run: Run) -> Result<Run> {
        let young = Timestamp::now().duration_since(run.created_at) < HANDING_OVER;
        if run.status.is_terminal() || (run.backend.is_none() && young) {
            return Ok(run);
        }
        let seen = self.backend.observe_sync(&handle_of(&run))?;
        Ok(self.store.journal(run.id)?.apply(&seen)?.run)
    }

    /// Records a run and hands it to a supervisor. A run that is refused is recorded as failed.
    ///
    /// # Errors
    /// It cannot be recorded, or this backend refuses it or cannot start it.
    pub fn submit(&self, new: NewRun) -> Result<Run> {
        let run = recorded(new);
        let journal = self.store.create(&run)?;
        let work = Work {
            run_id: run.id,
            attempt: run.attempt,
            project: run.project,
            name: run.name,
            labels: run.labels,
            spec: run.spec,
            workspace: None,
        };
        let fact = |fact| Observation {
            run_id: work.run_id,
            attempt: work.attempt,
            uid: None,
            at: Timestamp::now(),
            fact,
        };
        match self.backend.submit_sync(&work) {
            Ok(submitted) => {
                let dispatched = fact(Fact::Dispatched {
                    backend: submitted.backend,
                });
                Ok(journal.apply(&[dispatched])?.run)
            }
            Err(error) => {
                let failure = Failure::new(failure_code(&error), error.to_string());
                let ending = Ending::Failed { failure };
                journal.apply(&[fact(Fact::Ended {
                    ending,
                    started_at: None,
                })])?;
                Err(error.into())
            }
        }
    }

    /// Stores what was seen of a run.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record(&self, id: RunId, seen: &[Observation]) -> Result<Run> {
        Ok(self.store.journal(id)?.apply(seen)?.run)
    }

    /// Asks a run to stop and returns when it has, or after `limit`.
    ///
    /// # Errors
    /// It cannot be reached or recorded.
    pub async fn cancel(&self, id: RunId, limit: Duration) -> Result<Run> {
        let run = self.get(id)?;
        if run.status.is_terminal() {
            return Ok(run);
        }
        let asked = Observation {
            run_id: id,
            attempt: run.attempt,
            uid: None,
            at: Timestamp::now(),
            fact: Fact::CancelRequested { by: user() },
        };
        let run = self.record(id, &[asked])?;
        let handle = handle_of(&run);
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            self.backend.cancel(&handle).await?;
            let run = self.get(id)?;
            if run.status.is_terminal() || tokio::time::Instant::now() >= deadline {
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
        let run = self.get(id)?;
        if !run.status.is_terminal() {
            wait(&self.backend, &handle_of(&run), state_of(&run)).await?;
        }
        self.settled(self.get(id)?).await
    }

    /// A run that is over, with its log summed up.
    ///
    /// # Errors
    /// The log cannot be read or the record cannot be written.
    pub async fn settled(&self, run: Run) -> Result<Run> {
        if !run.status.is_terminal() || run.logs.is_some() {
            return Ok(run);
        }
        let summary = self.sum_up(&run).await?;
        Ok(self.store.journal(run.id)?.seal_logs(summary)?)
    }

    async fn sum_up(&self, run: &Run) -> Result<LogSummary> {
        let (mut hash, mut bytes, mut lines) = (Sha256::new(), 0, 0);
        for source in self.backend.list_logs(&handle_of(run)).await? {
            let mut items = self
                .backend
                .read_log(&source, LogPosition::default(), false)
                .await?;
            let mut last = b'\n';
            while let Some(item) = items.next().await {
                let LogItem::Chunk(chunk) = item? else { continue };
                hash.update(&chunk.bytes);
                bytes += chunk.bytes.len() as u64;
                lines += chunk.bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                last = chunk.bytes.last().copied().unwrap_or(last);
            }
            lines += u64::from(last != b'\n');
        }
        let digest = hash.finalize();
        Ok(LogSummary {
            verdict: LogVerdict::Complete,
            bytes,
            lines,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Where the runs are recorded.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.path()
    }
}

/// Names the attempt a run is at.
#[must_use]
pub fn handle_of(run: &Run) -> Handle {
    let unknown = || BackendInfo {
        kind: BackendKind::Local,
        cluster: None,
        address: None,
        namespace: None,
        object: run.id.object_name(run.attempt),
        uid: None,
    };
    Handle {
        run_id: run.id,
        attempt: run.attempt,
        backend: run.backend.clone().unwrap_or_else(unknown),
    }
}

fn recorded(new: NewRun) -> Run {
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
        provenance: None,
        usage: None,
    }
}

fn failure_code(error: &RunnerError) -> FailureCode {
    match error {
        RunnerError::Rejected { .. } | RunnerError::Unsupported { .. } => FailureCode::Rejected,
        RunnerError::NameConflict { .. } => FailureCode::NameConflict,
        RunnerError::NotFound { .. }
        | RunnerError::Unreachable { .. }
        | RunnerError::Unauthorized { .. }
        | RunnerError::Throttled { .. }
        | RunnerError::PositionGone { .. }
        | RunnerError::Failed { .. } => FailureCode::StartError,
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
    std::env::current_dir().map_err(|source| LocalError::Surroundings {
        what: "the current directory",
        source,
    })
}

//! Drives one run to its end over any backend: submit, watch, cancel, log, outputs, the next attempt.
//! Written once for every backend; each step can be taken again by another process after this one was killed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use qwex_core::{Attempt, BackendInfo, Failure, Flag, Observation, Provenance, Run};
use qwex_runner::store::state_of;
use qwex_runner::{Backend, CancelProgress, Handle, Journal, RunnerError, wait_with};
use tokio::sync::Notify;

use super::copy_logs::CopyLogs;
use super::error::DirectError;
use super::facts::{about, ended, failure_code, handle, never_started, unknown};
use super::hand_over::{Patience, asked_to_cancel};
use super::keeper::note;
use super::log_files;
use super::open::opened;
use super::placed::Placed;
use super::registry;
use super::runs::Direct;

pub(super) type Result<T> = std::result::Result<T, DirectError>;

/// How often it is looked whether somebody asked to cancel.
pub(super) const LOOK: Duration = Duration::from_millis(50);
pub(super) const SUBMIT_PAUSE: Duration = Duration::from_millis(500);
/// Pause after a step failed in a way that may pass.
const TROUBLE_PAUSE: Duration = Duration::from_secs(2);
/// How often the last steps are tried: what they bring is worth less than the end of the run.
const TRIES: u32 = 5;

/// One run on its way.
pub struct Drive {
    pub(super) journal: Journal,
    pub(super) placed: Placed,
    pub(super) backend: Arc<dyn Backend>,
    /// The attempt that this very process handed over.
    pub(super) handed_over: Mutex<Option<Attempt>>,
    pub(super) patience: Patience,
}

impl Drive {
    /// Opens the backend that the run was asked to run on, which may take long. `None`: the run can never be started,
    /// and ended here.
    ///
    /// # Errors
    /// The record cannot be read or written; or the run may be under way on a backend that this program does not have.
    pub async fn begin(direct: &Direct, journal: Journal) -> Result<Option<Self>> {
        let placed = Placed::read(&journal)?.ok_or_else(|| qwex_runner::StoreError::NotFound {
            word: journal.id().to_string(),
        })?;
        let patience = Patience::default();
        let open = || registry::open(direct.opening(placed.clone()).for_run(journal.id()));
        let Some(backend) = opened(&journal, &patience, open).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            journal,
            placed,
            backend,
            handed_over: Mutex::default(),
            patience,
        }))
    }

    /// Takes step after step until the run is over and stored.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub async fn run(&self) -> Result<()> {
        loop {
            let run = self.journal.read()?;
            if !self.store_attempts_before(&run).await? {
                continue;
            }
            if run.status.is_terminal() {
                if run.logs.is_none() {
                    self.seal(&run).await?;
                }
                return self.bring_late(&run, &self.handle(&run)).await;
            }
            let taken = if run.backend.is_some() {
                self.attend(&run).await
            } else if run.flags.contains(&Flag::CancelRequested) {
                self.withdraw(&run).await
            } else {
                self.hand_over(&run).await
            };
            match taken {
                Ok(()) => {}
                Err(DirectError::Runner(error)) => {
                    note(&error.to_string());
                    tokio::time::sleep(TROUBLE_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The backend's own words, and how the user named it.
    pub(super) fn addressed(&self, mut backend: BackendInfo) -> BackendInfo {
        backend.address = backend.address.or_else(|| self.placed.address.clone());
        backend.namespace = backend.namespace.or_else(|| self.placed.namespace.clone());
        backend
    }

    /// Names the attempt of a run, also before the backend said anything of it.
    pub(super) fn handle(&self, run: &Run) -> Handle {
        handle(run, || self.addressed(unknown(self.backend.kind(), run)))
    }

    /// Cancelled before anybody said that it was handed over: nothing of it may start any more.
    async fn withdraw(&self, run: &Run) -> Result<()> {
        let handle = self.handle(run);
        self.stop(&handle).await?;
        let seen = self.backend.observe(&handle).await.unwrap_or_default();
        let after = self.journal.apply(&seen)?.run;
        if !after.status.is_terminal() {
            self.journal.apply(&[about(run, never_started())])?;
        }
        Ok(())
    }

    /// Watches an attempt to its end, and acts when asked to.
    async fn attend(&self, run: &Run) -> Result<()> {
        let handle = self.handle(run);
        if self.was_handed_over_by_another(run)
            && let Err(error) = self.backend.resume(&self.placed.work(run), &handle).await
        {
            if error.is_retryable() {
                return Err(error.into());
            }
            // What runs is watched all the same.
            note(&error.to_string());
        }
        let over = Notify::new();
        let news = Arc::new(Notify::new());
        let told = |seen: &Observation, _: &qwex_core::RunState| match self
            .journal
            .apply(std::slice::from_ref(seen))
        {
            Ok(applied) if applied.run.attempt != run.attempt || applied.run.status.is_terminal() => {
                over.notify_one();
            }
            Ok(_) => news.notify_one(),
            Err(error) => note(&error.to_string()),
        };
        let mut logs = CopyLogs::open(self.backend.clone(), &self.journal, handle.clone())?;
        tokio::select! {
            watched = wait_with(self.backend.as_ref(), &handle, state_of(run), told) => { watched?; }
            () = over.notified() => {}
            stopped = self.stop_when_asked(&handle) => stopped?,
            supplied = self.supply(&handle, run) => supplied?,
            copied = logs.follow(&news) => copied?,
        }
        Ok(())
    }

    /// Brings the workspace to backends that take it after the submit. What can never be brought ends the attempt, which
    /// waits for its files; it returns then, and else with an error only.
    async fn supply(&self, handle: &Handle, run: &Run) -> Result<()> {
        if let Some(workspace) = self.placed.work(run).workspace
            && let Err(error) = self.backend.supply(handle, &workspace).await
        {
            if error.is_retryable() {
                return Err(error.into());
            }
            let failure = Failure::new(failure_code(&error), error.to_string());
            // Of the object that is pinned: an end without one is no evidence, and stopping it would look as if
            // somebody else had deleted it.
            let seen = Observation {
                uid: handle.backend.uid.clone(),
                ..about(run, ended(failure))
            };
            self.journal.apply(&[seen])?;
            return self.stop(handle).await;
        }
        std::future::pending().await
    }

    /// Never returns but with an error: the end is told by the watch.
    async fn stop_when_asked(&self, handle: &Handle) -> Result<()> {
        asked_to_cancel(&self.journal).await?;
        self.stop(handle).await?;
        self.read_once(handle).await?;
        std::future::pending().await
    }

    async fn read_once(&self, handle: &Handle) -> Result<()> {
        let seen = self.backend.observe(handle).await?;
        self.journal.apply(&seen)?;
        Ok(())
    }

    /// Cancels until nothing runs any more.
    pub(super) async fn stop(&self, handle: &Handle) -> Result<()> {
        loop {
            match self.backend.cancel(handle).await {
                Ok(CancelProgress::Stopped) => return Ok(()),
                Ok(CancelProgress::Stopping { .. }) => {
                    tokio::time::sleep(self.backend.cancel_pause()).await;
                }
                Err(error) if error.is_retryable() => {
                    note(&error.to_string());
                    tokio::time::sleep(SUBMIT_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stores the logs and outputs of the attempts that are over and removes them from the backend. False: an
    /// attempt was stored just now, look again.
    async fn store_attempts_before(&self, run: &Run) -> Result<bool> {
        let last = if run.status.is_terminal() {
            run.attempt.0
        } else {
            run.attempt.0.saturating_sub(1)
        };
        for attempt in (1..=last).map(Attempt) {
            if run.logs.is_none() && self.journal.read_file(&stored(attempt))?.is_none() {
                self.store(run, attempt).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Log, outputs, details, then nothing is left on the backend but outputs that could not be brought. Each is tried
    /// for a while: no trouble with them may keep the end of a run from being told.
    async fn store(&self, run: &Run, attempt: Attempt) -> Result<()> {
        let handle = self.handle_of(run, attempt);
        if !log_files::read_index(&self.journal, attempt)?.complete {
            CopyLogs::open(self.backend.clone(), &self.journal, handle.clone())?
                .rest()
                .await?;
        }
        let mut stays = false;
        if attempt == run.attempt {
            self.note_details(&handle).await?;
            stays = self.bring_outputs(run, &handle).await?;
        }
        if !stays {
            self.discard(&handle).await;
        }
        let durability = qwex_runner::durable::Durability::Process;
        self.journal.write_file(&stored(attempt), b"", durability)?;
        Ok(())
    }

    /// Nothing of an attempt is needed on the backend any more.
    pub(super) async fn discard(&self, handle: &Handle) {
        if let Err(error) = self.trying(|| self.backend.remove(handle)).await {
            note(&format!("what the run left on its backend stays there: {error}"));
        }
    }

    async fn note_details(&self, handle: &Handle) -> Result<()> {
        if let Ok(details) = self.trying(|| self.backend.details(handle)).await {
            let provenance = Provenance {
                image_digest: details.image_digest,
                host: details.host,
                ..Provenance::default()
            };
            self.journal.note(provenance, details.usage)?;
        }
        Ok(())
    }

    async fn trying<T, F>(&self, step: impl Fn() -> F) -> std::result::Result<T, RunnerError>
    where
        F: Future<Output = std::result::Result<T, RunnerError>>,
    {
        let mut tries = 1;
        loop {
            match step().await {
                Err(error) if error.is_retryable() && tries < TRIES => {
                    note(&error.to_string());
                    tries += 1;
                    tokio::time::sleep(SUBMIT_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn seal(&self, run: &Run) -> Result<()> {
        let journal = self.journal.clone();
        let last = run.attempt;
        let summary = tokio::task::spawn_blocking(move || log_files::sum_up(&journal, last))
            .await
            .expect("summing up does not panic")?;
        self.journal.seal_logs(summary)?;
        Ok(())
    }
}

/// The file that says that an attempt was stored and what had to go is gone.
fn stored(attempt: Attempt) -> String {
    format!("stored-{attempt}")
}

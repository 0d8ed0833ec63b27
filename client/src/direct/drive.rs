//! Drives one run to its end over any backend: submit, watch, cancel, deadline, log, outputs, the next attempt.
//! Written once for every backend; each step can be taken again by another process after this one was killed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{
    Attempt, BackendInfo, Ending, Fact, Failure, FailureCode, Flag, Observation, Provenance, Run,
};
use qwex_runner::store::state_of;
use qwex_runner::{Backend, CancelProgress, Handle, Journal, RunnerError, wait_with};
use tokio::sync::Notify;

use super::copy_logs::CopyLogs;
use super::error::DirectError;
use super::facts::{about, ended, failure_code, handle, unknown};
use super::hand_over::Patience;
use super::keeper::note;
use super::log_files;
use super::placed::Placed;
use super::registry;
use super::runs::Direct;

pub(super) type Result<T> = std::result::Result<T, DirectError>;

/// How often it is looked whether somebody asked to cancel.
const LOOK: Duration = Duration::from_millis(50);
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
    /// Opens the backend that the run was asked to run on. A run that can never be started ends here.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub async fn begin(direct: &Direct, journal: Journal) -> Result<Self> {
        let placed = Placed::read(&journal)?.ok_or_else(|| qwex_runner::StoreError::NotFound {
            word: journal.id().to_string(),
        })?;
        match registry::open(direct.opening(placed.clone()).for_run(journal.id())).await {
            Ok(backend) => Ok(Self {
                journal,
                placed,
                backend,
                handed_over: Mutex::default(),
                patience: Patience::default(),
            }),
            Err(error) => {
                let run = journal.read()?;
                if run.backend.is_none() && !run.status.is_terminal() {
                    let failure = Failure::new(failure_code(&error), error.to_string());
                    journal.apply(&[about(&run, ended(failure))])?;
                    journal.seal_logs(log_files::sum_up(&journal, run.attempt)?)?;
                }
                Err(error.into())
            }
        }
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
                return Ok(());
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
            let ending = Ending::Stopped {
                message: "cancelled before it was started".to_owned(),
                exit_code: None,
                signal: None,
            };
            let fact = Fact::Ended {
                ending,
                started_at: None,
            };
            self.journal.apply(&[about(run, fact)])?;
        }
        Ok(())
    }

    /// Watches an attempt to its end, and acts when asked to.
    async fn attend(&self, run: &Run) -> Result<()> {
        let handle = self.handle(run);
        if self.was_handed_over_by_another(run) {
            self.backend.resume(&self.placed.work(run), &handle).await?;
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
            stopped = self.stop_at_deadline(&handle) => stopped?,
            supplied = self.supply(&handle, run) => supplied?,
            copied = logs.follow(&news) => copied?,
        }
        Ok(())
    }

    /// Brings the workspace to backends that take it after the submit. What cannot be brought stops the attempt, which
    /// waits for its files. Never returns but with an error.
    async fn supply(&self, handle: &Handle, run: &Run) -> Result<()> {
        if let Some(workspace) = self.placed.work(run).workspace
            && let Err(error) = self.backend.supply(handle, &workspace).await
        {
            if error.is_retryable() {
                return Err(error.into());
            }
            let failure = Failure::new(FailureCode::StartError, error.to_string());
            self.journal.apply(&[about(run, ended(failure))])?;
            self.stop(handle).await?;
        }
        std::future::pending().await
    }

    /// Never returns but with an error: the end is told by the watch.
    async fn stop_when_asked(&self, handle: &Handle) -> Result<()> {
        self.asked_to_cancel().await?;
        self.stop(handle).await?;
        self.read_once(handle).await?;
        std::future::pending().await
    }

    async fn stop_at_deadline(&self, handle: &Handle) -> Result<()> {
        if self.backend.ends_at_timeout() {
            return std::future::pending().await;
        }
        loop {
            let run = self.journal.read()?;
            if let (Some(timeout), Some(started)) = (run.spec.timeout, run.started_at) {
                let ran = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
                let left = timeout.as_duration().saturating_sub(ran);
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left).await;
            } else {
                tokio::time::sleep(LOOK).await;
            }
        }
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

    /// Returns once somebody asked to cancel.
    pub(super) async fn asked_to_cancel(&self) -> Result<()> {
        while !self.journal.read()?.flags.contains(&Flag::CancelRequested) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
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
            if run.logs.is_none() && !log_files::read_index(&self.journal, attempt)?.complete {
                self.store(run, attempt).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Log, outputs, details, then nothing is left on the backend. Each is tried a few times: no trouble with
    /// them may keep the end of a run from being told.
    async fn store(&self, run: &Run, attempt: Attempt) -> Result<()> {
        let mut handle = self.handle(run);
        if handle.attempt != attempt {
            handle.attempt = attempt;
            handle.backend.object = run.id.object_name(attempt);
            handle.backend.uid = None;
        }
        CopyLogs::open(self.backend.clone(), &self.journal, handle.clone())?
            .rest()
            .await?;
        if attempt == run.attempt {
            self.bring(run, &handle).await?;
        }
        if let Err(error) = self.trying(|| self.backend.remove(&handle)).await {
            note(&format!("what the run left on its backend stays there: {error}"));
        }
        Ok(())
    }

    async fn bring(&self, run: &Run, handle: &Handle) -> Result<()> {
        if let Ok(details) = self.trying(|| self.backend.details(handle)).await {
            let provenance = Provenance {
                image_digest: details.image_digest,
                host: details.host,
                ..Provenance::default()
            };
            self.journal.note(provenance, details.usage)?;
        }
        let Some(workspace) = self
            .placed
            .workspace
            .as_ref()
            .filter(|_| !run.spec.outputs.is_empty() && run.started_at.is_some())
        else {
            return Ok(());
        };
        let collected = self
            .trying(|| self.backend.collect(handle, workspace, &run.spec.outputs))
            .await;
        let told = match collected {
            Ok(paths) => serde_json::json!({ "collected": paths }),
            Err(error) => {
                note(&format!("the outputs cannot be brought back: {error}"));
                serde_json::json!({ "failed": error.to_string() })
            }
        };
        let durability = qwex_runner::durable::Durability::Machine;
        self.journal
            .write_file("outputs.json", told.to_string().as_bytes(), durability)?;
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

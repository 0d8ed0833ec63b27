//! Plain runs: processes of this machine without a keeper. Their supervisor alone writes what happens to them, beside
//! their record; whoever looks brings the record up to date.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use qwex_core::{Attempt, BackendKind, Fact, Failure, FailureCode, Observation, Run, RunId, RunStatus};
use qwex_runner::{Handle, Journal, Key, RunnerError, Work};
use qwex_runner_local::{LocalBackend, LocalConfig};
use serde::Deserialize;

use super::error::DirectError;
use super::facts::{about, ended, failure_code, handle, unknown};
use super::runs::{Direct, NewRun, Result, recorded};
use super::{SUPERVISE, keeper, log_files};
use crate::mark;

/// How long after its record a run may be without an attempt and without anybody who makes one.
const HANDING_OVER: SignedDuration = SignedDuration::from_secs(30);
/// Label of a stage's run, which anybody may set: the pipeline that it is of.
const PIPELINE: &str = "pipeline";

/// What is asked of the record of a pipeline.
#[derive(Deserialize)]
struct Awaiting {
    status: RunStatus,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    run_id: RunId,
}

impl Direct {
    /// Records a run and hands it to a supervisor. That it has one is not recorded: its attempt tells whoever looks.
    /// A run that is refused is recorded as failed.
    ///
    /// # Errors
    /// It cannot be recorded, or this backend refuses it or cannot start it.
    pub fn submit(&self, mut new: NewRun) -> Result<Run> {
        // It starts while the record is being written; if it cannot, the submit says why.
        let key = Key::new(new.id, Attempt::FIRST);
        let waiting = self.backend.start_waiting(key).ok();
        let host = nix::unistd::gethostname().ok();
        new.provenance.host = host.and_then(|host| host.into_string().ok());
        let run = recorded(new);
        let journal = self.store.create_with_attempt(&run)?;
        let _right = keeper::take_in_turn(&journal)?;
        let known = journal.read()?;
        if known.status.is_terminal() {
            return Ok(known);
        }
        let work = Work {
            run_id: run.id,
            attempt: run.attempt,
            project: run.project,
            name: run.name,
            labels: run.labels,
            spec: run.spec,
            workspace: None,
        };
        match self.backend.submit_to(waiting, &work, || self.store.settle()) {
            Ok(submitted) => {
                let backend = submitted.backend;
                Ok(journal.preview(&[about(&known, Fact::Dispatched { backend })])?)
            }
            Err(error) => {
                let failure = Failure::new(failure_code(&error), error.to_string());
                if matches!(error, RunnerError::Failed { .. }) {
                    // A supervisor that was only slow to answer starts nothing behind the end that is told.
                    self.backend.cancel_sync(&handle_of(&known)).ok();
                }
                self.store.settle().ok();
                journal.apply(&[about(&known, ended(failure))])?;
                Err(error.into())
            }
        }
    }

    /// A plain run as it is now.
    pub(super) fn looked_at(&self, run: Run, journal: &Journal) -> Result<Run> {
        if run.status.is_terminal() {
            return Ok(run);
        }
        let seen = self.backend.observe_sync(&handle_of(&run))?;
        if run.backend.is_some() || is_attended(&seen) {
            return Ok(journal.apply(&seen)?.run);
        }
        let age = Timestamp::now().duration_since(run.created_at);
        if age < HANDING_OVER || self.is_awaited(&run) {
            return Ok(run);
        }
        self.give_up(run, journal)
    }

    /// Whether a pipeline of this user in this directory that is not over names the run: whoever drives it, or takes it up
    /// again, hands the run over, also much later. One that somebody else put there is driven by nobody.
    fn is_awaited(&self, run: &Run) -> bool {
        let pipeline = || {
            let id: RunId = run.labels.get(PIPELINE)?.parse().ok()?;
            let place = self.dir_of_store().join(".qwex/pipelines").join(id.to_string());
            let record = std::fs::read(place.join("pipeline.json")).ok()?;
            let is_own = mark::pipeline::doubt(id, &record).is_none();
            serde_json::from_slice::<Awaiting>(&record)
                .ok()
                .filter(|_| is_own)
        };
        pipeline().is_some_and(|one| {
            !one.status.is_terminal() && one.stages.iter().any(|stage| stage.run_id == run.id)
        })
    }

    /// Ends a run whose command line was killed before it had a supervisor. It is not started by whoever looks: that
    /// may be days later.
    fn give_up(&self, run: Run, journal: &Journal) -> Result<Run> {
        let Some(_right) = keeper::take(journal)? else {
            return Ok(run);
        };
        let handle = handle_of(&run);
        let seen = self.backend.observe_sync(&handle)?;
        if is_attended(&seen) {
            return Ok(journal.apply(&seen)?.run);
        }
        // An attempt that was made gets no supervisor any more.
        self.backend.cancel_sync(&handle)?;
        let message = "whoever recorded it was gone before its command was started";
        let failure = Failure::new(FailureCode::StartError, message);
        Ok(journal.apply(&[about(&run, ended(failure))])?.run)
    }

    /// Whether anything of a plain run's attempt was ever made that can be watched.
    pub(super) fn has_attempt(&self, run: &Run) -> Result<bool> {
        Ok(run.backend.is_some() || is_attended(&self.backend.observe_sync(&handle_of(run))?))
    }

    /// Stores what was seen last of a run that is over, with its log summed up.
    pub(super) fn conclude(&self, run: &Run, seen: &[Observation]) -> Result<Run> {
        let journal = self.store.journal(run.id)?;
        let summary = log_files::sum_up(&journal, run.attempt)?;
        // A run without an end that anybody saw used what nobody knows.
        let details = self.backend.details_sync(&handle_of(run)).unwrap_or_default();
        Ok(journal.conclude(seen, summary, details.usage)?)
    }
}

/// Whether it ever had a supervisor.
fn is_attended(seen: &[Observation]) -> bool {
    seen.iter().any(|seen| !matches!(seen.fact, Fact::Gone { .. }))
}

/// The backend of plain runs of this machine.
///
/// # Errors
/// The program cannot find itself, or the directory cannot be used.
pub fn plain(runs: &Path, dir: PathBuf) -> Result<LocalBackend> {
    let own = std::env::current_exe().map_err(|source| DirectError::Surroundings {
        what: "the program qwexctl",
        source,
    })?;
    let config = LocalConfig::laptop(runs, vec![own.into(), SUPERVISE.into()], dir);
    Ok(LocalBackend::new(config)?)
}

/// Names the attempt a plain run is at.
#[must_use]
pub fn handle_of(run: &Run) -> Handle {
    handle(run, || unknown(BackendKind::Local, run))
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;

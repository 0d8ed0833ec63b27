//! Hands an attempt to its backend, which may not answer: no attempt is given up while it may have been started.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{Attempt, Fact, Failure, Flag, Observation, PendingCode, Run};
use qwex_runner::durable::Durability;
use qwex_runner::{CancelProgress, Journal, RunnerError, StoreError, Submitted, Work};

use super::drive::{Drive, LOOK, Result, SUBMIT_PAUSE};
use super::facts::{about, ended, failure_code};
use super::keeper::note;

/// How a backend that does not answer is asked again.
pub(super) struct Patience {
    /// How long it is asked to take a run that it surely never took.
    pub limit: Duration,
    /// Between two tries.
    pub pause: Duration,
    /// The same where it may have taken the run and is asked for ever.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(10),
            pause: SUBMIT_PAUSE,
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// What is known of the tries to hand one attempt over.
struct Tries {
    /// One of them may have arrived although no answer did.
    in_doubt: bool,
    until: tokio::time::Instant,
    pause: Duration,
}

impl Drive {
    /// Hands an attempt over, after its pause. Whether a reply that was lost meant a start is found out by
    /// handing the same attempt over again.
    pub(super) async fn hand_over(&self, run: &Run) -> Result<()> {
        if asked_to_cancel_within(&self.journal, pause_of(run)).await? {
            return Ok(());
        }
        let work = self.placed.work(run);
        let mut tries = Tries {
            in_doubt: was_begun(&self.journal, run.attempt)?,
            until: tokio::time::Instant::now() + self.patience.limit,
            pause: self.patience.pause,
        };
        self.journal
            .write_file(&begun(run.attempt), b"", Durability::Machine)?;
        while let Some(submitted) = self.submit(&work).await? {
            let error = match submitted {
                Ok(submitted) => {
                    *self.handed_over.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.attempt);
                    let backend = self.addressed(submitted.backend);
                    self.journal.apply(&[about(run, Fact::Dispatched { backend })])?;
                    return Ok(());
                }
                Err(error) => error,
            };
            if self.is_settled(run, &error, &mut tries).await? {
                return Ok(());
            }
            note(&error.to_string());
            tell_waiting(&self.journal, run, error.to_string())?;
            if asked_to_cancel_within(&self.journal, tries.pause).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands over once. What is on its way cannot be called back, and only its answer says what there is to stop: a
    /// cancel waits for it, within a limit. `None`: cancelled, and no answer came.
    async fn submit(&self, work: &Work) -> Result<Option<std::result::Result<Submitted, RunnerError>>> {
        let mut submit = self.backend.submit(work);
        tokio::select! {
            submitted = &mut submit => return Ok(Some(submitted)),
            asked = asked_to_cancel(&self.journal) => asked?,
        }
        Ok(tokio::time::timeout(self.patience.limit, submit).await.ok())
    }

    /// Whether a failed try was the last one: the backend refuses for ever, or does not answer for long, and nothing
    /// of the attempt runs; or it runs all the same, and is taken up.
    async fn is_settled(&self, run: &Run, error: &RunnerError, tries: &mut Tries) -> Result<bool> {
        tries.in_doubt |= error.is_ambiguous();
        if error.is_retryable() && tokio::time::Instant::now() < tries.until {
            return Ok(false);
        }
        // A name that is another's is not that of an attempt of ours.
        let may_run = tries.in_doubt && !matches!(error, RunnerError::NameConflict { .. });
        if may_run {
            tries.pause = (tries.pause * 2).min(self.patience.longest_pause);
            match self.found(run, error).await? {
                Found::Runs => return Ok(true),
                Found::Nothing => {}
                Found::Unknown => return Ok(false),
            }
        }
        let failure = Failure::new(failure_code(error), error.to_string());
        self.journal.apply(&[about(run, ended(failure))])?;
        Ok(true)
    }

    /// What there is of an attempt that a lost answer may have started. A refusal says nothing of that: the very room
    /// that a quota refuses may be what the attempt has taken.
    async fn found(&self, run: &Run, error: &RunnerError) -> Result<Found> {
        // A backend that answers can be made to say that nothing runs; a silent one is asked on.
        if error.is_blind() {
            return Ok(Found::Unknown);
        }
        let handle = self.handle(run);
        let seen = match self.backend.observe(&handle).await {
            Ok(seen) => seen,
            Err(error) => {
                note(&error.to_string());
                return Ok(Found::Unknown);
            }
        };
        if let Some(object) = seen.iter().find(|seen| is_there(seen)) {
            let mut backend = handle.backend;
            backend.uid = object.object_uid().cloned();
            self.journal.apply(&[about(run, Fact::Dispatched { backend })])?;
            self.journal.apply(&seen)?;
            return Ok(Found::Runs);
        }
        Ok(match self.backend.cancel(&handle).await {
            Ok(CancelProgress::Stopped) => Found::Nothing,
            Ok(CancelProgress::Stopping { .. }) | Err(_) => Found::Unknown,
        })
    }

    /// Whether what another process began for the attempt may have ended with it.
    pub(super) fn was_handed_over_by_another(&self, run: &Run) -> bool {
        let ours = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        run.started_at.is_none() && *ours != Some(run.attempt)
    }
}

/// What a backend has of an attempt.
enum Found {
    Runs,
    /// And nothing of it will start any more.
    Nothing,
    Unknown,
}

/// Whether an observation shows the object of its attempt.
fn is_there(seen: &Observation) -> bool {
    seen.object_uid().is_some() && !matches!(seen.fact, Fact::Gone { .. })
}

/// Says what an attempt waits for that no backend has taken yet.
pub(super) fn tell_waiting(journal: &Journal, run: &Run, message: String) -> Result<()> {
    let waiting = Fact::Waiting {
        code: PendingCode::Queued,
        message,
        round: 0,
    };
    journal.apply(&[about(run, waiting)])?;
    Ok(())
}

/// Whether a process, this one or one that was killed, began to hand an attempt over.
pub(super) fn was_begun(journal: &Journal, attempt: Attempt) -> std::result::Result<bool, StoreError> {
    Ok(journal.read_file(&begun(attempt))?.is_some())
}

/// What is left of the pause before an attempt.
pub(super) fn pause_of(run: &Run) -> Duration {
    let Some(pending) = run
        .pending
        .as_ref()
        .filter(|pending| pending.code == PendingCode::Backoff)
    else {
        return Duration::ZERO;
    };
    let failed = Attempt(run.attempt.0.saturating_sub(1));
    let since = Timestamp::now().duration_since(pending.since);
    let since = Duration::try_from(since).unwrap_or(Duration::ZERO);
    run.spec.retry.pause(failed).saturating_sub(since)
}

/// Returns once somebody asked to cancel.
pub(super) async fn asked_to_cancel(journal: &Journal) -> Result<()> {
    while !journal.read()?.flags.contains(&Flag::CancelRequested) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Whether somebody asked, at the latest after a pause.
pub(super) async fn asked_to_cancel_within(journal: &Journal, pause: Duration) -> Result<bool> {
    match tokio::time::timeout(pause, asked_to_cancel(journal)).await {
        Ok(asked) => asked.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// The file that says that handing an attempt over was begun.
fn begun(attempt: Attempt) -> String {
    format!("handing-over-{attempt}")
}

#[cfg(test)]
#[path = "hand_over_tests.rs"]
mod tests;

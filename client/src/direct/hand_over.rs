//! Hands an attempt to its backend, which may not answer: no attempt is given up while it may have been started.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{Attempt, Fact, Failure, PendingCode, Run};
use qwex_runner::durable::Durability;
use qwex_runner::{CancelProgress, RunnerError};

use super::drive::{Drive, Result, SUBMIT_PAUSE};
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
        if self.asked_to_cancel_within(self.pause_of(run)).await? {
            return Ok(());
        }
        let work = self.placed.work(run);
        let mut tries = Tries {
            in_doubt: self.was_begun(run.attempt)?,
            until: tokio::time::Instant::now() + self.patience.limit,
            pause: self.patience.pause,
        };
        self.journal
            .write_file(&begun(run.attempt), b"", Durability::Machine)?;
        loop {
            let submitted = tokio::select! {
                submitted = self.backend.submit(&work) => submitted,
                asked = self.asked_to_cancel() => return asked,
            };
            let error = match submitted {
                Ok(submitted) => {
                    *self.handed_over.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.attempt);
                    let backend = self.addressed(submitted.backend);
                    self.journal.apply(&[about(run, Fact::Dispatched { backend })])?;
                    return Ok(());
                }
                Err(error) => error,
            };
            if self.is_hopeless(run, &error, &mut tries).await? {
                let failure = Failure::new(failure_code(&error), error.to_string());
                self.journal.apply(&[about(run, ended(failure))])?;
                return Ok(());
            }
            self.tell_waiting(run, &error)?;
            if self.asked_to_cancel_within(tries.pause).await? {
                return Ok(());
            }
        }
    }

    /// Whether a failed try was the last one: the backend refuses for ever, or does not answer for long and has
    /// surely not started anything.
    async fn is_hopeless(&self, run: &Run, error: &RunnerError, tries: &mut Tries) -> Result<bool> {
        if !error.is_retryable() {
            return Ok(true);
        }
        tries.in_doubt |= error.is_ambiguous();
        if tokio::time::Instant::now() < tries.until {
            return Ok(false);
        }
        if !tries.in_doubt {
            return Ok(true);
        }
        tries.pause = (tries.pause * 2).min(self.patience.longest_pause);
        // A backend that answers can be made to say that nothing runs; a silent one is asked on.
        Ok(!error.is_blind()
            && matches!(
                self.backend.cancel(&self.handle(run)).await,
                Ok(CancelProgress::Stopped)
            ))
    }

    fn tell_waiting(&self, run: &Run, error: &RunnerError) -> Result<()> {
        note(&error.to_string());
        let waiting = Fact::Waiting {
            code: PendingCode::Queued,
            message: error.to_string(),
            round: 0,
        };
        self.journal.apply(&[about(run, waiting)])?;
        Ok(())
    }

    /// Whether a process, this one or one that was killed, began to hand the attempt over.
    fn was_begun(&self, attempt: Attempt) -> Result<bool> {
        Ok(self.journal.read_file(&begun(attempt))?.is_some())
    }

    /// Whether what another process began for the attempt may have ended with it.
    pub(super) fn was_handed_over_by_another(&self, run: &Run) -> bool {
        let ours = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        run.started_at.is_none() && *ours != Some(run.attempt)
    }

    /// What is left of the pause before an attempt.
    fn pause_of(&self, run: &Run) -> Duration {
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

    async fn asked_to_cancel_within(&self, pause: Duration) -> Result<bool> {
        match tokio::time::timeout(pause, self.asked_to_cancel()).await {
            Ok(asked) => asked.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

/// The file that says that handing an attempt over was begun.
fn begun(attempt: Attempt) -> String {
    format!("handing-over-{attempt}")
}

#[cfg(test)]
#[path = "hand_over_tests.rs"]
mod tests;

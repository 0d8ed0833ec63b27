//! Opens the backend of a kept run, for as long as that takes. Called by the keeper before anything else: an expired
//! login, a cluster or an engine that is away says nothing about a run that may be under way there, so it ends none.

use std::sync::Arc;
use std::time::Duration;

use qwex_core::{Attempt, Fact, Failure, Flag, Run};
use qwex_runner::{Backend, Journal, RunnerError};

use super::drive::Result;
use super::facts::{about, ended, failure_code, never_started};
use super::hand_over::{Patience, asked_to_cancel_within, pause_of, tell_waiting, was_begun};
use super::keeper::note;
use super::log_files;
use super::outputs::{Outputs, asked_anew};

/// What came of a backend that did not open.
enum Unopened {
    /// The run is over, with nothing of it anywhere.
    Over,
    TryAgain,
    /// It never opens here, and the run may be there.
    Never,
}

/// The backend, once it opens. `None`: it never did, and the run is over.
///
/// # Errors
/// The record cannot be read or written; or the backend never opens here, and the run may be under way there.
pub(super) async fn opened<F>(
    journal: &Journal,
    patience: &Patience,
    open: impl Fn() -> F,
) -> Result<Option<Arc<dyn Backend>>>
where
    F: Future<Output = std::result::Result<Arc<dyn Backend>, RunnerError>>,
{
    let mut pause = patience.pause;
    loop {
        let error = match open().await {
            Ok(backend) => {
                tell_reachable(journal)?;
                return Ok(Some(backend));
            }
            Err(error) => error,
        };
        note(&error.to_string());
        match settle(journal, &error)? {
            Unopened::Over => return Ok(None),
            Unopened::Never => return Err(error.into()),
            Unopened::TryAgain => wait(journal, pause).await?,
        }
        pause = (pause * 2).min(patience.longest_pause);
    }
}

/// Until the next try; a cancel that is new ends the pause, and so does somebody who asks for outputs.
async fn wait(journal: &Journal, pause: Duration) -> Result<()> {
    let run = journal.read()?;
    let pause = pause.max(pause_of(&run));
    if run.status.is_terminal() {
        // Somebody who asks for its outputs wants an answer now.
        return tokio::time::timeout(pause, asked_anew(journal))
            .await
            .unwrap_or(Ok(()));
    }
    if run.flags.contains(&Flag::CancelRequested) {
        tokio::time::sleep(pause).await;
    } else {
        asked_to_cancel_within(journal, pause).await?;
    }
    Ok(())
}

fn settle(journal: &Journal, error: &RunnerError) -> Result<Unopened> {
    let run = journal.read()?;
    let mut any_begun = run.backend.is_some();
    for attempt in (1..=run.attempt.0).map(Attempt) {
        any_begun |= was_begun(journal, attempt)?;
    }
    let may_be_there = run.backend.is_some() || was_begun(journal, run.attempt)?;
    if !run.status.is_terminal() && !may_be_there {
        if run.flags.contains(&Flag::CancelRequested) {
            journal.apply(&[about(&run, never_started())])?;
        } else if !error.is_retryable() {
            let failure = Failure::new(failure_code(error), error.to_string());
            journal.apply(&[about(&run, ended(failure))])?;
        }
    }
    let run = journal.read()?;
    if run.status.is_terminal() && !any_begun {
        if run.logs.is_none() {
            journal.seal_logs(log_files::sum_up(journal, run.attempt)?)?;
        }
        return Ok(Unopened::Over);
    }
    if run.status.is_terminal() {
        Outputs::note_unopened(journal, &run, error)?;
        if run.logs.is_some() && !Outputs::are_tried(journal, &run)? {
            return Ok(Unopened::Never);
        }
    }
    tell(journal, &run, error)?;
    let may_open = error.is_retryable() || (!may_be_there && !run.status.is_terminal());
    Ok(if may_open {
        Unopened::TryAgain
    } else {
        Unopened::Never
    })
}

/// Says what the run waits for, to whoever asks.
fn tell(journal: &Journal, run: &Run, error: &RunnerError) -> Result<()> {
    let message = format!("waiting for backend: {error}");
    if run.backend.is_some() {
        journal.apply(&[about(run, Fact::Unreachable { message })])?;
    } else if pause_of(run).is_zero() {
        tell_waiting(journal, run, message)?;
    }
    Ok(())
}

fn tell_reachable(journal: &Journal) -> Result<()> {
    let run = journal.read()?;
    if run.flags.contains(&Flag::ClusterUnreachable) {
        journal.apply(&[about(&run, Fact::Reachable)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use qwex_core::{FailureCode, RunId, RunStatus};
    use qwex_runner::Store;
    use qwex_runner::durable::Durability;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    const PATIENCE: Patience = Patience {
        limit: Duration::from_millis(50),
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
    };

    struct Bench {
        _dir: TempDir,
        journal: Journal,
    }

    fn bench(retry: serde_json::Value) -> Bench {
        let dir = TempDir::new().unwrap();
        let run: Run = serde_json::from_value(json!({
            "id": RunId::mint(), "project": "default", "spec": {"command": ["true"], "retry": retry},
            "status": "pending", "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
        }))
        .unwrap();
        let journal = Store::open(dir.path()).unwrap().create(&run).unwrap();
        Bench { _dir: dir, journal }
    }

    impl Bench {
        fn begin(&self) {
            let name = "handing-over-1";
            self.journal.write_file(name, b"", Durability::Machine).unwrap();
        }

        /// Tries until the run is over or it was tried `most` times; gives the tries, and whether it never opens.
        async fn open(&self, error: RunnerError, most: u32) -> (u32, bool) {
            let tries = Cell::new(0);
            let enough = tokio::sync::Notify::new();
            let open = || {
                tries.set(tries.get() + 1);
                let stuck = tries.get() > most;
                if stuck {
                    enough.notify_one();
                }
                let error = error.clone();
                async move {
                    if stuck {
                        std::future::pending::<()>().await;
                    }
                    Err(error)
                }
            };
            let never = tokio::select! {
                done = opened(&self.journal, &PATIENCE, open) => done.is_err(),
                () = enough.notified() => false,
            };
            (tries.get(), never)
        }

        fn run(&self) -> Run {
            self.journal.read().unwrap()
        }
    }

    fn login_expired() -> RunnerError {
        RunnerError::Unauthorized {
            message: "the exec plugin of the kubeconfig failed".to_owned(),
        }
    }

    fn not_built_in() -> RunnerError {
        RunnerError::Unsupported {
            message: "there is no backend \"moon\"".to_owned(),
        }
    }

    fn not_there() -> RunnerError {
        RunnerError::NotFound {
            message: "there is no context \"moon\"".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_run_that_may_be_under_way_is_not_ended_by_a_backend_that_does_not_open() {
        for error in [login_expired(), not_built_in()] {
            let bench = bench(json!({"limit": 0}));
            bench.begin();
            bench.open(error.clone(), 3).await;
            let run = bench.run();
            assert_eq!((run.status, run.logs), (RunStatus::Pending, None), "{error}");
            let pending = run.pending.unwrap().message;
            assert_eq!(pending, format!("waiting for backend: {error}"));
        }
    }

    #[tokio::test]
    async fn a_login_that_expired_ends_nothing_and_is_tried_again() {
        let bench = bench(json!({"limit": 0}));
        assert_eq!(bench.open(login_expired(), 3).await, (4, false));
        assert_eq!(bench.run().status, RunStatus::Pending);
    }

    #[tokio::test]
    async fn a_run_that_can_never_be_started_ends_and_is_sealed_when_no_retry_is_left() {
        let bench = bench(json!({"limit": 1, "on": ["start_error"]}));
        let (tries, never) = bench.open(not_there(), 10).await;
        let run = bench.run();
        assert_eq!((tries, never, run.attempt), (2, false, Attempt(2)));
        assert_eq!(run.failure.unwrap().code, FailureCode::StartError);
        assert!(run.logs.is_some());
    }

    #[tokio::test]
    async fn the_log_of_an_attempt_before_is_not_sealed_unread() {
        let bench = bench(json!({"limit": 1, "on": ["start_error"]}));
        bench.begin();
        let run = bench.run();
        let failure = Failure::new(FailureCode::StartError, "its first attempt");
        bench.journal.apply(&[about(&run, ended(failure))]).unwrap();
        let (_, never) = bench.open(not_built_in(), 10).await;
        let run = bench.run();
        assert!(run.status.is_terminal() && run.logs.is_none() && never);
    }

    #[tokio::test]
    async fn what_was_never_begun_can_be_cancelled_without_its_backend() {
        let bench = bench(json!({"limit": 0}));
        let by = "local:me".to_owned();
        let asked = about(&bench.run(), Fact::CancelRequested { by });
        bench.journal.apply(&[asked]).unwrap();
        bench.open(login_expired(), 3).await;
        let run = bench.run();
        assert_eq!((run.status, run.logs.is_some()), (RunStatus::Cancelled, true));
    }
}

//! The laws that every backend keeps, as tests over any (Runner, Watcher). A backend's own tests call
//! [`crate::conformance!`] with a [`Subject`]; each law becomes one test.
//!
//! ```ignore
//! qwex_runner::conformance!(my_subject().await);
//! ```

pub mod cancels;
pub mod ends;
pub mod logs;
pub mod submits;
pub mod watches;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::transition::next;
use qwex_core::{
    Attempt, BackendInfo, Ending, Fact, JobSpec, ObjectUid, Observation, Project, RetryPolicy, RunId,
    RunState, Step,
};

use crate::runner::{Handle, Runner, Work};
use crate::watcher::Watcher;

/// Nothing, or the sentence that says which law was broken and how.
pub type Verdict = Result<(), String>;

/// A backend under test. Its commands find a POSIX shell with `head`, `tr` and `sleep`.
pub struct Subject {
    pub runner: Arc<dyn Runner>,
    pub watcher: Arc<dyn Watcher>,
    /// For backends that need one.
    pub image: Option<String>,
    /// The longest time until anything has happened.
    pub limit: Duration,
    /// Whatever must live as long as the backend.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// One attempt that was submitted.
pub struct Submission {
    pub work: Work,
    pub handle: Handle,
}

impl Subject {
    /// Work that runs a shell script.
    #[must_use]
    pub fn shell(&self, script: &str) -> Work {
        self.work(&["sh", "-c", script])
    }

    #[must_use]
    pub fn work(&self, command: &[&str]) -> Work {
        Work {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
            project: Project::new("default").expect("it is a DNS label"),
            name: None,
            labels: BTreeMap::new(),
            spec: JobSpec {
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                image: self.image.clone(),
                ..JobSpec::default()
            },
            workspace: None,
        }
    }

    /// Submits work and names what came of it.
    pub async fn submit(&self, work: Work) -> Result<Submission, String> {
        let submitted = self
            .within("submit", self.runner.submit(&work))
            .await?
            .map_err(|error| format!("submit: {error}"))?;
        let handle = Handle {
            run_id: work.run_id,
            attempt: work.attempt,
            backend: submitted.backend,
        };
        Ok(Submission { work, handle })
    }

    /// Runs work to its end, by the watch.
    pub async fn run(&self, work: Work) -> Result<(Submission, RunState), String> {
        let submission = self.submit(work).await?;
        let end = self.wait(&submission, false).await?;
        Ok((submission, end))
    }

    /// Waits for the end by the watch.
    pub async fn wait(&self, submission: &Submission, cancelled: bool) -> Result<RunState, String> {
        let mut state = submission.state();
        if cancelled {
            state = fold(state, &[submission.cancel_request()]);
        }
        let wait = crate::wait(self.watcher.as_ref(), &submission.handle, state);
        self.within("the end of the run", wait)
            .await?
            .map_err(|error| format!("wait: {error}"))
    }

    /// One read of an attempt.
    pub async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, String> {
        self.within("an observation", self.watcher.observe(handle))
            .await?
            .map_err(|error| format!("observe: {error}"))
    }

    /// Reads an attempt until `wanted` holds for its state.
    pub async fn observe_until(
        &self,
        submission: &Submission,
        what: &str,
        wanted: impl Fn(&RunState) -> bool,
    ) -> Result<RunState, String> {
        let look = async {
            loop {
                let state = fold(submission.state(), &self.observe(&submission.handle).await?);
                if wanted(&state) {
                    return Ok(state);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        self.within(what, look).await?
    }

    /// Cancels until the backend says that nothing runs any more.
    pub async fn cancel(&self, handle: &Handle) -> Verdict {
        let cancel = async {
            loop {
                match self.runner.cancel(handle).await {
                    Ok(crate::CancelProgress::Stopped) => return Ok(()),
                    Ok(crate::CancelProgress::Stopping { .. }) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => return Err(format!("cancel: {error}")),
                }
            }
        };
        self.within("the end of the cancel", cancel).await?
    }

    async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, String> {
        tokio::time::timeout(self.limit, future)
            .await
            .map_err(|_| format!("waited {:?} for {what}", self.limit))
    }
}

impl Submission {
    /// The state of a run that was just handed over, with its object pinned.
    #[must_use]
    pub fn state(&self) -> RunState {
        let mut state = RunState::accepted(Timestamp::now(), RetryPolicy::default());
        state.backend = Some(self.handle.backend.clone());
        state
    }

    #[must_use]
    pub fn cancel_request(&self) -> Observation {
        Observation {
            run_id: self.work.run_id,
            attempt: self.work.attempt,
            uid: None,
            at: Timestamp::now(),
            fact: Fact::CancelRequested {
                by: "conformance".to_owned(),
            },
        }
    }
}

/// The handle of an attempt that nobody ever submitted.
#[must_use]
pub fn unsubmitted(subject: &Subject) -> Handle {
    let run_id = RunId::mint();
    Handle {
        run_id,
        attempt: Attempt::FIRST,
        backend: BackendInfo {
            kind: subject.runner.kind(),
            cluster: None,
            address: None,
            namespace: None,
            object: run_id.object_name(Attempt::FIRST),
            uid: None,
        },
    }
}

/// The same, as if it had been submitted: with the UID of an object that is no more.
#[must_use]
pub fn vanished(subject: &Subject) -> Handle {
    let mut handle = unsubmitted(subject);
    handle.backend.uid = Some(ObjectUid(RunId::mint().to_string()));
    handle
}

/// Applies observations as a Recorder does.
#[must_use]
pub fn fold(state: RunState, seen: &[Observation]) -> RunState {
    seen.iter().fold(state, |state, seen| match next(&state, seen) {
        Step::Move(after) => *after,
        Step::Stay(_) | Step::Reject(_) => state,
    })
}

/// The ending among observations.
#[must_use]
pub fn ending(seen: &[Observation]) -> Option<&Ending> {
    seen.iter().find_map(|seen| match &seen.fact {
        Fact::Ended { ending, .. } => Some(ending),
        _ => None,
    })
}

/// Fails with what was expected and what was there.
pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Verdict {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{what}: wanted {wanted:?}, found {found:?}"))
    }
}

pub(crate) fn hold(what: &str, holds: bool) -> Verdict {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Makes one test of each law; `$subject` is an expression for a [`conformance::Subject`](Subject),
/// evaluated in an async test each time.
#[macro_export]
macro_rules! conformance {
    ($subject:expr) => {
        $crate::conformance!(@cases $subject;
            submits: returns_at_once, twice_is_one_object, another_spec_is_refused;
            ends: exit_code_zero, exit_code_three, exit_code_127, program_not_found, killed_by_a_signal,
                timeout, background_processes_do_not_hold_it;
            cancels: before_submit, right_after_submit, during, that_ignores_term, after_the_end;
            watches: observe_twice_says_the_same, an_attempt_that_is_not_there_is_gone,
                a_late_watch_tells_the_whole_story, a_list_holds_what_was_submitted, release;
            logs: byte_exact, windows_line_ends, a_line_of_a_megabyte, from_any_position_the_rest, followed_live, empty;
        );
    };
    (@cases $subject:expr; $($module:ident: $($case:ident),+;)+) => {
        $(
            mod $module {
                #[allow(unused_imports, reason = "the subject's expression may need its surroundings")]
                use super::*;
                $(
                    #[tokio::test(flavor = "multi_thread")]
                    async fn $case() {
                        let subject: $crate::conformance::Subject = $subject;
                        if let Err(broken) = $crate::conformance::$module::$case(&subject).await {
                            panic!("{broken}");
                        }
                    }
                )+
            }
        )+
    };
}

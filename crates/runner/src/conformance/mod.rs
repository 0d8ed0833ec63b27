//! The laws that every backend keeps, as tests over any [`Backend`]. A backend's own tests call
//! [`crate::conformance!`] with the key of its column and a [`Subject`]; each law becomes one test, and its answer must
//! be the one on record ([`record`]), from which the table of the README is written (`table`).
//!
//! ```ignore
//! qwex_runner::conformance!("mine", my_subject().await);
//! // The same for a backend whose runs take their time: several laws at once.
//! qwex_runner::conformance!("mine", at_once, my_subject().await);
//! ```

pub mod batch;
pub mod cancels;
pub mod ends;
pub mod logs;
pub mod read_on;
pub mod record;
pub mod submits;
pub mod surroundings;
#[cfg(test)]
#[path = "table_tests.rs"]
mod table;
pub mod watches;

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use qwex_core::transition::next;
use qwex_core::{
    Attempt, BackendInfo, Ending, Fact, JobSpec, ObjectUid, Observation, Project, RetryPolicy, RunId,
    RunState, SpecProblem, Step,
};

use crate::backend::{Backend, Feature};
use crate::error::RunnerError;
use crate::runner::{CancelProgress, Handle, Submitted, Work};
use record::Answer;

/// Nothing, or the sentence that says which law was broken and how.
pub type Verdict = Result<(), String>;

/// A backend under test. Its commands find a POSIX shell with `awk`, `dd`, `head`, `tr` and `sleep`.
pub struct Subject {
    pub backend: Arc<dyn Backend>,
    /// For backends that need one.
    image: Option<String>,
    /// The directory that the backend was opened for, where it works in no other.
    workspace: Option<PathBuf>,
    /// How many bytes of a log arrive in any case, and why no more than these.
    large_log: (u64, Option<String>),
    /// A run that lasts so long has been measured.
    measured_within: Duration,
    /// The longest time until anything has happened.
    limit: Duration,
    /// What kept a law from being kept to the letter; `None`: nothing.
    told: Mutex<Option<Answer>>,
    _keep: Box<dyn Any + Send + Sync>,
}

/// One attempt that was submitted.
pub struct Submission {
    pub work: Work,
    pub handle: Handle,
}

impl Subject {
    /// `limit` is the longest time until anything has happened; `keep` lives as long as the backend.
    pub fn new(backend: Arc<dyn Backend>, limit: Duration, keep: impl Any + Send + Sync) -> Self {
        Self {
            backend,
            image: None,
            workspace: None,
            large_log: (logs::LARGE, None),
            measured_within: Duration::from_secs(6),
            limit,
            told: Mutex::new(None),
            _keep: Box::new(keep),
        }
    }

    /// For a backend whose runs need an image.
    #[must_use]
    pub fn with_image(mut self, image: &str) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    /// For a backend that works in the directory it was opened for and in no other.
    #[must_use]
    pub fn in_workspace(mut self, dir: impl Into<PathBuf>) -> Self {
        self.workspace = Some(dir.into());
        self
    }

    /// For a backend where a larger log than this may lose bytes before anybody can read them, or takes too long for a
    /// test; `why` becomes the footnote.
    #[must_use]
    pub fn with_log_of_at_most(mut self, bytes: u64, why: &str) -> Self {
        self.large_log = (bytes, Some(why.to_owned()));
        self
    }

    /// For a backend that looks only so often at what runs use.
    #[must_use]
    pub fn measured_within(mut self, time: Duration) -> Self {
        self.measured_within = time;
        self
    }

    /// What goes on record for a case that came to this verdict.
    ///
    /// # Errors
    /// The sentence of the law that was broken.
    pub fn answer(&self, verdict: Verdict) -> Result<Answer, String> {
        verdict?;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(told.unwrap_or(Answer::Kept))
    }

    /// The law is kept, and not to the letter.
    pub(crate) fn otherwise(&self, how: &str) {
        self.tell(Answer::Otherwise(how.to_owned()));
    }

    fn tell(&self, answer: Answer) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// Whether the backend says of itself that it has no such thing; then there is nothing to hold it to.
    pub(crate) fn lacks(&self, feature: Feature) -> bool {
        let lacks = !self.backend.features().contains(&feature);
        if lacks {
            self.tell(Answer::Refused(feature.words()));
        }
        lacks
    }

    /// Whether the backend refuses the spec before the submit, by a capability that it says it has not.
    pub(crate) fn refuses(&self, spec: &JobSpec) -> Result<bool, String> {
        let problems = self.backend.validate(spec);
        let told = |problem: &SpecProblem| format!("{}: {}", problem.pointer, problem.detail);
        if let Some(other) = problems.iter().find(|problem| problem.code != "unsupported") {
            return Err(told(other));
        }
        let Some(first) = problems.first() else {
            return Ok(false);
        };
        let asked = Feature::asked(spec).into_iter().map(|(feature, _)| feature);
        let lacking: Vec<String> = asked
            .filter(|feature| !self.backend.features().contains(feature))
            .map(Feature::words)
            .collect();
        hold(
            &format!("a refusal names a capability that is lacking: {}", told(first)),
            !lacking.is_empty(),
        )?;
        self.tell(Answer::Refused(lacking.join(", ")));
        Ok(true)
    }

    /// Work that runs a shell script.
    #[must_use]
    pub fn shell(&self, script: &str) -> Work {
        self.work(&["sh", "-c", script])
    }

    #[must_use]
    pub fn work(&self, command: &[&str]) -> Work {
        let mut work = work(command);
        work.spec.image.clone_from(&self.image);
        work
    }

    /// Submits work and names what came of it.
    pub async fn submit(&self, work: Work) -> Result<Submission, String> {
        let submitted = self
            .within("submit", self.backend.submit(&work))
            .await?
            .map_err(|error| format!("submit: {error}"))?;
        let handle = handle(&work, &submitted);
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
        let wait = crate::wait(self.backend.as_ref(), &submission.handle, state);
        self.within("the end of the run", wait)
            .await?
            .map_err(|error| format!("wait: {error}"))
    }

    /// One read of an attempt.
    pub async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, String> {
        self.asking("observe", || self.backend.observe(handle)).await
    }

    /// Asks again what got no answer, as every caller does: a machine under load is no broken law.
    async fn asking<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, RunnerError>>,
    {
        let answer = async {
            loop {
                match ask().await {
                    Err(error) if error.is_blind() => tokio::time::sleep(read_on::PAUSE).await,
                    answer => return answer.map_err(|error| format!("{what}: {error}")),
                }
            }
        };
        self.within(what, answer).await?
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
                match self.asking("cancel", || self.backend.cancel(handle)).await? {
                    CancelProgress::Stopped => return Ok(()),
                    CancelProgress::Stopping { .. } => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
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

/// A first attempt of a new run, without an image.
#[must_use]
pub fn work(command: &[&str]) -> Work {
    Work {
        run_id: RunId::mint(),
        attempt: Attempt::FIRST,
        project: Project::new("default").expect("it is a DNS label"),
        name: None,
        labels: BTreeMap::new(),
        spec: JobSpec::for_command(command.iter().copied()),
        workspace: None,
    }
}

/// The same for a shell script.
#[must_use]
pub fn shell(script: &str) -> Work {
    work(&["sh", "-c", script])
}

/// The handle of an attempt that was submitted.
#[must_use]
pub fn handle(work: &Work, submitted: &Submitted) -> Handle {
    Handle {
        run_id: work.run_id,
        attempt: work.attempt,
        backend: submitted.backend.clone(),
    }
}

/// The handle of an attempt that nobody ever submitted.
#[must_use]
pub fn unsubmitted(subject: &Subject) -> Handle {
    unheard(subject, &subject.work(&["true"]))
}

/// The handle of an attempt whose submit nobody heard of yet.
#[must_use]
pub fn unheard(subject: &Subject, work: &Work) -> Handle {
    Handle {
        run_id: work.run_id,
        attempt: work.attempt,
        backend: BackendInfo {
            kind: subject.backend.kind(),
            cluster: None,
            address: None,
            namespace: None,
            object: work.object_name(),
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

/// One law, as one row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `module::function`.
    pub name: &'static str,
    /// What people read.
    pub words: &'static str,
    pub law: Law,
}

/// A law as it is held over a subject.
pub type Law = for<'a> fn(&'a Subject) -> LocalBoxFuture<'a, Verdict>;

/// Every law, in the order of the table.
pub const CASES: &[Case] = crate::conformance!(@laws table []);

/// Makes one test of each law; `$column` is the key of a column of the table ([`record::COLUMNS`]), `$subject` an
/// expression for a [`conformance::Subject`](Subject), evaluated in an async test each time.
#[macro_export]
macro_rules! conformance {
    ($column:literal, $subject:expr) => {
        $crate::conformance!(@laws tests [$column, $subject]);
    };
    ($column:literal, at_once, $subject:expr) => {
        static LAWS: $crate::conformance::batch::Batch =
            $crate::conformance::batch::Batch::new($column, module_path!(), || Box::pin(async { $subject }));
        $crate::conformance!(@laws batch [LAWS]);
    };
    (@laws $made:ident [$($given:tt)*]) => {
        $crate::conformance! { @$made [$($given)*]
            submits {
                returns_at_once: "submit returns at once",
                twice_is_one_object: "the same submit twice, also at the same time, is one run",
                another_spec_is_refused: "the same id with another spec is refused",
                sixteen_at_once: "sixteen at once, each with its own end",
            }
            ends {
                exit_code_zero: "exit code 0, with begin and end",
                exit_code_three: "exit code 3",
                other_exit_codes: "exit codes 1, 42 and 255",
                exit_code_127: "exit code 127 by the command's own will",
                program_not_found: "a program that is not there: start_error",
                killed_by_a_signal: "killed by a signal",
                each_signal: "each of ten signals is told by its number",
                timeout: "timeout",
                background_processes_do_not_hold_it: "a process left in the background does not hold the run",
            }
            cancels {
                before_submit: "cancel before the submit",
                a_submit_after_it: "a submit that arrives after the cancel starts nothing",
                right_after_submit: "cancel right after the submit",
                during: "cancel while it runs",
                that_ignores_term: "cancel of a command that ignores TERM",
                after_the_end: "cancel after the end changes nothing",
            }
            watches {
                observe_twice_says_the_same: "two looks say the same",
                an_attempt_that_is_not_there_is_gone: "a run whose object is not there is gone",
                a_late_watch_tells_the_whole_story: "who comes after the end hears all of it",
                a_watch_that_ended_is_begun_again: "a watcher that was killed and started again hears the end",
                a_list_holds_what_was_submitted: "listed",
                release: "released, also twice, the result stays",
            }
            logs {
                byte_exact: "NUL, invalid UTF-8, no last newline: to the byte",
                windows_line_ends: "line ends of Windows: to the byte",
                a_line_of_a_megabyte: "a line of a megabyte",
                a_hundred_megabytes: "a log of 100 MB: to the byte",
                from_any_position_the_rest: "from any position exactly the rest",
                followed_live: "followed live",
                empty: "no output at all",
                streams_apart: "stdout and stderr apart",
                emptied_by_its_command: "a log that its command emptied has a gap, and nothing comes twice",
            }
            surroundings {
                odd_values_of_variables: "variables with odd values",
                its_own_name: "the command knows its run and attempt",
                working_directory: "working directory",
                memory_beyond_the_limit: "more memory than the limit: oom",
                outputs_come_back: "files over, outputs back",
                usage_is_told: "processor time and memory used",
            }
        }
    };
    (@table [] $($module:ident { $($case:ident: $words:literal,)+ })+) => {
        &[$($(
            $crate::conformance::Case {
                name: concat!(stringify!($module), "::", stringify!($case)),
                words: $words,
                law: |subject| Box::pin($crate::conformance::$module::$case(subject)),
            },
        )+)+]
    };
    (@batch [$laws:ident] $($module:ident { $($case:ident: $words:literal,)+ })+) => {
        $(
            mod $module {
                $(
                    #[test]
                    fn $case() {
                        let name = concat!(stringify!($module), "::", stringify!($case));
                        if let Err(broken) = super::$laws.hold(name) {
                            panic!("{broken}");
                        }
                    }
                )+
            }
        )+
    };
    (@tests [$column:expr, $subject:expr] $($module:ident { $($case:ident: $words:literal,)+ })+) => {
        $(
            mod $module {
                #[allow(unused_imports, reason = "the subject's expression may need its surroundings")]
                use super::*;
                $(
                    #[tokio::test(flavor = "multi_thread")]
                    async fn $case() {
                        let subject: $crate::conformance::Subject = $subject;
                        let verdict = $crate::conformance::$module::$case(&subject).await;
                        let name = concat!(stringify!($module), "::", stringify!($case));
                        let answer = subject.answer(verdict);
                        if let Err(broken) = $crate::conformance::record::hold($column, name, answer) {
                            panic!("{broken}");
                        }
                    }
                )+
            }
        )+
    };
}

//! The stages of one run, each told once, out of its record and its events.

use jiff::{SignedDuration, Timestamp};
use qwex_core::{BackendInfo, EventKind, Pending, Run, RunEvent, RunStatus};

use super::Progress;
use crate::output::{age, reason};

/// Tells the stages of one run; repeats are swallowed.
pub struct Stages {
    progress: Progress,
    last: Option<(String, String)>,
}

impl Stages {
    #[must_use]
    pub fn new(progress: Progress) -> Self {
        Self { progress, last: None }
    }

    pub fn tell(&mut self, stage: &str, message: &str) {
        let told = (stage.to_owned(), message.to_owned());
        if self.last.as_ref() != Some(&told) {
            self.progress.stage(stage, message);
            self.last = Some(told);
        }
    }

    /// The stage a run is in now.
    pub fn of_run(&mut self, run: &Run) {
        match (run.status, &run.pending) {
            (RunStatus::Pending, Some(pending)) => self.waiting(pending),
            (RunStatus::Pending, None) => self.tell("pending", "waiting"),
            (RunStatus::Running, _) => self.tell("running", &place(run)),
            (RunStatus::Succeeded | RunStatus::Failed | RunStatus::Cancelled, _) => {
                self.tell(run.status.as_str(), &ending_words(run));
            }
        }
    }

    fn waiting(&mut self, pending: &Pending) {
        self.tell(pending.code.as_str(), &pending.message);
    }

    /// A row of the run's history, where it is a stage.
    pub fn of_event(&mut self, event: &RunEvent) {
        let stage = match event.kind {
            EventKind::Placed => "placed",
            EventKind::Dispatched => "dispatched",
            EventKind::Waiting => "waiting",
            EventKind::Started => "running",
            EventKind::Requeued => "requeued",
            EventKind::AttemptFailed => "retry",
            EventKind::CancelRequested => "cancelling",
            EventKind::Unreachable => "unreachable",
            EventKind::Reachable => "reachable",
            // Told by the end of the run, or of no interest while watching.
            EventKind::Submitted
            | EventKind::EpisodeStarted
            | EventKind::EpisodeEnded
            | EventKind::DuplicateStart
            | EventKind::Succeeded
            | EventKind::Failed
            | EventKind::Cancelled
            | EventKind::Corrected
            | EventKind::LogsSealed
            | EventKind::Imported
            | EventKind::Refused
            | EventKind::Unknown => return,
        };
        self.tell(stage, &event.message);
    }
}

fn place(run: &Run) -> String {
    let place = match &run.backend {
        Some(BackendInfo {
            cluster: Some(cluster),
            ..
        }) => format!("on cluster {cluster}"),
        Some(BackendInfo { kind, .. }) => format!("on {kind}"),
        None => "on its backend".to_owned(),
    };
    format!("attempt {} {place}", run.attempt)
}

/// How a run ended, in a sentence: reason, exit code, time.
#[must_use]
pub fn ending_words(run: &Run) -> String {
    let mut words = match &run.failure {
        Some(failure) => format!("{}: {}", reason(None, Some(failure)), failure.message),
        None => run.exit_code.map_or_else(
            || "without an exit code".to_owned(),
            |code| format!("exit code {code}"),
        ),
    };
    if let Some(took) = took(run.started_at, run.finished_at) {
        words.push_str(&format!(", after {}", age::short(took)));
    }
    words
}

fn took(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<SignedDuration> {
    Some(to?.duration_since(from?))
}

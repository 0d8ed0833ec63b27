//! After a cancel nothing runs, and an end that was first stays.

use qwex_core::{RunState, RunStatus};

use super::{Subject, Verdict, expect, hold, unsubmitted};
use crate::runner::CancelProgress;

/// Nothing runs of an attempt that was never submitted.
pub async fn before_submit(subject: &Subject) -> Verdict {
    let progress = subject.backend.cancel(&unsubmitted(subject)).await;
    match progress {
        Ok(CancelProgress::Stopped) => Ok(()),
        other => Err(format!("wanted Stopped, found {other:?}")),
    }
}

pub async fn right_after_submit(subject: &Subject) -> Verdict {
    let submission = subject.submit(subject.work(&["sleep", "300"])).await?;
    subject.cancel(&submission.handle).await?;
    let end = subject.wait(&submission, true).await?;
    expect("status", end.status, RunStatus::Cancelled)
}

pub async fn during(subject: &Subject) -> Verdict {
    let submission = subject.submit(subject.work(&["sleep", "300"])).await?;
    subject
        .observe_until(&submission, "a running run", is_running)
        .await?;
    subject.cancel(&submission.handle).await?;
    let end = subject.wait(&submission, true).await?;
    expect("status", end.status, RunStatus::Cancelled)
}

pub async fn that_ignores_term(subject: &Subject) -> Verdict {
    let script = "trap '' TERM; while true; do sleep 1; done";
    let submission = subject.submit(subject.shell(script)).await?;
    subject
        .observe_until(&submission, "a running run", is_running)
        .await?;
    subject.cancel(&submission.handle).await?;
    let end = subject.wait(&submission, true).await?;
    expect("status", end.status, RunStatus::Cancelled)
}

/// The result stays what it was.
pub async fn after_the_end(subject: &Subject) -> Verdict {
    let (submission, end) = subject.run(subject.shell("exit 3")).await?;
    subject.cancel(&submission.handle).await?;
    let seen = subject.observe(&submission.handle).await?;
    let after = super::fold(end.clone(), &seen);
    hold("a cancel changes no result", after == end)
}

fn is_running(state: &RunState) -> bool {
    state.status == RunStatus::Running
}

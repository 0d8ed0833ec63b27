//! After a cancel nothing runs, and an end that was first stays.

use qwex_core::{BackendKind, RunState, RunStatus};

use super::{Subject, Verdict, expect, fold, hold, unheard, unsubmitted};
use crate::runner::CancelProgress;

/// Nothing runs of an attempt that was never submitted.
pub async fn before_submit(subject: &Subject) -> Verdict {
    let progress = subject.backend.cancel(&unsubmitted(subject)).await;
    match progress {
        Ok(CancelProgress::Stopped) => Ok(()),
        other => Err(format!("wanted Stopped, found {other:?}")),
    }
}

/// A cancel may overtake the submit that it is meant for, and then has the last word all the same. A cluster and a server
/// keep nothing of what they never had: there the submit is a run like any other, which its caller cancels again.
pub async fn a_submit_after_it(subject: &Subject) -> Verdict {
    let work = subject.shell("echo started");
    subject.cancel(&unheard(subject, &work)).await?;
    let submission = subject.submit(work).await?;
    let end = subject.wait(&submission, true).await?;
    let forgets = match subject.backend.kind() {
        BackendKind::K8s | BackendKind::Unknown => true,
        BackendKind::Local | BackendKind::Docker | BackendKind::Podman | BackendKind::Ssh => false,
    };
    if forgets && end.started_at.is_some() {
        subject.otherwise(
            "nothing is kept of a cancel of what was never there: the submit is a run, to be cancelled again",
        );
        return Ok(());
    }
    expect("status", end.status, RunStatus::Cancelled)?;
    expect("the start of its command", end.started_at, None)?;
    let again = fold(submission.state(), &subject.observe(&submission.handle).await?);
    expect("the start of its command by a later look", again.started_at, None)
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
    let after = fold(end.clone(), &seen);
    hold("a cancel changes no result", after == end)
}

fn is_running(state: &RunState) -> bool {
    state.status == RunStatus::Running
}

//! Reading changes nothing, and late readers hear everything.

use futures::StreamExt;
use qwex_core::{Fact, RunStatus};

use super::{Subject, Submission, Verdict, ending, expect, fold, hold, vanished};
use crate::watcher::{ObjectRef, Sighting};

pub async fn observe_twice_says_the_same(subject: &Subject) -> Verdict {
    let (submission, end) = subject.run(subject.shell("exit 3")).await?;
    let once = fold(submission.state(), &subject.observe(&submission.handle).await?);
    let twice = fold(once.clone(), &subject.observe(&submission.handle).await?);
    hold("a second look moves nothing", once == twice)?;
    expect("status by observe", once.status, end.status)?;
    expect("exit code by observe", once.exit_code, end.exit_code)
}

/// Of what was never submitted nothing has gone: it may still be on its way.
pub async fn an_attempt_that_is_not_there_is_gone(subject: &Subject) -> Verdict {
    let seen = subject.observe(&vanished(subject)).await?;
    hold(
        "absence is told as Gone",
        seen.iter().any(|seen| matches!(seen.fact, Fact::Gone { .. })),
    )
}

/// Who comes after the end hears of the end.
pub async fn a_late_watch_tells_the_whole_story(subject: &Subject) -> Verdict {
    let submission = subject.submit(subject.shell("exit 3")).await?;
    subject
        .observe_until(&submission, "the end", |state| state.is_terminal())
        .await?;
    let (seen, _) = list(subject, &submission).await?;
    hold("the end is among it", ending(&seen).is_some())?;
    let end = fold(submission.state(), &seen);
    expect("status", end.status, RunStatus::Failed)?;
    expect("exit code", end.exit_code, Some(3))
}

/// A watch that stops in the middle takes nothing along: the next one tells the end.
pub async fn a_watch_that_ended_is_begun_again(subject: &Subject) -> Verdict {
    let submission = subject.submit(subject.shell("sleep 1; exit 3")).await?;
    drop(list(subject, &submission).await?);
    let end = subject.wait(&submission, false).await?;
    expect("exit code", end.exit_code, Some(3))
}

pub async fn a_list_holds_what_was_submitted(subject: &Subject) -> Verdict {
    let submission = subject.submit(subject.work(&["sleep", "300"])).await?;
    let (_, objects) = list(subject, &submission).await?;
    subject.cancel(&submission.handle).await?;
    let uid = submission.handle.backend.uid.clone();
    let ours = objects
        .iter()
        .find(|object| object.run_id == submission.work.run_id)
        .ok_or("the list lacks the object")?;
    expect("UID in the list", Some(ours.uid.clone()), uid)
}

/// What a new watch tells of one attempt, up to its first list.
async fn list(
    subject: &Subject,
    submission: &Submission,
) -> Result<(Vec<qwex_core::Observation>, Vec<ObjectRef>), String> {
    let mut watch = subject
        .backend
        .watch(None)
        .await
        .map_err(|error| format!("watch: {error}"))?;
    let read = async {
        let mut seen = Vec::new();
        while let Some(sighting) = watch.next().await {
            match sighting.map_err(|error| format!("watch: {error}"))? {
                Sighting::Seen(observation) if observation.run_id == submission.work.run_id => {
                    seen.push(observation);
                }
                Sighting::Listed(objects) => return Ok((seen, objects)),
                Sighting::Seen(_)
                | Sighting::Claimed(_)
                | Sighting::LogReady(_)
                | Sighting::Detailed(..)
                | Sighting::Position(_)
                | Sighting::Alive => {}
            }
        }
        Err("the watch ended before its list".to_owned())
    };
    tokio::time::timeout(subject.limit, read)
        .await
        .map_err(|_| "the watch never listed".to_owned())?
}

/// A release may remove the object, never the result.
pub async fn release(subject: &Subject) -> Verdict {
    let (submission, end) = subject.run(subject.work(&["true"])).await?;
    for _ in 0..2 {
        subject
            .backend
            .release(&submission.handle)
            .await
            .map_err(|error| format!("release: {error}"))?;
    }
    let seen = subject.observe(&submission.handle).await?;
    hold("a release changes no result", fold(end.clone(), &seen) == end)
}

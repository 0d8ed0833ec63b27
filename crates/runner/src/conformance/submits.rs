//! Submit is quick and idempotent.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Subject, Verdict, expect, hold};
use crate::error::RunnerError;

/// Submit does not wait for the command.
pub async fn returns_at_once(subject: &Subject) -> Verdict {
    let begun = Instant::now();
    let submission = subject.submit(subject.work(&["sleep", "60"])).await?;
    let took = begun.elapsed();
    subject.cancel(&submission.handle).await?;
    hold(
        &format!("submit took {took:?}"),
        took < Duration::from_secs(10).min(subject.limit),
    )
}

/// The same attempt twice, also at the same time, is one object.
pub async fn twice_is_one_object(subject: &Subject) -> Verdict {
    let work = subject.shell("echo once");
    let (one, two) = tokio::join!(subject.backend.submit(&work), subject.backend.submit(&work));
    let (one, two) = match (one, two) {
        (Ok(one), Ok(two)) => (one, two),
        (Err(error), _) | (_, Err(error)) => return Err(format!("submit: {error}")),
    };
    let third = subject.submit(work).await?;
    hold("submit gives the UID", one.backend.uid.is_some())?;
    expect("the second submit's object", &two.backend, &one.backend)?;
    expect("the third submit's object", &third.handle.backend, &one.backend)?;
    hold("one of both found the object there", one.adopted || two.adopted)?;
    subject.wait(&third, false).await?;
    let log = super::logs::read_all(subject, &third).await?;
    expect("what the command wrote", log.as_slice(), b"once\n".as_slice())
}

/// The same attempt with another spec is refused, and the first one is left alone.
pub async fn another_spec_is_refused(subject: &Subject) -> Verdict {
    let first = subject.submit(subject.shell("exit 3")).await?;
    let mut other = first.work.clone();
    other.spec.command = vec!["true".to_owned()];
    match subject.backend.submit(&other).await {
        Err(RunnerError::NameConflict { .. }) => {}
        other => return Err(format!("wanted a name conflict, found {other:?}")),
    }
    let end = subject.wait(&first, false).await?;
    expect("the first one's exit code", end.exit_code, Some(3))
}

/// Each of many has its own end, whatever order the backend takes them in. Sixteen are more than any of our machines
/// starts side by side; two hundred over two clusters, with the server killed meanwhile, are a test of the server.
pub async fn sixteen_at_once(subject: &Subject) -> Verdict {
    let runs = (0..16).map(|code| async move {
        let (_, end) = subject.run(subject.shell(&format!("exit {code}"))).await?;
        expect("exit code", end.exit_code, Some(code))
    });
    join_all(runs).await.into_iter().collect()
}

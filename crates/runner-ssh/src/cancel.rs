//! Stops an attempt for good, and forgets it when told to.

use qwex_runner::{CancelProgress, Handle, Key, RunnerError};

use crate::error;
use crate::serve::{Reply, Served};

pub async fn cancel(served: &Served, handle: &Handle) -> Result<CancelProgress, RunnerError> {
    let grace = served.config().grace.as_secs_f64().ceil() as u64;
    let request = format!("cancel {} {grace}", named(handle));
    let replies = served.ask(&[request]).await?;
    seen(served, &replies)?;
    let stopping = replies.first().and_then(|reply| reply.find("stopping"));
    Ok(match stopping {
        Some(message) => CancelProgress::Stopping {
            message: message.to_owned(),
        },
        None => CancelProgress::Stopped,
    })
}

/// Marks an attempt as stored elsewhere; it goes once its time is over.
pub async fn release(served: &Served, handle: &Handle) -> Result<(), RunnerError> {
    let days = served.config().retention.as_secs().div_ceil(24 * 3600);
    let requests = [format!("release {}", named(handle)), format!("sweep {days}")];
    seen(served, &served.ask(&requests).await?)
}

/// Removes an attempt that is over, with all it wrote.
pub async fn remove(served: &Served, handle: &Handle) -> Result<(), RunnerError> {
    let days = served.config().retention.as_secs().div_ceil(24 * 3600);
    let requests = [format!("discard {}", named(handle)), format!("sweep {days}")];
    seen(served, &served.ask(&requests).await?)
}

/// Refuses what was asked of a run on another machine than the one that answered.
fn seen(served: &Served, replies: &[Reply]) -> Result<(), RunnerError> {
    match replies.iter().find_map(|reply| reply.find("elsewhere")) {
        Some(places) => Err(error::elsewhere(served.config(), places)),
        None => Ok(()),
    }
}

/// Object and UID, `-` where it is not known.
fn named(handle: &Handle) -> String {
    let uid = handle.backend.uid.as_ref().map(|uid| uid.0.as_str());
    // It came from outside; a UID of another shape is nobody's here.
    let safe = |uid: &&str| {
        uid.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-/".contains(&byte))
    };
    let uid = uid.map_or("-", |uid| if safe(&uid) && !uid.is_empty() { uid } else { "?" });
    format!("{} {uid}", Key::of(handle).object())
}

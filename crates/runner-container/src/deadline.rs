//! Ends an attempt at its timeout for as long as the process that submitted it lives. Engines know no timeout: whoever
//! watches a run ends it as well, by a cancel after the deadline.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use qwex_runner::{CancelProgress, Key, RunnerError, Work};

use crate::backend::Inner;
use crate::record::StopCause;

const LOOK: Duration = Duration::from_millis(100);
const BLIND_PAUSE: Duration = Duration::from_secs(2);

/// Watches over a container that was just started, or is found running.
pub fn guard(inner: &Arc<Inner>, work: &Work) {
    if work.spec.timeout.is_none() {
        return;
    }
    let inner = Arc::downgrade(inner);
    let key = Key::of_work(work);
    tokio::spawn(async move {
        loop {
            let Some(inner) = inner.upgrade() else { return };
            let pause = match step(&inner, key).await {
                Ok(Some(pause)) => pause,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(run_id = %key.run_id, %error, "cannot look after a timeout now");
                    BLIND_PAUSE
                }
            };
            drop(inner);
            tokio::time::sleep(pause).await;
        }
    });
}

/// How long until the next look; `None` when there is nothing left to do.
async fn step(inner: &Arc<Inner>, key: Key) -> Result<Option<Duration>, RunnerError> {
    let Some(container) = inner.inspect(&key.object()).await? else {
        return Ok(None);
    };
    if container.is_over() || container.key() != Some(key) {
        return Ok(None);
    }
    let Some(deadline) = container.deadline() else {
        return Ok(Some(LOOK));
    };
    let left = Timestamp::now().duration_until(deadline);
    if left.is_positive() {
        return Ok(Some(left.unsigned_abs()));
    }
    match inner
        .stop(key, Some(&container.uid()), StopCause::Timeout)
        .await?
    {
        CancelProgress::Stopping { .. } => Ok(Some(LOOK)),
        CancelProgress::Stopped => Ok(None),
    }
}

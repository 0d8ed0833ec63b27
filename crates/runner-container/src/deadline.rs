//! Ends an attempt at its timeout for as long as a process that submitted or watches it lives: engines know no timeout.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use qwex_runner::{CancelProgress, Key, RunnerError};

use crate::ask::ask;
use crate::backend::Inner;
use crate::errors;
use crate::record::StopCause;

const LOOK: Duration = Duration::from_millis(100);
const BLIND_PAUSE: Duration = Duration::from_secs(2);
/// A sleep does not count while this machine is suspended, so none is long.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

impl Inner {
    /// What the engine's clock shows; ours where it does not tell.
    ///
    /// # Errors
    /// The engine does not answer, which says nothing of its clock.
    pub async fn engine_now(&self) -> Result<Timestamp, RunnerError> {
        let client = self.link.client().await?;
        let info = ask(|| client.docker.info()).await;
        let told = info.map_err(|error| errors::runner_error(&error))?.system_time;
        let told = told.and_then(|told| told.parse().ok());
        Ok(told.unwrap_or_else(Timestamp::now))
    }
}

/// The attempts that this process watches over.
#[derive(Debug, Default)]
pub struct Guarded {
    keys: Mutex<BTreeSet<Key>>,
}

impl Guarded {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeSet<Key>) -> T) -> T {
        act(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Watches over a container that was just started, or is found running; once for each attempt.
pub fn guard(inner: &Arc<Inner>, key: Key) {
    if !inner.guarded.with(|keys| keys.insert(key)) {
        return;
    }
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        let mut ran = None;
        loop {
            let Some(inner) = inner.upgrade() else { return };
            let pause = match step(&inner, key, &mut ran).await {
                Ok(Some(pause)) => pause,
                Ok(None) => {
                    inner.guarded.with(|keys| keys.remove(&key));
                    return;
                }
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

/// How long a command has run. The two machines' clocks may differ by minutes, so what came before the first look is told
/// by the engine's clock alone, and what comes after by ours alone.
#[derive(Debug, Clone, Copy)]
struct Ran {
    before: Duration,
    /// As [`uptime`] was then.
    since: Duration,
}

impl Ran {
    fn by(self, uptime: Duration) -> Duration {
        self.before + uptime.saturating_sub(self.since)
    }
}

/// How long this machine is up. What it was suspended counts, as on the engine's clock, and nobody can set it.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .expect("every Linux has this clock")
        .into()
}

/// How long until the next look; `None` when there is nothing left to do.
async fn step(inner: &Arc<Inner>, key: Key, ran: &mut Option<Ran>) -> Result<Option<Duration>, RunnerError> {
    let Some(container) = inner.inspect(&key.object()).await? else {
        return Ok(None);
    };
    if container.is_over() || container.key() != Some(key) {
        return Ok(None);
    }
    let Some(timeout) = container.timeout() else {
        return Ok(None);
    };
    let Some(started_at) = container.started_at else {
        return Ok(Some(LOOK));
    };
    let so_far = match *ran {
        Some(ran) => ran,
        None => {
            let before = inner.engine_now().await?.duration_since(started_at);
            let before = Duration::try_from(before).unwrap_or_default();
            // Counted from the answer on: a slow one ends nothing too early.
            let since = uptime();
            *ran.insert(Ran { before, since })
        }
    };
    let left = timeout.saturating_sub(so_far.by(uptime()));
    if !left.is_zero() {
        return Ok(Some(left.min(LONGEST_SLEEP)));
    }
    match inner
        .stop(key, Some(&container.uid()), StopCause::Timeout)
        .await?
    {
        CancelProgress::Stopping { .. } => Ok(Some(LOOK)),
        CancelProgress::Stopped => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_by_our_own_clock_also_while_it_is_suspended() {
        let seconds = Duration::from_secs;
        let ran = Ran {
            before: seconds(10),
            since: seconds(500),
        };
        assert_eq!(ran.by(seconds(503)), seconds(13));
        // Ten hours without a processor.
        assert_eq!(ran.by(seconds(500 + 36_000)), seconds(36_010));
        let told = std::fs::read_to_string("/proc/uptime").unwrap();
        let told: f64 = told.split(' ').next().unwrap().parse().unwrap();
        let ahead = uptime().as_secs_f64() - told;
        assert!(
            (-0.02..60.0).contains(&ahead),
            "the kernel counts suspends: {ahead}"
        );
    }
}

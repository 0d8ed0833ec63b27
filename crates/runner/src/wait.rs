//! Waits for the end of a run: written once, over any [`Watcher`]. Survives streams that end and
//! backends that do not answer; blind is not dead.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use qwex_core::transition::next;
use qwex_core::{Fact, Observation, RunState, Step};

use crate::error::RunnerError;
use crate::runner::Handle;
use crate::watcher::{ObjectRef, Sighting, WatchPosition, Watcher};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows a run from `state` until it is over and gives its last state.
///
/// # Errors
/// Only one that asking again cannot mend ([`RunnerError::is_retryable`]); it says nothing about the run.
pub async fn wait<W>(watcher: &W, handle: &Handle, state: RunState) -> Result<RunState, RunnerError>
where
    W: Watcher + ?Sized,
{
    wait_with(watcher, handle, state, |_, _| {}).await
}

/// Like [`wait`]; `told` hears every observation of the run with the state after it.
///
/// # Errors
/// As [`wait`].
pub async fn wait_with<W, F>(
    watcher: &W,
    handle: &Handle,
    state: RunState,
    told: F,
) -> Result<RunState, RunnerError>
where
    W: Watcher + ?Sized,
    F: FnMut(&Observation, &RunState) + Send,
{
    let mut waiter = Waiter {
        handle,
        state,
        told,
        position: None,
        pause: FIRST_PAUSE,
        blind: false,
    };
    while !waiter.state.is_terminal() {
        let trouble = waiter.watch_once(watcher).await;
        if waiter.state.is_terminal() {
            break;
        }
        if let Some(error) = trouble {
            waiter.endure(error)?;
        }
        tokio::time::sleep(waiter.pause).await;
        waiter.pause = (waiter.pause * 2).min(LONGEST_PAUSE);
    }
    Ok(waiter.state)
}

struct Waiter<'a, F> {
    handle: &'a Handle,
    state: RunState,
    told: F,
    position: Option<WatchPosition>,
    pause: Duration,
    blind: bool,
}

impl<F: FnMut(&Observation, &RunState) + Send> Waiter<'_, F> {
    /// Reads one stream until the run is over, the stream ends or breaks.
    async fn watch_once<W: Watcher + ?Sized>(&mut self, watcher: &W) -> Option<RunnerError> {
        let mut stream = match watcher.watch(self.position.clone()).await {
            Ok(stream) => stream,
            Err(error) => return Some(error),
        };
        while let Some(sighting) = stream.next().await {
            let heard = match sighting {
                Ok(sighting) => self.hear(watcher, sighting).await,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return Some(error);
            }
            if self.state.is_terminal() {
                return None;
            }
        }
        None
    }

    async fn hear<W: Watcher + ?Sized>(
        &mut self,
        watcher: &W,
        sighting: Sighting,
    ) -> Result<(), RunnerError> {
        self.pause = FIRST_PAUSE;
        if std::mem::take(&mut self.blind) {
            self.fold(&self.about_us(Fact::Reachable));
        }
        match sighting {
            Sighting::Seen(seen) if seen.run_id == self.handle.run_id => self.fold(&seen),
            Sighting::Listed(objects) if !self.is_in(&objects) => {
                // Absence from a list may be older than the submit; one read of the object decides.
                for seen in watcher.observe(self.handle).await? {
                    self.fold(&seen);
                }
            }
            Sighting::Position(position) => self.position = Some(position),
            Sighting::Seen(_)
            | Sighting::Claimed(_)
            | Sighting::LogReady(_)
            | Sighting::Detailed(..)
            | Sighting::Listed(_)
            | Sighting::Alive => {}
        }
        Ok(())
    }

    fn is_in(&self, objects: &[ObjectRef]) -> bool {
        objects
            .iter()
            .any(|object| object.run_id == self.handle.run_id && object.attempt == self.state.attempt)
    }

    fn fold(&mut self, seen: &Observation) {
        match next(&self.state, seen) {
            Step::Move(state) => self.state = *state,
            Step::Stay(_) => {}
            Step::Reject(reason) => {
                tracing::warn!(run_id = %seen.run_id, ?reason, fact = ?seen.fact, "refused an observation");
            }
        }
        (self.told)(seen, &self.state);
    }

    /// Takes what may pass as such; gives back what never will.
    fn endure(&mut self, error: RunnerError) -> Result<(), RunnerError> {
        if !error.is_retryable() {
            return Err(error);
        }
        match &error {
            RunnerError::PositionGone { .. } => self.position = None,
            RunnerError::Throttled {
                retry_after: Some(after),
                ..
            } => self.pause = self.pause.max(*after),
            _ => {}
        }
        if error.is_blind() && !self.blind {
            self.blind = true;
            let message = error.to_string();
            self.fold(&self.about_us(Fact::Unreachable { message }));
        }
        Ok(())
    }

    fn about_us(&self, fact: Fact) -> Observation {
        Observation {
            run_id: self.handle.run_id,
            attempt: self.state.attempt,
            uid: None,
            at: Timestamp::now(),
            fact,
        }
    }
}

#[cfg(test)]
mod tests;

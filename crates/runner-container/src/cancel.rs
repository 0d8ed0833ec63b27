//! Stops an attempt wherever it is: before its container, during the pull, made but not started, running. What was
//! asked is recorded before it is done, so that an exit code 0 of a command that we stopped is no success.

use std::sync::Arc;

use bollard::query_parameters::{KillContainerOptions, RemoveContainerOptions};
use jiff::Timestamp;
use qwex_core::ObjectUid;
use qwex_runner::{CancelProgress, Key, RunnerError};

use crate::ask::ask;
use crate::backend::Inner;
use crate::errors;
use crate::record::{EndCause, Locked, Record, Stop, StopCause};
use crate::snapshot::{Phase, Snapshot};

const FORCED_TRIES: u32 = 2;
const CANCELLED: &str = "cancelled before its command began";

impl Inner {
    /// One step of a stop; to be asked again until nothing runs. `uid`: another attempt's container is left alone.
    pub async fn stop(
        self: &Arc<Self>,
        key: Key,
        uid: Option<&ObjectUid>,
        cause: StopCause,
    ) -> Result<CancelProgress, RunnerError> {
        let lock = self.records.lock(key).await?;
        let known = self.records.read(key)?;
        let name = known.as_ref().and_then(|record| record.container.clone());
        let found = self.inspect(&name.unwrap_or_else(|| key.object())).await?;
        let container = found.filter(|container| container.key() == Some(key));
        let mut record = match (known, &container) {
            (Some(record), _) => record,
            (None, Some(container)) => adopt(container),
            (None, None) => Record::new(String::new(), String::new()),
        };
        if uid.is_some_and(|uid| *uid != record.uid) || record.end.is_some() {
            return Ok(CancelProgress::Stopped);
        }
        self.is_at_home(&record).await?;
        let progress = match container {
            // Removed by somebody, or never made: either way nothing runs, and from now on nothing can.
            None if record.container.is_some() => return Ok(CancelProgress::Stopped),
            None => self.stop_unmade(key, &mut record, &lock, cause)?,
            Some(container) => {
                record.container = Some(container.id.clone());
                self.stop_container(key, &container, &mut record, &lock, cause)
                    .await?
            }
        };
        self.tell_changed(key);
        Ok(progress)
    }

    fn stop_unmade(
        &self,
        key: Key,
        record: &mut Record,
        lock: &Locked,
        cause: StopCause,
    ) -> Result<CancelProgress, RunnerError> {
        // A timeout counts from the command's start.
        if cause == StopCause::Cancelled {
            record.end(EndCause::Cancelled, CANCELLED);
            self.records.write(key, record, lock)?;
        }
        Ok(CancelProgress::Stopped)
    }

    async fn stop_container(
        &self,
        key: Key,
        container: &Snapshot,
        record: &mut Record,
        lock: &Locked,
        cause: StopCause,
    ) -> Result<CancelProgress, RunnerError> {
        match container.phase {
            Phase::Ended | Phase::Abandoned | Phase::Removing => Ok(CancelProgress::Stopped),
            Phase::Created => {
                record.end(EndCause::Cancelled, CANCELLED);
                self.records.write(key, record, lock)?;
                // Under the lock nobody starts it; without it nobody can.
                self.remove_container(&container.id, true).await?;
                Ok(CancelProgress::Stopped)
            }
            Phase::Running | Phase::Paused => self.signal(key, container, record, lock, cause).await,
        }
    }

    /// TERM once, KILL after the grace.
    async fn signal(
        &self,
        key: Key,
        container: &Snapshot,
        record: &mut Record,
        lock: &Locked,
        cause: StopCause,
    ) -> Result<CancelProgress, RunnerError> {
        let now = Timestamp::now();
        let stop = record.stop.clone();
        let (asked_at, signal) = match &stop {
            None => {
                let cause = match cause {
                    StopCause::Cancelled if self.is_overdue(container).await => StopCause::Timeout,
                    StopCause::Cancelled | StopCause::Timeout => cause,
                };
                record.stop = Some(Stop { cause, asked_at: now });
                self.records.write(key, record, lock)?;
                (now, Some("SIGTERM"))
            }
            Some(stop) => {
                let waited = now.duration_since(stop.asked_at).unsigned_abs();
                (stop.asked_at, (waited >= self.config.grace).then_some("SIGKILL"))
            }
        };
        if let Some(signal) = signal
            && !self.kill(container, signal).await?
            && stop.is_none()
        {
            // It had ended before: nothing of that end is ours.
            record.stop = None;
            self.records.write(key, record, lock)?;
        }
        let grace = self.config.grace;
        Ok(CancelProgress::Stopping {
            message: format!("asked to stop at {asked_at}; killed {grace:?} after that"),
        })
    }

    /// Whether its time is over by the clock that told its start. An engine that does not say stops it all the same.
    async fn is_overdue(&self, container: &Snapshot) -> bool {
        let Some(deadline) = container.deadline() else {
            return false;
        };
        self.engine_now().await.is_ok_and(|now| now >= deadline)
    }

    /// False: the container ended by itself meanwhile, which is no error; the next step sees it.
    async fn kill(&self, container: &Snapshot, signal: &str) -> Result<bool, RunnerError> {
        let client = self.link.client().await?;
        if container.phase == Phase::Paused {
            // A frozen command feels no signal.
            client.docker.unpause_container(&container.id).await.ok();
        }
        let options = KillContainerOptions {
            signal: signal.to_owned(),
        };
        match ask(|| client.docker.kill_container(&container.id, Some(options.clone()))).await {
            Ok(()) => Ok(true),
            Err(error) if errors::is_not_running(&error) || errors::is_not_found(&error) => Ok(false),
            Err(error) => Err(errors::runner_error(&error)),
        }
    }

    /// Removes a container with the volumes its image made for it; one that is not there is no error.
    pub async fn remove_container(&self, id: &str, force: bool) -> Result<(), RunnerError> {
        let client = self.link.client().await?;
        let options = RemoveContainerOptions {
            v: true,
            force,
            link: false,
        };
        let mut tries = 1;
        loop {
            match ask(|| client.docker.remove_container(id, Some(options.clone()))).await {
                Ok(()) => return Ok(()),
                Err(error) if errors::is_not_found(&error) || errors::is_being_removed(&error) => {
                    return Ok(());
                }
                // podman waits in vain for an abandoned container's end the first time, and removes it the second.
                Err(_) if force && tries < FORCED_TRIES => tries += 1,
                Err(error) => return Err(errors::runner_error(&error)),
            }
        }
    }
}

/// A record for a container that was made from another state directory.
fn adopt(container: &Snapshot) -> Record {
    let hash = container.labels.get(crate::names::SPEC_HASH);
    let mut record = Record::new(hash.cloned().unwrap_or_default(), String::new());
    record.uid = container.uid();
    record.container = Some(container.id.clone());
    record
}

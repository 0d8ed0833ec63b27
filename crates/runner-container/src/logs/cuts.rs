//! What a crash of the engine takes of a log. Docker copies a command's output itself: what dockerd had read and not written
//! goes with it (the begin of a line), and of a command that ends while dockerd is dead nothing more is ever read, although
//! its exit code is told. dockerd leaves no word of that, so a reader whose stream was cut asks it whether it still knows the
//! container's start: its events are in its memory only. Used by [`super::api`].

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::EventsOptions;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use qwex_runner::RunnerError;

use super::{Stream, Subject};
use crate::ask::ask_stream;
use crate::backend::Inner;
use crate::errors;
use crate::snapshot::Snapshot;

pub const LOST: &str =
    "the engine was killed or started anew while the command ran: what was written then may be missing here";

/// Events are looked for this much around the time of the start.
const AROUND: SignedDuration = SignedDuration::from_secs(5);
/// How long an engine may be silent; it is asked about the past.
const PATIENCE: Duration = Duration::from_secs(20);

/// The logs that this process was reading when their engine went away.
#[derive(Debug, Default)]
pub struct Cuts {
    logs: Mutex<BTreeSet<(String, Stream)>>,
}

impl Cuts {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeSet<(String, Stream)>) -> T) -> T {
        act(&mut self.logs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes an answer on; notes it where the engine went away while the command ran.
    pub fn noted<T>(
        &self,
        subject: &Subject,
        runs: bool,
        answer: Result<T, RunnerError>,
    ) -> Result<T, RunnerError> {
        if runs && answer.as_ref().is_err_and(RunnerError::is_cut) {
            self.with(|logs| logs.insert(subject.place()));
        }
        answer
    }
}

impl Inner {
    /// Whether bytes may be missing at this place: told once for each time that the engine went away.
    pub async fn has_lost(&self, subject: &Subject, container: &Snapshot) -> Result<bool, RunnerError> {
        if !self.cuts.with(|logs| logs.contains(&subject.place())) {
            return Ok(false);
        }
        let lost = match container.started_at {
            Some(started_at) => !self.remembers(&container.id, started_at).await?,
            None => false,
        };
        self.cuts.with(|logs| logs.remove(&subject.place()));
        Ok(lost)
    }

    async fn remembers(&self, id: &str, started_at: Timestamp) -> Result<bool, RunnerError> {
        let filter = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
        let second = |time: Timestamp| time.as_second().to_string();
        let options = EventsOptions {
            since: Some(second(started_at.saturating_sub(AROUND).unwrap_or(started_at))),
            until: Some(second(started_at.saturating_add(AROUND).unwrap_or(started_at))),
            filters: Some([filter("container", id), filter("event", "start")].into()),
        };
        let docker = self.link.client().await?.docker.clone();
        let mut events = std::pin::pin!(ask_stream(|| docker.events(Some(options.clone()))));
        match tokio::time::timeout(PATIENCE, events.next()).await {
            Ok(Some(Ok(_))) => Ok(true),
            Ok(None) => Ok(false),
            Ok(Some(Err(error))) => Err(errors::runner_error(&error)),
            Err(_) => Err(RunnerError::Unreachable {
                message: format!("the engine told no events within {PATIENCE:?}"),
            }),
        }
    }
}

impl Subject {
    fn place(&self) -> (String, Stream) {
        (self.container.clone(), self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_engine_that_went_away_while_the_command_ran_is_noted() {
        let subject = Subject {
            container: "c".to_owned(),
            stream: Stream::Stdout,
        };
        let cut = || RunnerError::Unreachable {
            message: String::new(),
        };
        let failed = RunnerError::Failed {
            message: String::new(),
        };
        let cuts = Cuts::default();
        let is_noted = || cuts.with(|logs| logs.contains(&subject.place()));
        assert!(cuts.noted(&subject, true, Ok(7)).is_ok() && !is_noted());
        assert!(cuts.noted(&subject, false, Err::<(), _>(cut())).is_err() && !is_noted());
        assert!(cuts.noted(&subject, true, Err::<(), _>(failed)).is_err() && !is_noted());
        assert!(cuts.noted(&subject, true, Err::<(), _>(cut())).is_err() && is_noted());
    }
}

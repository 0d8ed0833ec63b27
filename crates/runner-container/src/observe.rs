//! One attempt as engine and record show it → what can be said of it. Pure; the watch and a single read say the same.

use jiff::Timestamp;
use qwex_core::{BackendInfo, Ending, EpisodeEnd, EpisodeId, Fact, ObjectUid, Observation, PendingCode};
use qwex_runner::Key;

use crate::ending;
use crate::record::Record;
use crate::snapshot::{Phase, Snapshot};

/// All that is known of an attempt at one moment.
#[derive(Debug, Clone)]
pub struct View {
    pub key: Key,
    pub record: Option<Record>,
    pub container: Option<Snapshot>,
    /// How far the pull of its image is; `None` if nobody pulls it now.
    pub pulling: Option<String>,
}

impl View {
    pub fn uid(&self) -> Option<ObjectUid> {
        let container = self.container.as_ref().map(Snapshot::uid);
        container.or_else(|| self.record.as_ref().map(|record| record.uid.clone()))
    }

    /// Whether nothing of it will change any more.
    pub fn is_over(&self) -> bool {
        self.verdict().is_some() || self.was_removed()
    }

    /// A container was made and is not there any more.
    pub fn was_removed(&self) -> bool {
        let made = self
            .record
            .as_ref()
            .is_some_and(|record| record.container.is_some());
        made && self.container.is_none()
    }

    /// Everything that can be said of it now, in the order in which it happened. `backend` is without a UID.
    pub fn observations(&self, backend: &BackendInfo) -> Vec<Observation> {
        let Some(uid) = self.uid() else { return Vec::new() };
        let seen = |at: Timestamp, fact: Fact| Observation {
            run_id: self.key.run_id,
            attempt: self.key.attempt,
            uid: Some(uid.clone()),
            at,
            fact,
        };
        let mut backend = backend.clone();
        backend.uid = Some(uid.clone());
        let made_at = self.made_at();
        let mut all = vec![seen(made_at, Fact::Dispatched { backend })];
        let verdict = self.verdict();
        match &self.container {
            Some(container) if container.was_started() => {
                all.extend(
                    self.episode(container)
                        .into_iter()
                        .map(|(at, fact)| seen(at, fact)),
                );
            }
            Some(_) | None => all.extend(
                verdict
                    .is_none()
                    .then(|| self.waiting())
                    .flatten()
                    .map(|fact| seen(made_at, fact)),
            ),
        }
        if let Some((at, ending)) = verdict {
            let started_at = self.container.as_ref().and_then(|container| container.started_at);
            // Docker notes the start of a quick command after its end.
            let started_at = started_at.map(|started_at| started_at.min(at));
            all.push(seen(at, Fact::Ended { ending, started_at }));
        } else if self.was_removed() {
            let message = "its container was removed, not by qwex".to_owned();
            all.push(seen(Timestamp::now(), Fact::Gone { message }));
        }
        all
    }

    fn made_at(&self) -> Timestamp {
        let record = self.record.as_ref().map(|record| record.created_at);
        let container = self.container.as_ref().and_then(|container| container.created_at);
        record.or(container).unwrap_or_else(Timestamp::now)
    }

    /// How it ended, and when.
    fn verdict(&self) -> Option<(Timestamp, Ending)> {
        let record = self.record.as_ref();
        if let Some(container) = self.container.as_ref().filter(|container| container.is_over()) {
            let stop = record.and_then(|record| record.stop.as_ref());
            let at = container.finished_at.unwrap_or_else(Timestamp::now);
            let removing_unstarted = container.phase == Phase::Removing && !container.was_started();
            if !removing_unstarted {
                return Some((at, ending::of_container(container, stop)));
            }
        }
        if let Some(end) = record.and_then(|record| record.end.as_ref()) {
            return Some((end.ended_at, ending::of_record(end)));
        }
        let container = self.container.as_ref()?;
        let at = container.created_at.unwrap_or_else(Timestamp::now);
        ending::of_failed_start(container).map(|ending| (at, ending))
    }

    fn waiting(&self) -> Option<Fact> {
        let waits = |code, message: String| {
            Some(Fact::Waiting {
                code,
                message,
                round: 0,
            })
        };
        match (&self.container, &self.record) {
            (Some(_), _) => waits(
                PendingCode::Starting,
                "the container is made and not started yet".to_owned(),
            ),
            (None, Some(record)) if record.container.is_some() => None,
            (None, Some(record)) => match &self.pulling {
                Some(progress) => waits(PendingCode::Image, progress.clone()),
                None => waits(
                    PendingCode::Image,
                    format!(
                        "the pull of {} was interrupted and waits to be continued",
                        record.image
                    ),
                ),
            },
            (None, None) => None,
        }
    }

    fn episode(&self, container: &Snapshot) -> Vec<(Timestamp, Fact)> {
        let Some(started_at) = container.started_at else {
            return Vec::new();
        };
        let started_at = container.finished_at.map_or(started_at, |at| started_at.min(at));
        let episode = EpisodeId(container.id.clone());
        let mut all = vec![
            (
                started_at,
                Fact::EpisodeStarted {
                    episode: episode.clone(),
                    node: None,
                },
            ),
            (started_at, Fact::Running { round: 0 }),
        ];
        if container.is_over() {
            let at = container.finished_at.unwrap_or_else(Timestamp::now);
            let end = EpisodeEnd {
                exit_code: container.exit_code.and_then(|code| i32::try_from(code).ok()),
                signal: None,
                reason: container.oom_killed.then(|| "OOMKilled".to_owned()),
                started_at: Some(started_at),
                ended_at: container.finished_at,
            };
            all.push((at, Fact::EpisodeEnded { episode, end }));
        }
        all
    }
}

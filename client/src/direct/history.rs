//! What happened to a run, beside its record: attempts, events and the streams of its log. A server told it of a run
//! that was brought here; of a run of this directory the record itself tells the outline.

use qwex_api::log::LogStreamInfo;
use qwex_api::run::{AttemptInfo, EpisodeInfo, Why};
use qwex_core::{Attempt, EventKind, Run, RunEvent, RunStatus};
use qwex_runner::durable::Durability;
use qwex_runner::{Journal, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::beside;

const FILE: &str = "history.json";

/// All that a run's keeper knows of it beside the run object and the bytes of its log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub attempts: Vec<AttemptInfo>,
    pub events: Vec<RunEvent>,
    /// In the order in which the log is read.
    pub log_streams: Vec<LogStreamInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

impl History {
    /// Keeps it beside the run's record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, journal: &Journal) -> Result<(), StoreError> {
        let json = serde_json::to_vec(self).expect("wire types serialise");
        journal.write_file(FILE, &json, Durability::Machine)
    }

    /// `None`: nobody told one, the run was made here.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(journal: &Journal) -> Result<Option<Self>, StoreError> {
        beside::read(journal, FILE)
    }

    /// What the record of a run that is over tells of its history, and no more than that: no time, no reason and no
    /// process is made up.
    #[must_use]
    pub fn outline(run: &Run, log_streams: Vec<LogStreamInfo>) -> Self {
        let attempts = (1..=run.attempt.0)
            .map(|number| attempt(run, Attempt(number), &log_streams))
            .collect();
        Self {
            attempts,
            events: events(run),
            log_streams,
            why: None,
        }
    }
}

/// An attempt that another one followed has failed; the record keeps no more of it.
fn attempt(run: &Run, number: Attempt, streams: &[LogStreamInfo]) -> AttemptInfo {
    let is_last = number == run.attempt;
    let backend = run.backend.as_ref().filter(|_| is_last);
    AttemptInfo {
        attempt: number,
        status: if is_last { run.status } else { RunStatus::Failed },
        cluster: backend.and_then(|backend| backend.cluster.clone()),
        namespace: backend.and_then(|backend| backend.namespace.clone()),
        object: backend.map(|backend| backend.object.clone()),
        uid: backend.and_then(|backend| backend.uid.as_ref().map(ToString::to_string)),
        failure: run.failure.clone().filter(|_| is_last),
        exit_code: run.exit_code.filter(|_| is_last),
        dispatched_at: run.dispatched_at.filter(|_| is_last),
        started_at: run.started_at.filter(|_| is_last),
        finished_at: run.finished_at.filter(|_| is_last),
        episodes: episodes(run, number, streams),
    }
}

/// What wrote a log has run. How it ended is known of the only one of the last attempt.
fn episodes(run: &Run, number: Attempt, streams: &[LogStreamInfo]) -> Vec<EpisodeInfo> {
    let mut ids: Vec<&str> = Vec::new();
    for stream in streams.iter().filter(|stream| stream.attempt == number) {
        if !ids.contains(&stream.episode.as_str()) {
            ids.push(&stream.episode);
        }
    }
    let is_known = number == run.attempt && ids.len() == 1;
    let signal = run.failure.as_ref().and_then(|failure| failure.signal);
    ids.into_iter()
        .map(|id| EpisodeInfo {
            id: id.to_owned(),
            node: None,
            exit_code: run.exit_code.filter(|_| is_known),
            signal: signal.filter(|_| is_known),
            reason: None,
            started_at: run.started_at.filter(|_| is_known),
            ended_at: run.finished_at.filter(|_| is_known),
        })
        .collect()
}

fn events(run: &Run) -> Vec<RunEvent> {
    let mut events: Vec<RunEvent> = Vec::new();
    let mut tell = |at, kind, attempt, message: String, data| {
        events.push(RunEvent {
            run_id: run.id,
            seq: i64::try_from(events.len()).unwrap_or(i64::MAX) + 1,
            at,
            kind,
            attempt,
            message,
            data,
        });
    };
    let by = format!("submitted by {}", run.created_by);
    tell(
        run.created_at,
        EventKind::Submitted,
        Attempt::FIRST,
        by,
        json!({}),
    );
    if let (Some(at), Some(backend)) = (run.dispatched_at, &run.backend) {
        let place = backend
            .address
            .as_ref()
            .map_or_else(String::new, |address| format!(" at {address}"));
        let message = format!("handed to {}{place} as {}", backend.kind, backend.object);
        let data = json!({ "backend": backend });
        tell(at, EventKind::Dispatched, run.attempt, message, data);
    }
    if let Some(at) = run.started_at {
        let message = "the command runs".to_owned();
        tell(at, EventKind::Started, run.attempt, message, json!({}));
    }
    if let (Some(at), Some((kind, message))) = (run.finished_at, end(run)) {
        tell(at, kind, run.attempt, message, ended(run));
    }
    events
}

fn ended(run: &Run) -> Value {
    json!({ "failure": run.failure, "exit_code": run.exit_code })
}

fn end(run: &Run) -> Option<(EventKind, String)> {
    match run.status {
        RunStatus::Pending | RunStatus::Running => None,
        RunStatus::Succeeded => Some((
            EventKind::Succeeded,
            "the command ended with exit code 0".to_owned(),
        )),
        RunStatus::Failed => {
            let failure = run.failure.as_ref();
            let words = failure.map(|failure| format!("{}: {}", failure.code, failure.message));
            Some((EventKind::Failed, words.unwrap_or_default()))
        }
        RunStatus::Cancelled => Some((EventKind::Cancelled, "the run was cancelled".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        serde_json::from_value(json!({
            "id": "019b76da-a800-7000-8000-000000000000", "project": "default", "status": "failed", "attempt": 2,
            "spec": {"command": ["a"]}, "exit_code": 3, "failure": {"code": "exit_code", "message": "it ended with 3", "exit_code": 3},
            "backend": {"kind": "docker", "object": "qwex-a2", "uid": "c2"}, "created_by": "local:ada",
            "created_at": "2026-01-01T00:00:00Z", "dispatched_at": "2026-01-01T00:00:01Z",
            "started_at": "2026-01-01T00:00:02Z", "finished_at": "2026-01-01T00:00:03Z",
        }))
        .unwrap()
    }

    fn stream(attempt: u32, episode: &str) -> LogStreamInfo {
        LogStreamInfo {
            ordinal: 0,
            attempt: Attempt(attempt),
            episode: episode.to_owned(),
            stream: "stdout".to_owned(),
            bytes: 0,
            lines: 0,
            verdict: None,
            sha256: None,
            message: None,
        }
    }

    #[test]
    fn the_outline_tells_what_the_record_knows_and_nothing_else() {
        let outline = History::outline(&run(), vec![stream(1, "c1"), stream(2, "c2")]);
        let kinds: Vec<(i64, &str)> = outline
            .events
            .iter()
            .map(|event| (event.seq, event.kind.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [(1, "submitted"), (2, "dispatched"), (3, "started"), (4, "failed")]
        );
        let [first, last] = outline.attempts.as_slice() else {
            panic!("{:?}", outline.attempts)
        };
        assert_eq!(
            (first.status, first.exit_code, first.uid.as_deref()),
            (RunStatus::Failed, None, None)
        );
        assert_eq!(
            (first.episodes[0].id.as_str(), first.episodes[0].ended_at),
            ("c1", None)
        );
        assert_eq!((last.exit_code, last.uid.as_deref()), (Some(3), Some("c2")));
        assert_eq!(last.episodes[0].exit_code, Some(3));
    }

    #[test]
    fn a_run_that_was_never_started_has_no_start() {
        let mut run = run();
        (run.dispatched_at, run.started_at, run.backend) = (None, None, None);
        run.attempt = Attempt::FIRST;
        let outline = History::outline(&run, Vec::new());
        assert_eq!(outline.events.len(), 2);
        assert!(outline.attempts[0].episodes.is_empty());
    }
}

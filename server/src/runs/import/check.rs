//! What a record from elsewhere must keep so that every law of the database holds of it. Pure; all problems are told at
//! once.

use std::collections::HashSet;
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};
use qwex_api::record::RunRecord;
use qwex_core::{
    Attempt, BackendKind, EventKind, FailureCode, LogVerdict, Run, RunId, RunIdAgeError, RunStatus,
    SpecProblem, validate_labels,
};

use super::MOST_LOG_BYTES;

/// How far the clock of the machine that made the record may be ahead.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);
/// Most attempts that a spec can ask for is below this.
const MOST_ATTEMPTS: u32 = 1_000;
const STREAMS: [&str; 3] = ["output", "stdout", "stderr"];
/// Most characters of an identity that a backend gave.
const LONGEST_WORD: usize = 512;

/// What is wrong with a record that is to be kept as the run `id`.
pub fn problems(record: &RunRecord, id: RunId, now: Timestamp) -> Vec<SpecProblem> {
    let mut found = Problems {
        latest: now + AHEAD,
        all: Vec::new(),
    };
    found.run(&record.run, id, now);
    found.times(&record.run);
    found.attempts(record);
    found.events(record);
    found.log(record);
    let spec = record.run.spec.validate().err().unwrap_or_default();
    let within_spec = spec.into_iter().map(|problem| SpecProblem {
        pointer: format!("/run/spec{}", problem.pointer),
        ..problem
    });
    found.all.extend(within_spec);
    let labels = validate_labels(&record.run.labels).err().unwrap_or_default();
    let within_run = labels.into_iter().map(|problem| SpecProblem {
        pointer: format!("/run{}", problem.pointer),
        ..problem
    });
    found.all.extend(within_run);
    found.all
}

struct Problems {
    latest: Timestamp,
    all: Vec<SpecProblem>,
}

impl Problems {
    fn unless(&mut self, right: bool, pointer: impl Into<String>, detail: impl Into<String>) {
        if !right {
            self.all.push(SpecProblem {
                pointer: pointer.into(),
                code: "invalid",
                detail: detail.into(),
            });
        }
    }

    fn run(&mut self, run: &Run, id: RunId, now: Timestamp) {
        self.unless(run.id == id, "/run/id", "it is not the id in the path");
        if let Err(ahead @ RunIdAgeError::FromTheFuture { .. }) = run.id.check_age(now) {
            self.unless(false, "/run/id", ahead.to_string());
        }
        self.unless(
            run.status.is_terminal(),
            "/run/status",
            format!(
                "the run is {}; only a run that is over can be brought here: wait for its end",
                run.status
            ),
        );
        self.unless(
            run.pending.is_none(),
            "/run/pending",
            "a run that is over does not wait",
        );
        self.unless(
            run.failure.is_some() == (run.status == RunStatus::Failed),
            "/run/failure",
            "it is set exactly when the status is failed",
        );
        let code = run.failure.as_ref().map(|failure| failure.code);
        self.unless(
            code != Some(FailureCode::Unknown),
            "/run/failure/code",
            "this server does not know this reason: update it",
        );
        let kind = run.backend.as_ref().map(|backend| backend.kind);
        self.unless(
            kind != Some(BackendKind::Unknown),
            "/run/backend/kind",
            "this server does not know this backend: update it",
        );
        self.unless(
            run.logs.is_some(),
            "/run/logs",
            "the log is not summed up yet: it has no verdict and no SHA-256",
        );
        self.unless(
            (1..=LONGEST_WORD).contains(&run.created_by.len()),
            "/run/created_by",
            format!("it is 1 to {LONGEST_WORD} bytes long"),
        );
        self.unless(
            (1..=MOST_ATTEMPTS).contains(&run.attempt.0),
            "/run/attempt",
            format!("it is 1 to {MOST_ATTEMPTS}"),
        );
    }

    fn times(&mut self, run: &Run) {
        let is_over = run.status.is_terminal();
        self.unless(
            run.finished_at.is_some() == is_over,
            "/run/finished_at",
            "a run that is over has one",
        );
        let times = [
            ("/run/created_at", Some(run.created_at)),
            ("/run/dispatched_at", run.dispatched_at),
            ("/run/started_at", run.started_at),
            ("/run/finished_at", run.finished_at),
        ];
        for (pointer, at) in times {
            self.not_ahead(pointer, at);
        }
    }

    fn not_ahead(&mut self, pointer: impl Into<String>, at: Option<Timestamp>) {
        let latest = self.latest;
        self.unless(
            at.is_none_or(|at| at <= latest && at >= Timestamp::UNIX_EPOCH),
            pointer,
            "it lies in the future, or before 1970: set the clock of the machine that made it",
        );
    }

    fn attempts(&mut self, record: &RunRecord) {
        let run = &record.run;
        let numbers = record.attempts.iter().map(|attempt| attempt.attempt);
        self.unless(is_distinct(numbers), "/attempts", "an attempt is told twice");
        self.unless(
            record
                .attempts
                .iter()
                .any(|attempt| attempt.attempt == run.attempt),
            "/attempts",
            format!("the run's own attempt, {}, is not among them", run.attempt),
        );
        for (index, attempt) in record.attempts.iter().enumerate() {
            let at = format!("/attempts/{index}");
            self.of_run(&at, run, attempt.attempt);
            self.unless(
                attempt.status.is_terminal(),
                format!("{at}/status"),
                "it must be over",
            );
            let is_last = attempt.attempt == run.attempt;
            let uid = run.backend.as_ref().and_then(|backend| backend.uid.as_ref());
            let is_same = attempt.status == run.status
                && attempt.exit_code == run.exit_code
                && attempt.uid.as_deref() == uid.map(|uid| uid.0.as_str());
            self.unless(
                !is_last || is_same,
                &at,
                "the last attempt says other things than the run",
            );
            self.unless(
                is_distinct(attempt.episodes.iter().map(|episode| &episode.id)),
                format!("{at}/episodes"),
                "an episode is told twice",
            );
        }
    }

    fn of_run(&mut self, at: &str, run: &Run, attempt: Attempt) {
        self.unless(
            (1..=run.attempt.0).contains(&attempt.0),
            format!("{at}/attempt"),
            format!("the run has attempts 1 to {}", run.attempt),
        );
    }

    fn events(&mut self, record: &RunRecord) {
        let mut ends = Vec::new();
        let mut is_corrected = false;
        for (index, event) in record.events.iter().enumerate() {
            let at = format!("/events/{index}");
            self.of_run(&at, &record.run, event.attempt);
            self.not_ahead(format!("{at}/at"), Some(event.at));
            self.unless(
                usize::try_from(event.seq).is_ok_and(|seq| seq == index + 1),
                format!("{at}/seq"),
                "events are numbered from 1 without a hole",
            );
            self.unless(
                event.run_id == record.run.id,
                format!("{at}/run_id"),
                "it is of another run",
            );
            match event.kind {
                EventKind::Succeeded => ends.push(RunStatus::Succeeded),
                EventKind::Failed => ends.push(RunStatus::Failed),
                EventKind::Cancelled => ends.push(RunStatus::Cancelled),
                EventKind::Corrected => is_corrected = true,
                EventKind::Unknown => self.unless(
                    false,
                    format!("{at}/kind"),
                    "this server does not know this kind of event: update it",
                ),
                EventKind::Submitted
                | EventKind::Placed
                | EventKind::Dispatched
                | EventKind::Waiting
                | EventKind::Started
                | EventKind::Requeued
                | EventKind::EpisodeStarted
                | EventKind::EpisodeEnded
                | EventKind::DuplicateStart
                | EventKind::AttemptFailed
                | EventKind::CancelRequested
                | EventKind::Unreachable
                | EventKind::Reachable
                | EventKind::LogsSealed
                | EventKind::Imported
                | EventKind::Refused => {}
            }
        }
        let told_once = match ends.as_slice() {
            [end] => *end == record.run.status || is_corrected,
            _ => false,
        };
        self.unless(
            told_once,
            "/events",
            "the end of the run must be told once, as the run says it",
        );
    }

    fn log(&mut self, record: &RunRecord) {
        let streams = &record.log_streams;
        let names = streams
            .iter()
            .map(|one| (one.attempt, one.episode.as_str(), one.stream.as_str()));
        self.unless(is_distinct(names), "/log_streams", "a stream is told twice");
        for (index, stream) in streams.iter().enumerate() {
            let at = format!("/log_streams/{index}");
            self.of_run(&at, &record.run, stream.attempt);
            self.unless(
                STREAMS.contains(&stream.stream.as_str()),
                format!("{at}/stream"),
                format!("there are {}", STREAMS.join(", ")),
            );
            self.unless(
                stream.episode.len() <= LONGEST_WORD,
                format!("{at}/episode"),
                format!("it is {LONGEST_WORD} bytes at most"),
            );
            self.unless(
                matches!(
                    stream.verdict,
                    Some(LogVerdict::Complete | LogVerdict::Gap | LogVerdict::Truncated)
                ),
                format!("{at}/verdict"),
                "it must be complete, gap or truncated",
            );
        }
        let Some(logs) = &record.run.logs else { return };
        self.unless(
            logs.verdict != LogVerdict::Unknown,
            "/run/logs/verdict",
            "this server does not know this verdict: update it",
        );
        let bytes = streams
            .iter()
            .try_fold(0_u64, |sum, stream| sum.checked_add(stream.bytes));
        self.unless(
            bytes == Some(logs.bytes),
            "/run/logs/bytes",
            "it is not the sum of the streams",
        );
        self.unless(
            logs.bytes <= MOST_LOG_BYTES,
            "/run/logs/bytes",
            format!("a log that is brought here has {MOST_LOG_BYTES} bytes at most"),
        );
    }
}

fn is_distinct<T: Eq + Hash>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    items.all(|item| seen.insert(item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ID: &str = "019b76da-a800-7000-8000-000000000000";

    fn record() -> Value {
        let at = "2026-01-01T00:00:00Z";
        json!({
            "run": {
                "id": ID, "project": "default", "status": "failed", "attempt": 1, "exit_code": 3, "spec": {"command": ["a"]},
                "failure": {"code": "exit_code", "message": "3", "exit_code": 3}, "created_at": at, "finished_at": at,
                "created_by": "local:ada", "logs": {"verdict": "complete", "bytes": 3, "lines": 1, "sha256": "00"},
            },
            "attempts": [{"attempt": 1, "status": "failed", "exit_code": 3, "episodes": []}],
            "events": [
                {"run_id": ID, "seq": 1, "at": at, "kind": "submitted", "attempt": 1, "message": "", "data": {}},
                {"run_id": ID, "seq": 2, "at": at, "kind": "failed", "attempt": 1, "message": "", "data": {}},
            ],
            "log_streams": [
                {"ordinal": 0, "attempt": 1, "episode": "e", "stream": "stdout", "bytes": 3, "lines": 1, "verdict": "complete"},
            ],
        })
    }

    fn told(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut value = record();
        change(&mut value);
        let record: RunRecord = serde_json::from_value(value).unwrap();
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let all = problems(&record, ID.parse().unwrap(), now);
        all.into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn a_sound_record_passes() {
        assert_eq!(told(|_| {}), [""; 0]);
    }

    #[test]
    fn what_would_break_a_law_is_named_by_its_pointer() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 14] = [
            (|r| r["run"]["status"] = "running".into(), "/run/status"),
            (|r| r["run"]["logs"] = Value::Null, "/run/logs"),
            (|r| r["run"]["failure"] = Value::Null, "/run/failure"),
            (
                |r| r["run"]["finished_at"] = "2027-01-01T00:00:00Z".into(),
                "/run/finished_at",
            ),
            (
                |r| r["run"]["failure"]["code"] = "of_tomorrow".into(),
                "/run/failure/code",
            ),
            (|r| r["run"]["spec"]["command"] = json!([]), "/run/spec/command"),
            (|r| r["attempts"] = json!([]), "/attempts"),
            (|r| r["attempts"][0]["exit_code"] = 4.into(), "/attempts/0"),
            (|r| r["events"][1]["seq"] = 3.into(), "/events/1/seq"),
            (|r| r["events"][1]["kind"] = "succeeded".into(), "/events"),
            (|r| r["events"][0]["kind"] = "failed".into(), "/events"),
            (|r| r["log_streams"][0]["bytes"] = 4.into(), "/run/logs/bytes"),
            (
                |r| r["log_streams"][0]["verdict"] = Value::Null,
                "/log_streams/0/verdict",
            ),
            (
                |r| r["log_streams"][0]["stream"] = "../x".into(),
                "/log_streams/0/stream",
            ),
        ];
        for (change, pointer) in cases {
            let told = told(change);
            assert!(told.iter().any(|one| one == pointer), "{pointer}: {told:?}");
        }
    }

    #[test]
    fn an_id_from_the_future_is_refused_and_an_old_one_is_not() {
        let record: RunRecord = serde_json::from_value(record()).unwrap();
        let id = ID.parse().unwrap();
        let at = |text: &str| problems(&record, id, text.parse().unwrap()).len();
        assert_eq!(at("2027-01-02T00:00:00Z"), 0);
        assert!(at("2025-12-30T00:00:00Z") > 0);
    }
}

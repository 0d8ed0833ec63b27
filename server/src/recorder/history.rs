//! What a step adds to a run's history. Pure.

use qwex_core::transition::{RejectReason, Step};
use qwex_core::{EventKind, Fact, Observation, RunState, RunStatus};
use serde_json::{Value, json};

/// A row of history before it has its number.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub kind: EventKind,
    pub message: String,
    pub data: Value,
}

fn line(kind: EventKind, message: impl Into<String>, data: Value) -> Line {
    Line {
        kind,
        message: message.into(),
        data,
    }
}

/// The lines that a step adds; most repeats add none.
pub(super) fn lines(before: &RunState, seen: &Observation, step: &Step) -> Vec<Line> {
    match step {
        Step::Move(after) => moved(before, after, seen),
        Step::Stay(_) => detail(before, seen),
        Step::Reject(reason) => vec![refused(*reason, seen)],
    }
}

fn refused(reason: RejectReason, seen: &Observation) -> Line {
    let why = match reason {
        RejectReason::ForeignUid => "it is about another object than the recorded one",
        RejectReason::NoUid => "it names no object, and another fact pinned one",
        RejectReason::ContradictsEnd => "the run has ended otherwise",
    };
    let data = json!({ "uid": seen.uid, "fact": seen.fact });
    line(EventKind::Refused, format!("a fact was refused: {why}"), data)
}

/// Episodes move no state but belong to the history.
fn detail(before: &RunState, seen: &Observation) -> Vec<Line> {
    if seen.attempt != before.attempt {
        return Vec::new();
    }
    match &seen.fact {
        Fact::EpisodeStarted { episode, node } => {
            let place = node
                .as_ref()
                .map_or_else(String::new, |node| format!(" on node {node}"));
            vec![line(
                EventKind::EpisodeStarted,
                format!("{episode} started{place}"),
                json!({ "episode": episode, "node": node }),
            )]
        }
        Fact::EpisodeEnded { episode, end } => {
            let how = match (end.exit_code, &end.reason) {
                (Some(code), Some(reason)) => format!(" with exit code {code} ({reason})"),
                (Some(code), None) => format!(" with exit code {code}"),
                (None, Some(reason)) => format!(" ({reason})"),
                (None, None) => String::new(),
            };
            vec![line(
                EventKind::EpisodeEnded,
                format!("{episode} ended{how}"),
                json!({ "episode": episode, "end": end }),
            )]
        }
        Fact::Dispatched { .. }
        | Fact::Waiting { .. }
        | Fact::Running { .. }
        | Fact::DuplicateStart { .. }
        | Fact::Ended { .. }
        | Fact::Gone { .. }
        | Fact::CancelRequested { .. }
        | Fact::Unreachable { .. }
        | Fact::Reachable
        | Fact::LogsIncomplete { .. } => Vec::new(),
    }
}

fn moved(before: &RunState, after: &RunState, seen: &Observation) -> Vec<Line> {
    match &seen.fact {
        Fact::Dispatched { backend } => {
            let place = backend
                .cluster
                .as_ref()
                .map_or_else(|| backend.kind.to_string(), |name| format!("cluster {name}"));
            vec![line(
                EventKind::Dispatched,
                format!("handed to {place} as {}", backend.object),
                json!({ "backend": backend }),
            )]
        }
        Fact::Waiting { code, message, .. } => {
            let kind = if before.status == RunStatus::Running {
                EventKind::Requeued
            } else {
                EventKind::Waiting
            };
            let same = before
                .pending
                .as_ref()
                .is_some_and(|known| known.code == *code && known.message == *message);
            if same {
                Vec::new()
            } else {
                vec![line(kind, message.clone(), json!({ "code": code }))]
            }
        }
        Fact::Running { .. } => vec![line(EventKind::Started, "the command runs", json!({}))],
        Fact::DuplicateStart { episodes } => {
            vec![line(
                EventKind::DuplicateStart,
                "more than one episode ran at the same time",
                json!({ "episodes": episodes }),
            )]
        }
        Fact::CancelRequested { by } => {
            vec![line(
                EventKind::CancelRequested,
                format!("{by} asked to cancel"),
                json!({ "by": by }),
            )]
        }
        Fact::Unreachable { message } => vec![line(EventKind::Unreachable, message.clone(), json!({}))],
        Fact::Reachable => vec![line(EventKind::Reachable, "the cluster answers again", json!({}))],
        Fact::LogsIncomplete { message } => vec![line(
            EventKind::LogsSealed,
            message.clone(),
            json!({ "complete": false }),
        )],
        Fact::Ended { .. } | Fact::Gone { .. } => vec![end_line(before, after, seen)],
        Fact::EpisodeStarted { .. } | Fact::EpisodeEnded { .. } => detail(before, seen),
    }
}

fn end_line(before: &RunState, after: &RunState, seen: &Observation) -> Line {
    let data = json!({ "failure": after.failure, "exit_code": after.exit_code, "fact": seen.fact });
    if before.is_terminal() {
        return line(
            EventKind::Corrected,
            format!("a real result was found: {}", after.status),
            data,
        );
    }
    match after.status {
        RunStatus::Succeeded => line(
            EventKind::Succeeded,
            too_late(before, "the command ended with exit code 0"),
            data,
        ),
        RunStatus::Failed => {
            let failure = after
                .failure
                .as_ref()
                .map_or_else(String::new, |one| format!("{}: {}", one.code, one.message));
            line(EventKind::Failed, too_late(before, &failure), data)
        }
        RunStatus::Cancelled => line(EventKind::Cancelled, "the run was cancelled", data),
        RunStatus::Pending | RunStatus::Running => {
            let message = after
                .pending
                .as_ref()
                .map_or_else(String::new, |pending| pending.message.clone());
            line(EventKind::AttemptFailed, message, data)
        }
    }
}

/// First terminal evidence wins: a cancel that came after the end is told so.
fn too_late(before: &RunState, message: &str) -> String {
    if before.cancel_requested() {
        format!("{message}; the cancel came too late")
    } else {
        message.to_owned()
    }
}

//! The rows of every table: which columns, and what stands in them.

use jiff::Timestamp;
use qwex_api::cluster::ClusterInfo;
use qwex_api::project::ProjectInfo;
use qwex_api::run::{Candidate, RunRow};
use qwex_api::token::TokenInfo;
use qwex_api::webhook::{DeliveryInfo, WebhookInfo};
use qwex_core::{Failure, Pending, RunEvent, RunStatus};

use super::age;

/// A line of a table.
pub trait Row {
    /// What `-o name` and `-q` print.
    fn name(&self) -> String;
    fn heads(wide: bool) -> Vec<&'static str>;
    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String>;
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn time(at: Option<Timestamp>) -> String {
    at.map(age::full).unwrap_or_default()
}

/// Why it waits or failed, in one word.
#[must_use]
pub fn reason(pending: Option<&Pending>, failure: Option<&Failure>) -> String {
    match (pending, failure) {
        (Some(pending), _) => pending.code.to_string(),
        (None, Some(failure)) => failure.code.to_string(),
        (None, None) => String::new(),
    }
}

impl Row for RunRow {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        let mut heads = vec![
            "ID", "NAME", "STATUS", "REASON", CLUSTER, "EXIT", "DURATION", "AGE",
        ];
        if wide {
            heads.extend([
                "PROJECT", "QUEUE", "ATTEMPT", "CREATED", "STARTED", "FINISHED", "BY", "FLAGS",
            ]);
        }
        heads
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let ran = self.started_at.map(|started| {
            let end = self.finished_at.unwrap_or(now);
            age::short(end.duration_since(started))
        });
        let mut cells = vec![
            self.id.to_string(),
            text(self.name.as_ref()),
            self.status.to_string(),
            reason(self.pending.as_ref(), self.failure.as_ref()),
            text(self.cluster.as_ref()),
            text(self.exit_code.as_ref()),
            ran.unwrap_or_default(),
            age::age(self.created_at, now),
        ];
        if wide {
            let flags: Vec<&str> = self.flags.iter().map(|flag| flag.as_str()).collect();
            let by = match &self.imported {
                Some(imported) => format!("{}, imported by {}", self.created_by, imported.by),
                None => self.created_by.clone(),
            };
            cells.extend([
                self.project.to_string(),
                text(self.queue.as_ref()),
                self.attempt.to_string(),
                age::full(self.created_at),
                time(self.started_at),
                time(self.finished_at),
                by,
                flags.join(","),
            ]);
        }
        cells
    }
}

/// A run of this directory: its table names the backend where a server's names the cluster.
pub struct RunHere {
    pub row: RunRow,
    pub backend: String,
}

const CLUSTER: &str = "CLUSTER";

impl Row for RunHere {
    fn name(&self) -> String {
        self.row.name()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        let heads = RunRow::heads(wide).into_iter();
        heads
            .map(|head| if head == CLUSTER { "BACKEND" } else { head })
            .collect()
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let cells = RunRow::heads(wide).into_iter().zip(self.row.cells(wide, now));
        cells
            .map(|(head, cell)| {
                if head == CLUSTER {
                    self.backend.clone()
                } else {
                    cell
                }
            })
            .collect()
    }
}

impl Row for RunEvent {
    fn name(&self) -> String {
        self.seq.to_string()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        if wide {
            vec!["SEQ", "TIME", "ATTEMPT", "KIND", "MESSAGE", "DATA"]
        } else {
            vec!["SEQ", "AGE", "ATTEMPT", "KIND", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let when = if wide {
            age::full(self.at)
        } else {
            age::age(self.at, now)
        };
        let mut cells = vec![
            self.seq.to_string(),
            when,
            self.attempt.to_string(),
            self.kind.to_string(),
            self.message.clone(),
        ];
        if wide {
            let data = if self.data.is_null() {
                String::new()
            } else {
                self.data.to_string()
            };
            cells.push(data);
        }
        cells
    }
}

impl Row for ClusterInfo {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        let mut heads = vec!["NAME", "KIND", "STATUS", "REACHABLE", "VERSION", "RUNS", "SEEN"];
        if wide {
            heads.extend([
                "NAMESPACE",
                "QUEUE",
                "QUEUES",
                "LABELS",
                "CREATED",
                "BY",
                "MESSAGE",
            ]);
        }
        heads
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut cells = vec![
            self.name.to_string(),
            self.kind.clone(),
            self.status.as_str().to_owned(),
            if self.reachable { "yes" } else { "no" }.to_owned(),
            text(self.version.as_ref()),
            self.open_runs.to_string(),
            self.last_seen_at.map(|at| age::age(at, now)).unwrap_or_default(),
        ];
        if wide {
            cells.extend([
                text(self.namespace.as_ref()),
                text(self.default_queue.as_ref()),
                self.queues.join(","),
                pairs(&self.labels),
                age::full(self.created_at),
                self.created_by.clone(),
                text(self.message.as_ref()),
            ]);
        }
        cells
    }
}

/// `k=v,k=v`.
#[must_use]
pub fn pairs(labels: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

impl Row for TokenInfo {
    fn name(&self) -> String {
        self.id.clone()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        let mut heads = vec!["ID", "NAME", "PROJECT", "ROLE", "STATUS", "USED", "AGE"];
        if wide {
            heads.extend(["EXPIRES", "CREATED", "BY"]);
        }
        heads
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let status = match (self.revoked_at, self.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            (None, _) => "valid",
        };
        let mut cells = vec![
            self.id.clone(),
            self.name.clone(),
            self.project.to_string(),
            self.role.as_str().to_owned(),
            status.to_owned(),
            self.last_used_at
                .map_or_else(|| "never".to_owned(), |at| age::age(at, now)),
            age::age(self.created_at, now),
        ];
        if wide {
            let expires = self.expires_at.map_or_else(|| "never".to_owned(), age::full);
            cells.extend([expires, age::full(self.created_at), self.created_by.clone()]);
        }
        cells
    }
}

impl Row for ProjectInfo {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        if wide {
            vec!["NAME", "AGE", "CREATED", "BY"]
        } else {
            vec!["NAME", "AGE"]
        }
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut cells = vec![self.name.to_string(), age::age(self.created_at, now)];
        if wide {
            cells.extend([age::full(self.created_at), self.created_by.clone()]);
        }
        cells
    }
}

impl Row for WebhookInfo {
    fn name(&self) -> String {
        self.id.clone()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        let mut heads = vec!["ID", "URL", "EVENTS", "ENABLED", "AGE"];
        if wide {
            heads.extend(["PROJECT", "CREATED", "BY", "DESCRIPTION", "DISABLED BECAUSE"]);
        }
        heads
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let events: Vec<&str> = self.events.iter().map(|event| event.as_str()).collect();
        let mut cells = vec![
            self.id.clone(),
            self.url.clone(),
            events.join(","),
            if self.enabled { "yes" } else { "no" }.to_owned(),
            age::age(self.created_at, now),
        ];
        if wide {
            cells.extend([
                self.project.to_string(),
                age::full(self.created_at),
                self.created_by.clone(),
                text(self.description.as_ref()),
                text(self.disabled_reason.as_ref()),
            ]);
        }
        cells
    }
}

impl Row for DeliveryInfo {
    fn name(&self) -> String {
        self.id.clone()
    }

    fn heads(wide: bool) -> Vec<&'static str> {
        let mut heads = vec!["ID", "EVENT", "RUN", "STATUS", "TRIES", "ANSWER", "AGE"];
        if wide {
            heads.extend(["NEXT TRY", "DELIVERED", "ERROR"]);
        }
        heads
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut cells = vec![
            self.id.clone(),
            self.event.as_str().to_owned(),
            text(self.run_id.as_ref()),
            self.status.as_str().to_owned(),
            self.tries.to_string(),
            text(self.last_status.as_ref()),
            age::age(self.created_at, now),
        ];
        if wide {
            cells.extend([
                time(self.next_try_at),
                time(self.delivered_at),
                text(self.last_error.as_ref()),
            ]);
        }
        cells
    }
}

impl Row for Candidate {
    fn name(&self) -> String {
        self.cluster.to_string()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["CLUSTER", "FITS", "SCORE", "FILTER", "REASON"]
    }

    fn cells(&self, _wide: bool, _now: Timestamp) -> Vec<String> {
        vec![
            self.cluster.to_string(),
            if self.fits { "yes" } else { "no" }.to_owned(),
            self.score.map(|score| format!("{score:.2}")).unwrap_or_default(),
            text(self.failed_filter.as_ref()),
            self.reason.clone(),
        ]
    }
}

/// The status for people, with the reason behind it: `pending (admission)`.
#[must_use]
pub fn status_words(status: RunStatus, pending: Option<&Pending>, failure: Option<&Failure>) -> String {
    match reason(pending, failure) {
        reason if reason.is_empty() => status.to_string(),
        reason => format!("{status} ({reason})"),
    }
}

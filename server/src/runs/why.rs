//! `why`: one sentence on where a run stands, and what to do about it. Pure.

use qwex_api::log::{ArchiveTrouble, LogWaiting};
use qwex_api::run::Why;
use qwex_core::{Flag, Run, RunStatus};

use super::row_of;
use crate::db::run::StoredRun;
use crate::db::waiting::Waiting;

pub(super) fn explain(stored: StoredRun, waiting: Option<Waiting>) -> Why {
    let log_waiting = waiting.map(log_waiting);
    let mut summary = summary(&stored.run);
    if log_waiting.is_some() {
        summary.push_str("; its log waits for the log archive");
    }
    let hint = hint(&stored.run);
    Why {
        run: row_of(stored.run),
        summary,
        hint,
        placement: stored.placement,
        log_waiting,
    }
}

fn log_waiting(waiting: Waiting) -> LogWaiting {
    let message = match waiting.trouble {
        ArchiveTrouble::Damaged => format!("its log is not complete yet: {}", waiting.trouble.words()),
        ArchiveTrouble::NoSpace
        | ArchiveTrouble::Denied
        | ArchiveTrouble::ReadOnly
        | ArchiveTrouble::NoAnswer
        | ArchiveTrouble::Refused
        | ArchiveTrouble::Unknown => format!(
            "the log archive does not take the rest of its log: {}; what is missing there is kept where it ran",
            waiting.trouble.words()
        ),
    };
    LogWaiting {
        code: waiting.trouble,
        message,
        since: waiting.since,
        last_refused_at: waiting.seen_at,
        streams: u32::try_from(waiting.streams).unwrap_or(u32::MAX),
        hint: waiting.trouble.hint().to_owned(),
    }
}

fn place(run: &Run) -> String {
    if let Some(imported) = &run.imported {
        return format!(" elsewhere (brought here by {})", imported.by);
    }
    match run.backend.as_ref().and_then(|backend| backend.cluster.as_ref()) {
        Some(cluster) => format!(" on cluster {cluster}"),
        None => String::new(),
    }
}

fn summary(run: &Run) -> String {
    let blind = if run.flags.contains(&Flag::ClusterUnreachable) {
        "; its cluster cannot be reached now"
    } else {
        ""
    };
    match run.status {
        RunStatus::Pending => {
            let reason = run
                .pending
                .as_ref()
                .map_or_else(String::new, |one| format!(": {} ({})", one.message, one.code));
            format!("It waits{}{reason}{blind}", place(run))
        }
        RunStatus::Running => format!("It runs{}, attempt {}{blind}", place(run), run.attempt),
        RunStatus::Succeeded => format!("It succeeded{}, attempt {}", place(run), run.attempt),
        RunStatus::Failed => {
            let reason = run
                .failure
                .as_ref()
                .map_or_else(String::new, |one| format!(": {} ({})", one.message, one.code));
            format!("It failed{} in attempt {}{reason}", place(run), run.attempt)
        }
        RunStatus::Cancelled => format!("It was cancelled{}", place(run)),
    }
}

fn hint(run: &Run) -> Option<String> {
    let pending = run.pending.as_ref().map(|pending| pending.code.hint());
    let failure = run.failure.as_ref().map(|failure| failure.code.hint());
    pending
        .or(failure)
        .filter(|hint| !hint.is_empty())
        .map(str::to_owned)
}

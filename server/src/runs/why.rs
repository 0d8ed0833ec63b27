//! `why`: one sentence on where a run stands, and what to do about it. Pure.

use qwex_api::run::Why;
use qwex_core::{Flag, Run, RunStatus};

use super::row_of;
use crate::db::run::StoredRun;

pub(super) fn explain(stored: StoredRun) -> Why {
    let summary = summary(&stored.run);
    let hint = hint(&stored.run);
    Why {
        run: row_of(stored.run),
        summary,
        hint,
        placement: stored.placement,
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

//! A run as a row of the list.

use qwex_api::run::RunRow;
use qwex_core::Run;

/// The row that a list would show of a run.
#[must_use]
pub fn row_of(run: &Run) -> RunRow {
    let cluster = run.backend.as_ref().and_then(|backend| backend.cluster.clone());
    RunRow {
        id: run.id,
        name: run.name.clone(),
        project: run.project.clone(),
        labels: run.labels.clone(),
        status: run.status,
        pending: run.pending.clone(),
        failure: run.failure.clone(),
        cluster: cluster.or_else(|| run.spec.cluster.clone()),
        queue: run.spec.queue.clone(),
        attempt: run.attempt,
        exit_code: run.exit_code,
        flags: run.flags.clone(),
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        created_by: run.created_by.clone(),
        imported: run.imported.clone(),
    }
}

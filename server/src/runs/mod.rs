//! Runs as people ask for them: submit, read, list, cancel, rerun, why, bring from elsewhere.
//!
//! Called by `http` and `dispatch`. Reads through `db`; changes run state only through the Recorder.

mod error;
mod import;
mod lane;
mod query;
mod shown;
mod submit;
mod why;

use std::time::Duration;

use jiff::Timestamp;
use qwex_api::run::{AttemptInfo, RunRow, Why};
use qwex_core::{Attempt, Fact, Observation, Run, RunEvent, RunId};
use tokio::sync::watch;

pub use crate::db::run::{RunFilter, StoredRun};
pub use error::RunsError;
pub use import::{Arrival, Arriving, MOST_LOG_BYTES};
pub use query::{RunPage, RunQuery};
pub use shown::{BadCursor, Told};
pub use submit::{Rerun, Submission};

use crate::auth::{Principal, Scope};
use crate::db::{self, Pools};
use crate::hints::Hints;
use crate::recorder::Recorder;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runs {
    pools: Pools,
    recorder: Recorder,
    hints: Hints,
    lane: lane::SubmitLane,
}

impl Runs {
    /// Starts the submit lane.
    #[must_use]
    pub fn start(pools: &Pools, recorder: Recorder, hints: Hints) -> Self {
        let lane = lane::SubmitLane::start(pools.record.clone(), hints.clone());
        Self {
            pools: pools.clone(),
            recorder,
            hints,
            lane,
        }
    }

    /// One run with its row version.
    ///
    /// # Errors
    /// It does not exist in the asker's scope, or the database is not there.
    pub async fn get(&self, scope: &Scope, id: RunId) -> Result<StoredRun, RunsError> {
        let found = db::run::find_run(&self.pools.api, scope.project(), id).await?;
        found.ok_or(RunsError::NotFound(id))
    }

    /// Waits until the run is over, at most `limit`; returns it as it is then.
    ///
    /// # Errors
    /// As [`Runs::get`].
    pub async fn wait(&self, scope: &Scope, id: RunId, limit: Duration) -> Result<StoredRun, RunsError> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut changed = self.subscribe(id);
        loop {
            let run = self.get(scope, id).await?;
            if run.run.status.is_terminal() || tokio::time::Instant::now() >= deadline {
                return Ok(run);
            }
            let again = (tokio::time::Instant::now() + Duration::from_secs(1)).min(deadline);
            // A hint or a second, whichever comes first.
            let _ = tokio::time::timeout_at(again, changed.changed()).await;
        }
    }

    /// A page of runs, newest first.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn list(&self, scope: &Scope, query: &RunQuery) -> Result<RunPage, RunsError> {
        query::list(&self.pools.api, scope, query).await
    }

    /// The rows of the first page that a listener was not told as they are now, oldest first, each with what was
    /// told once it is.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn news(
        &self,
        scope: &Scope,
        query: &RunQuery,
        told: &Told,
    ) -> Result<Vec<(RunRow, Told)>, RunsError> {
        query::news(&self.pools.api, scope, query, told).await
    }

    /// Asks to stop a run. Repeats give the same answer; a run that is over stays as it is.
    ///
    /// # Errors
    /// It does not exist in the asker's scope, `if_version` is not its version, or nothing could be recorded.
    pub async fn cancel(
        &self,
        who: &Principal,
        id: RunId,
        if_version: Option<i64>,
    ) -> Result<StoredRun, RunsError> {
        let known = self.get(&who.scope(), id).await?;
        if let Some(wanted) = if_version
            && wanted != known.version
        {
            return Err(RunsError::Changed { found: known.version });
        }
        if known.run.status.is_terminal() {
            return Ok(known);
        }
        self.recorder
            .record_one(Observation {
                run_id: id,
                attempt: Attempt::FIRST,
                uid: None,
                at: Timestamp::now(),
                fact: Fact::CancelRequested { by: who.label() },
            })
            .await?;
        self.get(&who.scope(), id).await
    }

    /// Events after `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// The run does not exist in the asker's scope, or the database is not there.
    pub async fn events(
        &self,
        scope: &Scope,
        id: RunId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<RunEvent>, RunsError> {
        self.get(scope, id).await?;
        Ok(db::history::list_events(&self.pools.api, id, after, limit).await?)
    }

    /// Attempts with their episodes.
    ///
    /// # Errors
    /// The run does not exist in the asker's scope, or the database is not there.
    pub async fn attempts(&self, scope: &Scope, id: RunId) -> Result<Vec<AttemptInfo>, RunsError> {
        self.get(scope, id).await?;
        Ok(db::history::list_attempts(&self.pools.api, id).await?)
    }

    /// Why the run waits, failed, or ran where it ran; and why its log waits.
    ///
    /// # Errors
    /// The run does not exist in the asker's scope, or the database is not there.
    pub async fn why(&self, scope: &Scope, id: RunId) -> Result<Why, RunsError> {
        let stored = self.get(scope, id).await?;
        let waiting = db::waiting::find_of_run(&self.pools.api, id).await?;
        Ok(why::explain(stored, waiting))
    }

    /// Wakes whenever the run may have changed; read it again then, and at least every second.
    #[must_use]
    pub fn subscribe(&self, id: RunId) -> watch::Receiver<u64> {
        self.hints.subscribe(id)
    }
}

/// The row of lists, made from a whole run.
#[must_use]
pub fn row_of(run: Run) -> RunRow {
    RunRow {
        id: run.id,
        name: run.name,
        project: run.project,
        labels: run.labels,
        status: run.status,
        pending: run.pending,
        failure: run.failure,
        cluster: run.backend.and_then(|backend| backend.cluster),
        queue: run.spec.queue,
        attempt: run.attempt,
        exit_code: run.exit_code,
        flags: run.flags,
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        created_by: run.created_by,
        imported: run.imported,
    }
}

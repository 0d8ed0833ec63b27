//! Finishes attempts that are over: stops what may still run, waits until every byte of the log is
//! archived, then releases the object. Nothing is released before its evidence is durable.
//!
//! Started by `clusters` for each cluster whose lease this replica holds. Decides from SQL rows only; writes no
//! run state.

use futures::StreamExt;
use qwex_runner::{CancelProgress, Handle, RunnerError};

use tokio_util::sync::CancellationToken;

use crate::clusters::{Backend, within};
use crate::db::Pools;
use crate::db::cleanup::{self, ClaimedCleanup};
use crate::hints::{Hints, Rounds};
use crate::logs::Archive;
use crate::recorder::LeaseGuard;

/// What the clean-up of one cluster works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub pools: Pools,
    pub hints: Hints,
    pub archive: Archive,
    pub backend: Backend,
    pub guard: LeaseGuard,
    pub stop: CancellationToken,
}

impl Context {
    fn cluster(&self) -> &str {
        self.backend.name.as_str()
    }
}

/// Claims of one round.
const CLAIM: i64 = 100;
/// A claim lasts longer than every call it covers.
const CLAIM_SECONDS: f64 = 90.0;

const IN_FLIGHT: usize = 16;

/// Cleans up after the runs of one cluster until told to stop.
pub async fn run(context: Context) {
    let mut rounds = Rounds::new(&context.hints, &context.stop);
    loop {
        let more = match round(&context).await {
            Ok(count) => count > 0,
            Err(error) => {
                tracing::warn!(
                    cluster = context.cluster(),
                    error = &error as &dyn std::error::Error,
                    "clean-up paused"
                );
                false
            }
        };
        if context.stop.is_cancelled() || (!more && !rounds.next().await) {
            return;
        }
    }
}

async fn round(context: &Context) -> crate::db::DbResult<usize> {
    let claimed = cleanup::claim(
        &context.pools.work,
        context.cluster(),
        CLAIM,
        CLAIM_SECONDS,
        &context.guard,
    )
    .await?;
    let count = claimed.len();
    futures::stream::iter(claimed)
        .for_each_concurrent(IN_FLIGHT, |owed| async move { finish(context, &owed).await })
        .await;
    Ok(count)
}

async fn finish(context: &Context, owed: &ClaimedCleanup) {
    let handle = Handle {
        run_id: owed.run_id,
        attempt: owed.attempt,
        backend: owed.backend.clone(),
    };
    let result = match steps(context, owed, &handle).await {
        Ok(true) => cleanup::done(&context.pools.work, owed.run_id, owed.attempt).await,
        Ok(false) => put_back(context, owed).await,
        Err(error) => {
            tracing::warn!(run = %owed.run_id, cluster = context.cluster(), tries = owed.tries, error = &error as &dyn std::error::Error, "clean-up goes on later");
            put_back(context, owed).await
        }
    };
    if let Err(error) = result {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the claim lapses by itself"
        );
    }
}

async fn put_back(context: &Context, owed: &ClaimedCleanup) -> crate::db::DbResult<()> {
    let wait = (0.2 * f64::from(owed.tries)).min(30.0);
    cleanup::put_back(&context.pools.work, owed.run_id, owed.attempt, wait).await
}

/// Returns whether nothing more is owed.
async fn steps(context: &Context, owed: &ClaimedCleanup, handle: &Handle) -> Result<bool, RunnerError> {
    if owed.stop
        && let CancelProgress::Stopping { .. } = within(context.backend.runner.cancel(handle)).await?
    {
        return Ok(false);
    }
    if !context
        .archive
        .finish(&context.guard, &context.backend, handle)
        .await?
    {
        return Ok(false);
    }
    match within(context.backend.runner.release(handle)).await {
        Ok(()) | Err(RunnerError::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

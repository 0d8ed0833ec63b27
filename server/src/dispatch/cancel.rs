//! Stops runs that are on a cluster. Done only when the cluster proves that nothing of them is left.

use futures::StreamExt;
use qwex_core::{Attempt, BackendInfo, Ending, Fact, RunId};
use qwex_runner::{CancelProgress, Handle};

use super::{CLAIM, CLAIM_SECONDS, Context, retry_seconds};
use crate::clusters::within;
use crate::db::dispatch::{self, Claim, Claimed};
use crate::recorder::Batch;

const IN_FLIGHT: usize = 16;

pub(super) async fn run(context: &Context) {
    let mut rounds = context.rounds();
    while rounds.next().await {
        if let Err(error) = round(context).await {
            tracing::warn!(
                cluster = context.cluster(),
                error = &error as &dyn std::error::Error,
                "cancelling paused"
            );
        }
    }
}

async fn round(context: &Context) -> crate::db::DbResult<()> {
    let claimed = dispatch::claim(
        &context.pools.work,
        Claim::ToCancel(context.cluster()),
        CLAIM,
        CLAIM_SECONDS,
        Some(&context.guard),
    )
    .await?;
    futures::stream::iter(claimed)
        .for_each_concurrent(IN_FLIGHT, |intent| async move { cancel(context, &intent).await })
        .await;
    Ok(())
}

async fn cancel(context: &Context, intent: &Claimed) {
    let backend = match &intent.backend {
        Some(backend) => backend.clone(),
        None => unpinned(context, intent.run_id, intent.attempt),
    };
    let uid = backend.uid.clone();
    let handle = Handle {
        run_id: intent.run_id,
        attempt: intent.attempt,
        backend,
    };
    let (error, wait) = match within(context.backend.runner.cancel(&handle)).await {
        Ok(CancelProgress::Stopped) => {
            stopped(context, &handle, uid).await;
            return;
        }
        Ok(CancelProgress::Stopping { message }) => (message, 0.5),
        Err(error) => (error.to_string(), retry_seconds(intent.tries)),
    };
    tracing::debug!(run = %intent.run_id, cluster = context.cluster(), error, "not stopped yet");
    let put = dispatch::put_back(
        &context.pools.work,
        intent.run_id,
        intent.attempt,
        Some(&error),
        wait,
    )
    .await;
    if let Err(error) = put {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the claim lapses by itself"
        );
    }
}

/// Nothing of it is left. If it ended by itself before, that was seen or is read now: first evidence wins.
async fn stopped(context: &Context, handle: &Handle, uid: Option<qwex_core::ObjectUid>) {
    let mut observations = match within(context.backend.watcher.observe(handle)).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::debug!(run = %handle.run_id, error = &error as &dyn std::error::Error, "no last look");
            Vec::new()
        }
    };
    let ending = Ending::Stopped {
        message: "cancelled".to_owned(),
        exit_code: None,
        signal: None,
    };
    observations.push(context.observation(
        handle.run_id,
        handle.attempt,
        uid,
        Fact::Ended {
            ending,
            started_at: None,
        },
    ));
    let batch = Batch {
        observations,
        guard: Some(context.guard.clone()),
        ..Batch::default()
    };
    if let Err(error) = context.recorder.record(batch).await {
        tracing::warn!(run = %handle.run_id, error = &error as &dyn std::error::Error, "not recorded; the claim lapses");
    }
}

/// The object by its name alone, where no UID is known.
pub(super) fn unpinned(context: &Context, run: RunId, attempt: Attempt) -> BackendInfo {
    BackendInfo {
        kind: context.backend.runner.kind(),
        cluster: Some(context.backend.name.clone()),
        address: None,
        namespace: None,
        object: run.object_name(attempt),
        uid: None,
    }
}

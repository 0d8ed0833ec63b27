//! Hands placed runs to their cluster. A repeat adopts the object of the first try.

use futures::StreamExt;
use qwex_core::{Ending, Fact, Failure, FailureCode, PendingCode};
use qwex_runner::{CancelProgress, Handle, RunnerError, Work};

use super::{CLAIM, CLAIM_SECONDS, Context, retry_seconds};
use crate::clusters::within;
use crate::db::dispatch::{self, Claim, Claimed};
use crate::recorder::Batch;

/// Submits in flight to one cluster.
const IN_FLIGHT: usize = 16;

pub(super) async fn run(context: &Context) {
    let mut rounds = context.rounds();
    loop {
        match round(context).await {
            Ok(true) => {}
            Ok(false) => {
                if !rounds.next().await {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    cluster = context.cluster(),
                    error = &error as &dyn std::error::Error,
                    "dispatch paused"
                );
                if !rounds.next().await {
                    return;
                }
            }
        }
    }
}

/// Returns whether there may be more.
async fn round(context: &Context) -> crate::db::DbResult<bool> {
    if context.stop.is_cancelled() {
        return Ok(false);
    }
    let claimed = dispatch::claim(
        &context.pools.work,
        Claim::ToStart(context.cluster()),
        CLAIM,
        CLAIM_SECONDS,
        Some(&context.guard),
    )
    .await?;
    let count = claimed.len();
    futures::stream::iter(claimed)
        .for_each_concurrent(IN_FLIGHT, |intent| async move { start(context, intent).await })
        .await;
    Ok(count > 0)
}

async fn start(context: &Context, intent: Claimed) {
    let began = std::time::Instant::now();
    let result = if intent.cancel_requested {
        withdraw(context, &intent).await
    } else {
        submit(context, &intent).await
    };
    let outcome = match &result {
        Ok(()) => "ok",
        Err(error) if error.is_retryable() => "retry",
        Err(_) => "refused",
    };
    metrics::histogram!("qwex_dispatch_seconds", "cluster" => context.cluster().to_owned(), "outcome" => outcome)
        .record(began.elapsed().as_secs_f64());
    match result {
        Ok(()) => {}
        Err(error) if error.is_retryable() => later(context, &intent, &error).await,
        Err(error) => refuse(context, &intent, error).await,
    }
}

async fn submit(context: &Context, intent: &Claimed) -> Result<(), RunnerError> {
    let work = work(context, intent);
    let submitted = within(context.backend.runner.submit(&work)).await?;
    let uid = submitted.backend.uid.clone();
    tracing::info!(run = %intent.run_id, attempt = intent.attempt.0, cluster = context.cluster(), adopted = submitted.adopted, "handed over");
    let fact = Fact::Dispatched {
        backend: submitted.backend,
    };
    record(
        context,
        intent,
        context.observation(intent.run_id, intent.attempt, uid, fact),
    )
    .await;
    Ok(())
}

fn work(context: &Context, intent: &Claimed) -> Work {
    Work {
        run_id: intent.run_id,
        attempt: intent.attempt,
        project: intent.project.clone(),
        name: intent.name.clone(),
        labels: intent.labels.clone(),
        spec: context.backend.spec_for(&intent.spec),
        workspace: None,
    }
}

/// Cancelled before it was handed over: if an earlier try may have reached the cluster, proof is needed
/// that nothing of it is there.
async fn withdraw(context: &Context, intent: &Claimed) -> Result<(), RunnerError> {
    if intent.tries > 1 {
        let handle = Handle {
            run_id: intent.run_id,
            attempt: intent.attempt,
            backend: super::cancel::unpinned(context, intent.run_id, intent.attempt),
        };
        if let CancelProgress::Stopping { message } = within(context.backend.runner.cancel(&handle)).await? {
            return Err(RunnerError::Failed { message });
        }
    }
    let ending = Ending::Stopped {
        message: "cancelled before it started".to_owned(),
        exit_code: None,
        signal: None,
    };
    let fact = Fact::Ended {
        ending,
        started_at: None,
    };
    record(
        context,
        intent,
        context.observation(intent.run_id, intent.attempt, None, fact),
    )
    .await;
    Ok(())
}

/// Tries again later, and says why the run waits.
async fn later(context: &Context, intent: &Claimed, error: &RunnerError) {
    let message = error.to_string();
    let wait = match error {
        RunnerError::Throttled {
            retry_after: Some(after),
            ..
        } => after.as_secs_f64().min(60.0),
        RunnerError::Throttled { .. }
        | RunnerError::Rejected { .. }
        | RunnerError::NameConflict { .. }
        | RunnerError::NotFound { .. }
        | RunnerError::Unsupported { .. }
        | RunnerError::NoConnection { .. }
        | RunnerError::Unreachable { .. }
        | RunnerError::Unauthorized { .. }
        | RunnerError::PositionGone { .. }
        | RunnerError::Failed { .. } => retry_seconds(intent.tries),
    };
    tracing::warn!(run = %intent.run_id, cluster = context.cluster(), tries = intent.tries, message, "not handed over yet");
    let told = intent.last_error.as_deref() == Some(message.as_str());
    let put = dispatch::put_back(
        &context.pools.work,
        intent.run_id,
        intent.attempt,
        Some(&message),
        wait,
    )
    .await;
    if let Err(error) = put {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the claim lapses by itself"
        );
    }
    if !told {
        let message = format!("cluster {} does not take it yet: {message}", context.cluster());
        let fact = Fact::Waiting {
            code: PendingCode::Queued,
            message,
            round: 0,
        };
        record(
            context,
            intent,
            context.observation(intent.run_id, intent.attempt, None, fact),
        )
        .await;
    }
}

/// The cluster refuses for ever.
async fn refuse(context: &Context, intent: &Claimed, error: RunnerError) {
    let failure = match error {
        RunnerError::NameConflict { object, message } => Failure::new(
            FailureCode::NameConflict,
            format!("{object} exists and is not ours: {message}"),
        ),
        RunnerError::Rejected { message }
        | RunnerError::NotFound { message }
        | RunnerError::Unsupported { message }
        | RunnerError::NoConnection { message }
        | RunnerError::Unreachable { message }
        | RunnerError::Unauthorized { message }
        | RunnerError::Throttled { message, .. }
        | RunnerError::PositionGone { message }
        | RunnerError::Failed { message } => Failure::new(FailureCode::Rejected, message),
    };
    let fact = Fact::Ended {
        ending: Ending::Failed { failure },
        started_at: None,
    };
    record(
        context,
        intent,
        context.observation(intent.run_id, intent.attempt, None, fact),
    )
    .await;
}

/// Not recorded means not done: the claim lapses and the next one finds the object.
async fn record(context: &Context, intent: &Claimed, observation: qwex_core::Observation) {
    let batch = Batch {
        guard: Some(context.guard.clone()),
        ..observation.into()
    };
    if let Err(error) = context.recorder.record(batch).await {
        tracing::warn!(run = %intent.run_id, error = &error as &dyn std::error::Error, "not recorded; the claim lapses");
    }
}

//! Watches a cluster and proposes what it sees to the Recorder. Changes no run state and names no SQL.
//!
//! Started by `clusters` for each cluster whose lease this replica holds. Whatever ends a watch, it starts
//! again from the last recorded position: a closed watch proves nothing.

mod absent;
mod claims;

use std::time::Duration;

use futures::StreamExt;
use qwex_core::{ClusterName, Observation};
use qwex_runner::{ObjectRef, RunnerError, Sighting, SightingStream, WatchPosition};
use tokio_util::sync::CancellationToken;

use self::claims::Strangers;
use crate::clusters::{Backend, Reach};
use crate::logs::Archive;
use crate::recorder::{Batch, LeaseGuard, RecordError, Recorder};

/// What the watch of one cluster works with.
#[derive(Debug, Clone)]
pub struct Context {
    pub recorder: Recorder,
    pub archive: Archive,
    pub backend: Backend,
    pub reach: Reach,
    pub guard: LeaseGuard,
    pub stop: CancellationToken,
}

/// Sightings that are recorded together, if so many are there.
const BATCH: usize = 500;
/// A stream that says nothing for so long is deaf.
const DEAF: Duration = Duration::from_secs(330);
/// Everything is listed anew this often, whatever the stream says.
const SWEEP: Duration = Duration::from_secs(600);

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the stream was closed")]
    Closed,
    #[error("the stream said nothing for {} s", DEAF.as_secs())]
    Deaf,
    #[error("time for a full list")]
    Sweep,
    #[error("it cannot be told now which objects are ours")]
    Unjudged,
    #[error(transparent)]
    Backend(#[from] RunnerError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Watches until told to stop or until the lease has passed on.
pub async fn run(context: Context) {
    let name = context.backend.name.clone();
    let mut failures: u32 = 0;
    let mut relist = false;
    let mut strangers = Strangers::default();
    while !context.stop.is_cancelled() {
        let ended = tokio::select! {
            () = context.stop.cancelled() => return,
            ended = watch_once(&context, relist, &mut strangers, &mut failures) => ended,
        };
        metrics::counter!("qwex_watch_restarts_total", "cluster" => name.to_string()).increment(1);
        relist = matches!(
            ended,
            Ended::Sweep | Ended::Backend(RunnerError::PositionGone { .. })
        );
        match &ended {
            Ended::Record(RecordError::Fenced) => return,
            Ended::Closed | Ended::Sweep => {
                tracing::debug!(cluster = %name, why = %ended, "the watch starts again")
            }
            Ended::Deaf | Ended::Unjudged | Ended::Backend(_) | Ended::Record(_) => {
                tracing::info!(cluster = %name, why = %ended, failures, "the watch starts again");
                failures = failures.saturating_add(1);
            }
        }
        // A line that was cut once is opened again and says nothing of the cluster; what lasts does.
        let cut_once = failures <= 1 && matches!(&ended, Ended::Backend(error) if error.is_cut());
        if let Ended::Backend(error) = &ended
            && !cut_once
        {
            context.reach.lost(&context.recorder, &context.guard, error).await;
        }
        let pause = Duration::from_millis(200 * u64::from(failures.min(50)) + 50);
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = tokio::time::sleep(pause.min(Duration::from_secs(10))) => {}
        }
    }
}

async fn watch_once(context: &Context, relist: bool, strangers: &mut Strangers, failures: &mut u32) -> Ended {
    let from = if relist {
        None
    } else {
        context.reach.position().await
    };
    match follow(context, from, strangers, failures).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn follow(
    context: &Context,
    from: Option<WatchPosition>,
    strangers: &mut Strangers,
    failures: &mut u32,
) -> Result<std::convert::Infallible, Ended> {
    let opening = context.backend.watcher.watch(from);
    let stream = tokio::time::timeout(Duration::from_secs(60), opening)
        .await
        .map_err(|_| Ended::Deaf)??;
    let sweep_at = tokio::time::Instant::now() + SWEEP;
    let mut ready: futures::stream::ReadyChunks<SightingStream> = stream.ready_chunks(BATCH);
    loop {
        let chunk = tokio::select! {
            () = tokio::time::sleep_until(sweep_at) => return Err(Ended::Sweep),
            chunk = tokio::time::timeout(DEAF, ready.next()) => chunk.map_err(|_| Ended::Deaf)?.ok_or(Ended::Closed)?,
        };
        let mut failure = None;
        let mut sightings = Vec::with_capacity(chunk.len());
        for sighting in chunk {
            match sighting {
                Ok(sighting) => sightings.push(sighting),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if !sightings.is_empty() {
            *failures = 0;
            context.reach.seen(&context.recorder, &context.guard).await;
            take(context, strangers, sightings).await?;
        }
        if let Some(error) = failure {
            return Err(error.into());
        }
    }
}

/// Records what was sighted, then follows the logs and looks for what is missing.
async fn take(context: &Context, strangers: &mut Strangers, sightings: Vec<Sighting>) -> Result<(), Ended> {
    let mut observations: Vec<Observation> = Vec::new();
    let mut claims = Vec::new();
    let mut position = None;
    let mut logs = Vec::new();
    let mut details = Vec::new();
    let mut listed: Option<Vec<ObjectRef>> = None;
    for sighting in sightings {
        match sighting {
            Sighting::Seen(observation) => observations.push(observation),
            Sighting::Claimed(claim) => claims.push(claim),
            Sighting::LogReady(source) => logs.push(source),
            Sighting::Detailed(object, known) => details.push((object, known)),
            Sighting::Listed(objects) => listed = Some(objects),
            Sighting::Position(at) => position = Some(at),
            Sighting::Alive => {}
        }
    }
    strangers.judge(context, claims, &observations).await?;
    strangers.leave_out(&mut observations, &mut logs);
    details.retain(|(object, _)| !strangers.has(&object.uid));
    // Logs first: their streams must be known before the run can be over.
    for source in logs {
        context
            .archive
            .follow(&context.guard, &context.backend, source)
            .await;
    }
    if !observations.is_empty() || !details.is_empty() || position.is_some() {
        let cluster: ClusterName = context.backend.name.clone();
        let batch = Batch {
            observations,
            details,
            guard: Some(context.guard.clone()),
            position: position.map(|at| (cluster, at)),
            seen_on: Some(context.backend.seen_on()),
            ..Batch::default()
        };
        context.recorder.record(batch).await?;
    }
    match listed {
        Some(objects) => {
            strangers.keep(&objects);
            absent::look_for(context, &objects).await
        }
        None => Ok(()),
    }
}

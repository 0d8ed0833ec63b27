//! Chooses a cluster for each run that needs one. Runs in every replica; claims keep them apart.

use jiff::Timestamp;
use qwex_core::{Ending, Fact, Observation, PendingCode};
use tokio_util::sync::CancellationToken;

use super::CLAIM;
use crate::db::dispatch::{self, Claim, Claimed, PutBack};
use crate::db::{DbResult, Pools, cluster};
use crate::hints::{Hints, Rounds};
use crate::placement;
use crate::recorder::{Batch, Placed, Recorder};

/// A claim covers no network call but SQL.
const CLAIM_SECONDS: f64 = 10.0;

/// Places runs until told to stop.
pub async fn run(pools: Pools, recorder: Recorder, hints: Hints, stop: CancellationToken) {
    let mut rounds = Rounds::new(&hints, &stop);
    loop {
        let more = match round(&pools, &recorder).await {
            Ok(count) => count > 0,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "placement paused");
                false
            }
        };
        if stop.is_cancelled() || (!more && !rounds.next().await) {
            return;
        }
    }
}

async fn round(pools: &Pools, recorder: &Recorder) -> DbResult<usize> {
    let claimed = dispatch::claim(&pools.work, Claim::ToPlace, CLAIM, CLAIM_SECONDS, None).await?;
    if claimed.is_empty() {
        return Ok(0);
    }
    let mut clusters = cluster::list_clusters(&pools.work, None, false).await?;
    let mut batch = Batch::default();
    let mut waiting = Vec::new();
    for intent in &claimed {
        if intent.cancel_requested {
            batch.observations.push(withdrawn(intent));
            continue;
        }
        let report = placement::choose(&intent.spec, &clusters, Timestamp::now());
        match &report.chosen {
            Some(chosen) => {
                if let Some(cluster) = clusters.iter_mut().find(|cluster| cluster.name == *chosen) {
                    cluster.open_runs += 1;
                }
            }
            None => {
                let message = placement::no_cluster_sentence(&report);
                waiting.push(PutBack {
                    run_id: intent.run_id,
                    attempt: intent.attempt,
                    error: message.clone(),
                    seconds: f64::from(intent.tries.clamp(1, 10)),
                });
                if intent.last_error.as_deref() == Some(message.as_str()) {
                    continue;
                }
                batch.observations.push(queued(intent, message));
            }
        }
        batch.placements.push(Placed {
            run_id: intent.run_id,
            attempt: intent.attempt,
            report,
        });
    }
    if let Err(error) = recorder.record(batch).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "placements were not recorded; the claims lapse"
        );
        return Ok(0);
    }
    if !waiting.is_empty() {
        dispatch::put_all_back(&pools.work, &waiting).await?;
    }
    Ok(claimed.len())
}

fn queued(intent: &Claimed, message: String) -> Observation {
    observation(
        intent,
        Fact::Waiting {
            code: PendingCode::Queued,
            message,
            round: 0,
        },
    )
}

fn withdrawn(intent: &Claimed) -> Observation {
    let ending = Ending::Stopped {
        message: "cancelled before it started".to_owned(),
        exit_code: None,
        signal: None,
    };
    observation(
        intent,
        Fact::Ended {
            ending,
            started_at: None,
        },
    )
}

fn observation(intent: &Claimed, fact: Fact) -> Observation {
    Observation {
        run_id: intent.run_id,
        attempt: intent.attempt,
        uid: None,
        at: Timestamp::now(),
        fact,
    }
}

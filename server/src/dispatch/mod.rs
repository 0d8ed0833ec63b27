//! Hands runs to clusters and takes them back: places, starts, cancels, cleans up.
//!
//! Started by `clusters` for each cluster whose lease this replica holds. Decides from SQL rows only, and
//! changes run state only through the Recorder. Every step may be repeated after a crash.

mod cancel;
mod cleanup;
mod place;
mod start;

use std::time::Duration;

use qwex_core::{Attempt, Fact, ObjectUid, Observation, RunId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use cleanup::run as clean_up;
pub use place::run as place;

use crate::clusters::Backend;
use crate::db::Pools;
use crate::hints::Hints;
use crate::logs::Archive;
use crate::recorder::{LeaseGuard, Recorder};

/// What the loops of one cluster work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub pools: Pools,
    pub recorder: Recorder,
    pub hints: Hints,
    pub archive: Archive,
    pub backend: Backend,
    pub guard: LeaseGuard,
    pub stop: CancellationToken,
}

/// Claims of one round.
const CLAIM: i64 = 100;
/// A claim lasts longer than every call it covers.
const CLAIM_SECONDS: f64 = 60.0;
/// No call to a cluster takes longer.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Without a hint, SQL is looked at this often.
const POLL: Duration = Duration::from_secs(1);

/// Starts and cancels runs of one cluster until told to stop.
pub async fn run(context: Context) {
    tokio::join!(start::run(&context), cancel::run(&context));
}

impl Context {
    fn rounds(&self) -> Rounds {
        Rounds::new(&self.hints, &self.stop)
    }

    fn cluster(&self) -> &str {
        self.backend.name.as_str()
    }

    fn observation(
        &self,
        run_id: RunId,
        attempt: Attempt,
        uid: Option<ObjectUid>,
        fact: Fact,
    ) -> Observation {
        Observation {
            run_id,
            attempt,
            uid,
            at: jiff::Timestamp::now(),
            fact,
        }
    }
}

/// Paces a loop: the next round comes with a hint or after a second.
struct Rounds {
    work: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Rounds {
    fn new(hints: &Hints, stop: &CancellationToken) -> Self {
        Self {
            work: hints.subscribe_work(),
            stop: stop.clone(),
        }
    }

    /// Waits for a hint, a second, or the end. Returns whether to go on.
    async fn next(&mut self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            // An error means that the hints are gone with the server.
            _ = self.work.changed() => true,
            () = tokio::time::sleep(POLL) => true,
        }
    }
}

/// Seconds before try number `tries` + 1: 1, 2, 4… at most 30.
fn retry_seconds(tries: i32) -> f64 {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(0).min(5);
    f64::from(1_u32 << doublings).min(30.0)
}

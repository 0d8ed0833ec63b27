//! Hands runs to clusters and takes them back: places, starts, cancels.
//!
//! Started by `clusters` for each cluster whose lease this replica holds. Decides from SQL rows only, and
//! changes run state only through the Recorder. Every step may be repeated after a crash.

mod cancel;
mod place;
mod start;

use qwex_core::{Attempt, Fact, ObjectUid, Observation, RunId};
use tokio_util::sync::CancellationToken;

pub use place::run as place;

use crate::clusters::Backend;
use crate::db::Pools;
use crate::hints::{Hints, Rounds};
use crate::recorder::{LeaseGuard, Recorder};

/// What the loops of one cluster work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub pools: Pools,
    pub recorder: Recorder,
    pub hints: Hints,
    pub backend: Backend,
    pub guard: LeaseGuard,
    pub stop: CancellationToken,
}

/// Claims of one round.
const CLAIM: i64 = 100;
/// A claim lasts longer than every call it covers.
const CLAIM_SECONDS: f64 = 60.0;

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

/// Seconds before try number `tries` + 1: 1, 2, 4… at most 30.
fn retry_seconds(tries: i32) -> f64 {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(0).min(5);
    f64::from(1_u32 << doublings).min(30.0)
}

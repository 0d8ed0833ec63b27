//! Empties the outbox: claims what is due, tries it, writes down what came of it. Any number of replicas do so at
//! once. No transaction is open while an endpoint is called; a replica that dies leaves claims that run out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::PgPool;
use tokio::task::{self, Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::carrier::{Carrier, Done};
use super::slots::{Lane, Slots};
use super::{WebhooksConfig, metrics};
use crate::db::delivery::{self, Claim};
use crate::db::{DbResult, Pools};
use crate::hints::Hints;
use crate::sealing::Sealer;

/// What is due is looked for at least this often.
const POLL: Duration = Duration::from_secs(1);
/// What is owed to disabled and removed endpoints is laid to the dead this often, and the queue is measured.
const SWEEP: Duration = Duration::from_secs(15);
/// What has arrived long ago is forgotten this often, so many at once.
const PRUNE: Duration = Duration::from_secs(3600);
const PRUNE_AT_ONCE: i64 = 1_000;
/// A claim outlives the deadline of its try by this much.
const MARGIN: Duration = Duration::from_secs(30);
/// Tries under way have this long to end when the server leaves.
const LEAVE: Duration = Duration::from_secs(3);

/// The background work of webhooks.
pub struct Deliverer {
    pool: PgPool,
    hints: Hints,
    carrier: Arc<Carrier>,
    claim: Duration,
    retention: Duration,
}

/// What a try under way holds.
struct UnderWay {
    lane: Lane,
    endpoint: String,
    delivery: String,
    claimed_until: Timestamp,
}

type Ended = Result<(Id, Done), task::JoinError>;

/// Tries under way, and the slots they hold.
#[derive(Default)]
struct Tries {
    /// When the next retry is due that was decided here.
    retry: Option<Instant>,
    tasks: JoinSet<Done>,
    known: HashMap<Id, UnderWay>,
    slots: Slots,
}

impl Deliverer {
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        pools: &Pools,
        sealer: Sealer,
        hints: Hints,
        config: &WebhooksConfig,
    ) -> Result<Self, reqwest::Error> {
        metrics::describe();
        let pool = pools.work.clone();
        Ok(Self {
            carrier: Arc::new(Carrier::new(pool.clone(), sealer, config)?),
            pool,
            hints,
            claim: config.deadline + MARGIN,
            retention: config.retention,
        })
    }

    /// Delivers until `stop`. Tries under way then have three seconds to end; the claims of the others are given back.
    pub async fn run(self, stop: CancellationToken) {
        let mut tries = Tries::default();
        let mut work = self.hints.subscribe_work();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut prune = tokio::time::interval(PRUNE);
        prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            // Taken note of before the look: a hint that comes meanwhile is not lost.
            work.mark_unchanged();
            if let Err(error) = self.begin_due(&mut tries).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "deliveries were not claimed"
                );
            }
            metrics::set_under_way(tries.tasks.len());
            tokio::select! {
                () = stop.cancelled() => break,
                _ = work.changed() => {}
                () = tokio::time::sleep(tries.wait()) => {}
                _ = sweep.tick() => self.sweep().await,
                _ = prune.tick() => if self.prune().await { prune.reset_immediately() },
                // Its slot is free: there may be more for this endpoint.
                Some(ended) = tries.tasks.join_next_with_id() => tries.end_all(ended),
            }
        }
        self.leave(tries).await;
    }

    /// Claims as much as there are slots for and begins it.
    async fn begin_due(&self, tries: &mut Tries) -> DbResult<()> {
        for lane in [Lane::Healthy, Lane::Failing] {
            let free = tries.slots.free(lane);
            if free == 0 {
                continue;
            }
            let claim = Claim {
                failing: lane == Lane::Failing,
                limit: i64::try_from(free).unwrap_or(i64::MAX),
                per_endpoint: 1,
                room: &tries.slots.room(),
                seconds: self.claim.as_secs_f64(),
            };
            for claimed in delivery::claim_due(&self.pool, &claim).await? {
                let under_way = UnderWay {
                    lane,
                    endpoint: claimed.endpoint_id.clone(),
                    delivery: claimed.id.clone(),
                    claimed_until: claimed.claimed_until,
                };
                let carrier = self.carrier.clone();
                tries.begin(under_way, async move { carrier.carry(claimed).await });
            }
        }
        Ok(())
    }

    async fn sweep(&self) {
        let swept = async {
            let buried = delivery::bury_undeliverable(&self.pool).await?;
            metrics::count_dead(buried);
            metrics::set_depth(delivery::get_depth(&self.pool).await?);
            DbResult::Ok(())
        };
        if let Err(error) = swept.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the outbox was not swept"
            );
        }
    }

    /// Forgets some of what has arrived long ago. Returns whether there may be more.
    async fn prune(&self) -> bool {
        let seconds = self.retention.as_secs_f64();
        match delivery::prune_delivered(&self.pool, seconds, PRUNE_AT_ONCE).await {
            Ok(0) => false,
            Ok(pruned) => {
                tracing::info!(pruned, "deliveries that had arrived long ago were forgotten");
                pruned == PRUNE_AT_ONCE.unsigned_abs()
            }
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "old deliveries were not forgotten"
                );
                false
            }
        }
    }

    async fn leave(&self, mut tries: Tries) {
        let deadline = Instant::now() + LEAVE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, tries.tasks.join_next_with_id()).await {
            tries.end(ended);
        }
        tries.tasks.shutdown().await;
        let open: Vec<(String, Timestamp)> = tries
            .known
            .into_values()
            .map(|one| (one.delivery, one.claimed_until))
            .collect();
        if open.is_empty() {
            return;
        }
        tracing::info!(count = open.len(), "deliveries under way were given back");
        if let Err(error) = delivery::release_claims(&self.pool, &open).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "claims were not given back; they run out"
            );
        }
    }
}

impl Tries {
    fn begin(&mut self, under_way: UnderWay, work: impl Future<Output = Done> + Send + 'static) {
        self.slots.take(under_way.lane, &under_way.endpoint);
        let id = self.tasks.spawn(work).id();
        self.known.insert(id, under_way);
    }

    /// Frees the slot of a try that ended, and of all that ended meanwhile.
    fn end_all(&mut self, ended: Ended) {
        self.end(ended);
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.end(ended);
        }
    }

    fn end(&mut self, ended: Ended) {
        let (id, done) = match ended {
            Ok((id, done)) => (id, done),
            Err(error) => {
                // The claim runs out, and the delivery is tried again.
                tracing::error!(%error, "a try ended in a panic");
                (error.id(), Done::default())
            }
        };
        if let Some(one) = self.known.remove(&id) {
            self.slots.give_back(one.lane, &one.endpoint, done.delivered);
        }
        if let Some(retry) = done.retry_in.map(|wait| Instant::now() + wait) {
            self.retry = Some(self.retry.map_or(retry, |known| known.min(retry)));
        }
    }

    /// How long nothing will be due as far as is known here, and never longer than the poll.
    fn wait(&mut self) -> Duration {
        let now = Instant::now();
        self.retry = self.retry.filter(|retry| *retry > now);
        self.retry.map_or(POLL, |retry| (retry - now).min(POLL))
    }
}

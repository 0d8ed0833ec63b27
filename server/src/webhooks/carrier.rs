//! One claimed delivery from its row to the endpoint and back into its row.

use std::time::Duration;

use sqlx::PgPool;

use super::guard::Guard;
use super::resolve;
use super::schedule::{self, Outcome, Verdict};
use super::secret::Secret;
use super::send::{Message, Sender};
use super::{WebhooksConfig, metrics};
use crate::db::delivery::{self, Claimed, Told};
use crate::db::{DbResult, webhook};
use crate::sealing::{SealError, Sealer};

/// Waits between tries to write down what came of a try. After them the claim runs out and the delivery is tried
/// again: at least once, never not at all.
const WRITE_WAITS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

const GONE: &str = "the endpoint answered 410 Gone";
const FAILED_LONG: &str = "nothing arrived for days and every try of a delivery failed";

/// Carries deliveries.
pub struct Carrier {
    pool: PgPool,
    sealer: Sealer,
    sender: Sender,
    schedule: Vec<Duration>,
    patience: Duration,
}

/// What came of a try.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    pub delivered: bool,
    pub retry_in: Option<Duration>,
}

impl Carrier {
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(pool: PgPool, sealer: Sealer, config: &WebhooksConfig) -> Result<Self, reqwest::Error> {
        let guard = Guard::new(config.allow_loopback);
        Ok(Self {
            pool,
            sealer,
            sender: Sender::new(guard, resolve::system(), config.deadline)?,
            schedule: config.schedule.clone(),
            patience: config.patience,
        })
    }

    /// Tries a delivery once and writes down what came of it.
    pub async fn carry(&self, claimed: Claimed) -> Done {
        let timer = metrics::Timer::start();
        let outcome = self.send(&claimed).await;
        let failed = usize::try_from(claimed.tries).unwrap_or(usize::MAX);
        let spread = rand::random();
        let verdict = schedule::judge(&outcome, claimed.event, failed, &self.schedule, spread);
        timer.stop(&outcome);
        let mut waits = WRITE_WAITS.iter();
        while let Err(error) = self.write(&claimed, &outcome, verdict).await {
            tracing::warn!(
                delivery = claimed.id,
                error = &error as &dyn std::error::Error,
                "the end of a try was not written"
            );
            match waits.next() {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Done::default(),
            }
        }
        match verdict {
            Verdict::Delivered => {
                metrics::count_delivered(claimed.created_at);
                Done {
                    delivered: true,
                    retry_in: None,
                }
            }
            Verdict::Retry(wait) => Done {
                delivered: false,
                retry_in: Some(wait),
            },
            Verdict::Dead | Verdict::Gone => {
                metrics::count_dead(1);
                Done::default()
            }
        }
    }

    async fn send(&self, claimed: &Claimed) -> Outcome {
        match self.secrets(claimed) {
            Ok(secrets) => {
                let message = Message {
                    url: &claimed.url,
                    id: &claimed.id,
                    body: &claimed.body,
                    secrets: &secrets,
                };
                self.sender.send(&message).await
            }
            Err(error) => {
                tracing::error!(
                    endpoint = claimed.endpoint_id,
                    error = &error as &dyn std::error::Error,
                    "the secret of an endpoint cannot be opened"
                );
                Outcome::Unanswered("not sent: the server cannot open the secret of this webhook".to_owned())
            }
        }
    }

    /// The secrets that sign, the newest first.
    fn secrets(&self, claimed: &Claimed) -> Result<Vec<Secret>, SealError> {
        let previous = claimed.sealed_previous_secret.as_deref();
        [Some(claimed.sealed_secret.as_slice()), previous]
            .into_iter()
            .flatten()
            .map(|sealed| Secret::open(&self.sealer, &claimed.endpoint_id, sealed))
            .collect()
    }

    /// One transaction: what is known of the endpoint agrees with its deliveries.
    async fn write(&self, claimed: &Claimed, outcome: &Outcome, verdict: Verdict) -> DbResult<()> {
        let error = schedule::explain(outcome);
        let status = match outcome {
            Outcome::Answered { status, .. } => Some(i32::from(*status)),
            Outcome::Unanswered(_) => None,
        };
        let told = Told {
            status,
            error: Some(&error),
        };
        let endpoint = claimed.endpoint_id.as_str();
        let mut tx = self.pool.begin().await?;
        let retry = match verdict {
            Verdict::Delivered => {
                delivery::mark_delivered(&mut tx, &claimed.id, told).await?;
                webhook::update_healthy(&mut tx, endpoint).await?;
                return Ok(tx.commit().await?);
            }
            Verdict::Retry(wait) => Some(wait.as_secs_f64()),
            Verdict::Dead | Verdict::Gone => None,
        };
        if !delivery::mark_failed(&mut tx, claimed, told, retry).await? {
            return Ok(());
        }
        webhook::update_failing(&mut tx, endpoint).await?;
        let disabled = match verdict {
            Verdict::Gone => webhook::disable_failing(&mut tx, endpoint, 0.0, GONE).await?,
            Verdict::Dead => {
                let patience = self.patience.as_secs_f64();
                webhook::disable_failing(&mut tx, endpoint, patience, FAILED_LONG).await?
            }
            Verdict::Delivered | Verdict::Retry(_) => false,
        };
        tx.commit().await?;
        if disabled {
            tracing::warn!(endpoint, error, "a webhook was disabled");
            metrics::count_disabled();
        }
        Ok(())
    }
}

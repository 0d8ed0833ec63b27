//! Webhooks: endpoints and what they are owed. `Webhooks` is the service that `http` calls; `Deliverer` is the
//! background work that empties the outbox. The rows it delivers are written by others, in the transaction of the
//! run's state; nothing here knows of runs.

mod carrier;
mod deliverer;
mod error;
mod guard;
mod metrics;
mod resolve;
mod schedule;
mod secret;
mod send;
mod service;
mod sign;
mod slots;
mod url;

use std::time::Duration;

pub use deliverer::Deliverer;
pub use error::WebhooksError;
pub use service::{DeliveryPage, Webhooks};

/// Waits after the first, second… failed try; the first try is at once. Eight tries over about 28 hours.
pub const SCHEDULE: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(10 * 3600),
];

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Days for which a delivery that has arrived is kept, if nobody says otherwise.
pub const RETENTION_DAYS: u32 = 30;

/// How webhooks behave.
#[derive(Debug, Clone)]
pub struct WebhooksConfig {
    /// Whether endpoints on this machine's loopback may be called: only where the server is one's own, as in `dev`.
    pub allow_loopback: bool,
    /// Waits after the first, second… failed try. A delivery is dead after one try more than this has entries.
    pub schedule: Vec<Duration>,
    /// Most time of one try: name, connection, request and answer with its body.
    pub deadline: Duration,
    /// An endpoint is disabled when a delivery dies and nothing has arrived for this long.
    pub patience: Duration,
    /// How long the old secret signs as well after a rotation.
    pub overlap: Duration,
    /// Deliveries that have arrived are forgotten after this long. Dead ones stay until they are replayed.
    pub retention: Duration,
}

impl WebhooksConfig {
    /// What stands in the documents, with or without endpoints on loopback, and with deliveries kept so many days.
    #[must_use]
    pub fn new(allow_loopback: bool, retention_days: u32) -> Self {
        Self {
            allow_loopback,
            schedule: SCHEDULE.to_vec(),
            deadline: Duration::from_secs(20),
            patience: DAY * 5,
            overlap: DAY,
            retention: DAY * retention_days,
        }
    }
}

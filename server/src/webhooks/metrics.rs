//! What can be seen of webhooks from outside: how much waits, how tries go, how long an event is on its way.

use std::time::Instant;

use jiff::Timestamp;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::schedule::Outcome;
use crate::db::delivery::Depth;

pub fn describe() {
    describe_gauge!("qwex_webhook_pending", "Deliveries that are owed");
    describe_gauge!("qwex_webhook_due", "Deliveries whose time has come");
    describe_gauge!("qwex_webhook_under_way", "Tries under way in this replica");
    describe_counter!("qwex_webhook_tries_total", "Tries that ended, by outcome");
    describe_histogram!("qwex_webhook_try_seconds", Unit::Seconds, "Time of one try");
    describe_histogram!(
        "qwex_webhook_latency_seconds",
        Unit::Seconds,
        "Time from the event until an endpoint took it"
    );
    describe_counter!("qwex_webhook_dead_total", "Deliveries given up");
    describe_counter!("qwex_webhook_disabled_total", "Endpoints disabled");
}

/// Measures one try.
pub struct Timer(Instant);

impl Timer {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn stop(self, outcome: &Outcome) {
        histogram!("qwex_webhook_try_seconds").record(self.0.elapsed().as_secs_f64());
        let word = match outcome {
            Outcome::Answered {
                status: 200..=299, ..
            } => "2xx",
            Outcome::Answered {
                status: 300..=399, ..
            } => "3xx",
            Outcome::Answered {
                status: 400..=499, ..
            } => "4xx",
            Outcome::Answered { .. } => "5xx",
            Outcome::Unanswered(_) => "unanswered",
        };
        counter!("qwex_webhook_tries_total", "outcome" => word).increment(1);
    }
}

pub fn count_delivered(created_at: Timestamp) {
    let latency = Timestamp::now().duration_since(created_at).as_secs_f64();
    histogram!("qwex_webhook_latency_seconds").record(latency.max(0.0));
}

pub fn count_dead(count: u64) {
    counter!("qwex_webhook_dead_total").increment(count);
}

pub fn count_disabled() {
    counter!("qwex_webhook_disabled_total").increment(1);
}

pub fn set_depth(depth: Depth) {
    gauge!("qwex_webhook_pending").set(depth.pending as f64);
    gauge!("qwex_webhook_due").set(depth.due as f64);
}

pub fn set_under_way(count: usize) {
    gauge!("qwex_webhook_under_way").set(count as f64);
}

//! The metrics recorder of this process. Names begin with `qwex_`; times are seconds.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::TelemetryError;

/// From half a millisecond to half a minute.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Renders what was recorded.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder for the whole process.
    ///
    /// # Errors
    /// One is installed already.
    pub fn install() -> Result<Self, TelemetryError> {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .expect("the list of buckets is not empty");
        let handle = builder.install_recorder().map_err(|_| TelemetryError::Recorder)?;
        describe();
        Ok(Self { handle })
    }

    /// The text exposition format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "qwex_http_requests_total",
        "Requests answered, by route, method and status"
    );
    describe_histogram!(
        "qwex_http_request_seconds",
        Unit::Seconds,
        "Time until the head of the answer, by route and method"
    );
    describe_gauge!("qwex_http_streams", "Open event and log streams");
    describe_counter!(
        "qwex_http_rate_limited_total",
        "Requests refused by the rate limit"
    );
    describe_counter!(
        "qwex_auth_failures_total",
        "Requests without a valid token, by reason"
    );
}

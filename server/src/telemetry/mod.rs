//! Tracing and metrics: set up once by `cli`, used everywhere through the macros of `tracing` and `metrics`.

mod metrics;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogSettings};

pub use metrics::Metrics;

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter {filter:?} is not valid: {cause}")]
    Filter {
        filter: String,
        cause: tracing_subscriber::filter::ParseError,
    },
    #[error("a log subscriber is installed already")]
    Installed,
    #[error("a metrics recorder is installed already")]
    Recorder,
}

/// Sends log lines to stderr.
///
/// # Errors
/// The filter cannot be parsed, or this was called before.
pub fn init_tracing(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|cause| TelemetryError::Filter {
        filter: settings.filter.clone(),
        cause,
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let installed = match settings.format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry.with(lines.with_ansi(colour)).try_init()
        }
    };
    installed.map_err(|_| TelemetryError::Installed)
}

//! When a request is sent again, and when never.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::error::ApiError;

/// Told about each failure that is followed by another try.
pub type Notice = Box<dyn Fn(&ApiError) + Send + Sync>;

/// How patient a request is.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// A read: a few tries within a second.
    Read,
    /// Safe to repeat by its id: as long as the user said.
    Submit(Duration),
    /// Not safe to repeat: only if it surely was not heard.
    Once,
}

impl Patience {
    fn allows(self, error: &ApiError) -> bool {
        match self {
            Self::Read | Self::Submit(_) => error.is_passing(),
            Self::Once => error.was_not_sent() && error.is_passing(),
        }
    }

    fn pace(self) -> ExponentialBuilder {
        let pace = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(2))
            .with_jitter();
        match self {
            Self::Read | Self::Once => pace.with_max_times(2),
            Self::Submit(total) => pace.without_max_times().with_total_delay(Some(total)),
        }
    }
}

/// Does `attempt` until it succeeds, fails for good, or patience ends.
pub async fn persist<T, F>(
    patience: Patience,
    notice: &Notice,
    attempt: impl FnMut() -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    attempt
        .retry(patience.pace())
        .when(|error| patience.allows(error))
        .adjust(|error, pace| match (error, pace) {
            (
                ApiError::Problem {
                    retry_after: Some(wish),
                    ..
                },
                Some(pace),
            ) => Some(pace.max((*wish).min(Duration::from_secs(30)))),
            (_, pace) => pace,
        })
        .notify(|error, _| {
            // The tries of a read are over before anybody could wonder.
            if matches!(patience, Patience::Submit(_)) {
                notice(error);
            }
        })
        .await
}

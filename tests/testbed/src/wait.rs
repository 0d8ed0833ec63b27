//! Waiting for a condition with a limit. Tests and parts use this instead of sleeping for a guessed time.
//! The error always names what was awaited, so that a red test says what did not happen.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Nothing came within the limit.
#[derive(Debug, thiserror::Error)]
#[error("waited {:.1} s for {what}{}", limit.as_secs_f64(), last.as_deref().map(|last| format!("; last: {last}")).unwrap_or_default())]
pub struct TimedOut {
    /// What was awaited, in words.
    pub what: String,
    pub limit: Duration,
    /// Why the last probe said no, where it told.
    pub last: Option<String>,
}

/// Probes until `Some`. The pause between probes grows from 2 ms to 100 ms.
///
/// # Errors
/// [`TimedOut`] after `limit`; a probe that hangs is cut off there too.
pub async fn until<T, F, Fut>(limit: Duration, what: &str, mut probe: F) -> Result<T, TimedOut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    until_ok(limit, what, || {
        let next = probe();
        async { next.await.ok_or("") }
    })
    .await
}

/// Probes until `Ok`; the error of the last probe goes into the message.
///
/// # Errors
/// [`TimedOut`] after `limit`; a probe that hangs is cut off there too.
pub async fn until_ok<T, E, F, Fut>(limit: Duration, what: &str, mut probe: F) -> Result<T, TimedOut>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + limit;
    let mut last = None;
    let mut pause = Duration::from_millis(2);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error.to_string()).filter(|text| !text.is_empty()),
            Err(_) => last = Some(last.unwrap_or_else(|| "the probe did not answer".to_owned())),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TimedOut {
                what: what.to_owned(),
                limit,
                last,
            });
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_the_value_once_it_is_there() {
        let mut left = 3;
        let got = until(Duration::from_secs(5), "the third probe", || {
            left -= 1;
            let done = left == 0;
            async move { done.then_some("here") }
        });
        assert_eq!(got.await.unwrap(), "here");
    }

    #[tokio::test]
    async fn names_what_never_came() {
        let error = until_ok(Duration::from_millis(5), "the moon", || async {
            Err::<(), _>("too far")
        });
        assert_eq!(
            error.await.unwrap_err().to_string(),
            "waited 0.0 s for the moon; last: too far"
        );
    }

    #[tokio::test]
    async fn a_hanging_probe_is_cut_off() {
        let error = until(Duration::from_millis(5), "an answer", || {
            std::future::pending::<Option<()>>()
        });
        assert!(error.await.unwrap_err().to_string().contains("did not answer"));
    }
}

//! A length of time as people write it: `90s`, `1h30m`, `2 days`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A positive length of time in whole milliseconds; on the wire the friendly form (`1h 30m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, example = "1h"))]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// Why a string is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    #[error("{0:?} is not a length of time; write it like 90s, 15m, 1h30m or 2d")]
    Unreadable(String),
    #[error("a length of time must be above zero, {0:?} is not")]
    NotPositive(String),
}

impl Span {
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    #[must_use]
    pub fn as_duration(self) -> Duration {
        self.0
    }

    /// Whole seconds, rounded up: Kubernetes deadlines are whole seconds of at least one.
    #[must_use]
    pub fn as_secs_ceil(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let trimmed = text.trim();
        let days = || -> Option<SignedDuration> {
            let number = trimmed
                .trim_end_matches("days")
                .trim_end_matches("day")
                .trim_end_matches('d');
            (number.len() < trimmed.len()).then_some(())?;
            SignedDuration::from_hours(24).checked_mul(number.trim().parse::<i32>().ok()?)
        };
        let parsed: SignedDuration = match trimmed.parse() {
            Ok(duration) => duration,
            Err(_) => days().ok_or_else(|| SpanError::Unreadable(text.to_owned()))?,
        };
        match Duration::try_from(parsed) {
            Ok(duration) if !duration.is_zero() => Ok(Self(duration)),
            Ok(_) | Err(_) => Err(SpanError::NotPositive(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(duration) => write!(f, "{duration:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("1h30m", 5400),
            ("1h", 3600),
            ("2d", 172_800),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().as_secs_ceil(), seconds, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["90s", "1h30m", "1500ms", "2d"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
        }
    }

    #[test]
    fn refuses_nonsense() {
        for text in ["", "soon", "-5s", "0s", "1x", "99999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}

//! A length of time as people write it: `90s`, `1h30m`, `2 days`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A positive length of time in whole milliseconds; on the wire as people write it (`1h30m`).
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
        let unreadable = || SpanError::Unreadable(text.to_owned());
        let (days, rest) = split_days(text.trim()).ok_or_else(unreadable)?;
        let rest = match rest {
            "" if days.is_some() => SignedDuration::ZERO,
            rest => rest.parse().map_err(|_| unreadable())?,
        };
        let days = SignedDuration::from_hours(24 * i64::from(days.unwrap_or(0)));
        let sum = days.checked_add(rest).ok_or_else(unreadable)?;
        // Kept in whole milliseconds, rounded up: nobody waits less than asked.
        let millis = sum.as_nanos().div_euclid(NANOS_PER_MILLI)
            + i128::from(sum.as_nanos().rem_euclid(NANOS_PER_MILLI) > 0);
        if millis <= 0 {
            return Err(SpanError::NotPositive(text.to_owned()));
        }
        let millis = u64::try_from(millis).map_err(|_| unreadable())?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

const NANOS_PER_MILLI: i128 = 1_000_000;

/// Splits `2d 6h` into days and the rest: the reader of the rest knows hours at most. `None`: the days
/// are no number that can be used.
fn split_days(text: &str) -> Option<(Option<u32>, &str)> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - digits.len()];
    let unit = digits.trim_start();
    let word = unit.trim_start_matches(|c: char| c.is_ascii_lowercase());
    match &unit[..unit.len() - word.len()] {
        "d" | "day" | "days" => Some((Some(number.parse::<u32>().ok()?), word.trim_start())),
        _ => Some((None, text)),
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

/// Written here and not by a library: the form is on the wire and inside the hash of a spec.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 3600, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (u64::from(self.0.subsec_millis()), "ms"),
        ];
        let text: String = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, unit)| format!("{count}{unit}"))
            .collect();
        f.pad(if text.is_empty() { "0s" } else { &text })
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
            ("2 days", 172_800),
            ("1d 12h", 129_600),
            ("1d1h1s", 90_001),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().as_secs_ceil(), seconds, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for (text, written) in [
            ("90s", "1m30s"),
            ("1h30m", "1h30m"),
            ("1500ms", "1s500ms"),
            ("2d", "48h"),
            ("1ns", "1ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), written);
            assert_eq!(written.parse::<Span>().unwrap(), span, "{text}");
        }
    }

    #[test]
    fn refuses_nonsense() {
        for text in [
            "",
            "soon",
            "-5s",
            "0s",
            "0d",
            "1x",
            "d",
            "1d soon",
            "1d -2d",
            "99999999999d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}

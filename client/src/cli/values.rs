//! Values of flags that need reading: pairs and moments.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use qwex_core::Span;

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            Some(_) | None => Err("write it like KEY=VALUE".to_owned()),
        }
    }
}

/// A point in time: RFC 3339, or a length of time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    At(Timestamp),
    Ago(Span),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            format!("{text:?} is no time; write it like 2026-01-31T12:00:00Z, or 10m for ten minutes ago")
        })
    }
}

impl Moment {
    #[must_use]
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => {
                let ago = SignedDuration::try_from(span.as_duration()).unwrap_or(SignedDuration::MAX);
                now.saturating_sub(ago).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_need_a_key() {
        assert_eq!("A=b=c".parse::<Pair>().unwrap().value, "b=c");
        assert_eq!("A=".parse::<Pair>().unwrap().value, "");
        assert!("A".parse::<Pair>().is_err() && "=b".parse::<Pair>().is_err());
    }

    #[test]
    fn moments_are_times_or_ages() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let before = |text: &str| text.parse::<Moment>().unwrap().before(now).to_string();
        assert_eq!(before("10m"), "2026-01-31T11:50:00Z");
        assert_eq!(before("2026-01-01T00:00:00+01:00"), "2025-12-31T23:00:00Z");
        assert!("yesterday".parse::<Moment>().is_err());
    }
}

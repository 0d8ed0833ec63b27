//! How far another machine's clock is from ours, as one question tells it. Pure. Asked by `probe` of a backend and
//! by whoever compares with a server.

use jiff::{SignedDuration, Timestamp};

/// The other clock against ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// How much later theirs is; negative: earlier.
    pub ahead: SignedDuration,
    /// How much of it may be the way there and back, and what they did not tell.
    pub within: SignedDuration,
}

impl Skew {
    /// Of an answer that said `theirs`, asked at `before` and here at `after`: they looked at it half-way.
    #[must_use]
    pub fn of(theirs: Timestamp, before: Timestamp, after: Timestamp) -> Self {
        let within = after.duration_since(before).abs() / 2;
        let ours = before.saturating_add(within).unwrap_or(before);
        Self {
            ahead: theirs.duration_since(ours),
            within,
        }
    }

    /// The same of a clock that was told in units of `step`, cut off: on average half of one is missing.
    #[must_use]
    pub fn told_in(self, step: SignedDuration) -> Self {
        Self {
            ahead: self.ahead + step / 2,
            within: self.within + step / 2,
        }
    }

    /// Whether they differ by more than `most`, whatever the way took.
    #[must_use]
    pub fn exceeds(self, most: SignedDuration) -> bool {
        self.ahead.abs() > most + self.within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn half_of_the_way_is_taken_off() {
        let (before, after) = (at("2026-01-01T00:00:10Z"), at("2026-01-01T00:00:14Z"));
        let same = Skew::of(at("2026-01-01T00:00:12Z"), before, after);
        assert_eq!(same.ahead, SignedDuration::ZERO);
        assert_eq!(same.within, SignedDuration::from_secs(2));
        let behind = Skew::of(at("2026-01-01T00:00:02Z"), before, after);
        assert_eq!(behind.ahead, SignedDuration::from_secs(-10));
        assert!(behind.exceeds(SignedDuration::from_secs(7)));
        assert!(!behind.exceeds(SignedDuration::from_secs(8)));
    }

    #[test]
    fn whole_seconds_are_half_a_second_later_on_average() {
        let now = at("2026-01-01T00:00:10.5Z");
        let told = Skew::of(at("2026-01-01T00:00:10Z"), now, now).told_in(SignedDuration::from_secs(1));
        assert_eq!(told.ahead, SignedDuration::ZERO);
        assert_eq!(told.within, SignedDuration::from_millis(500));
    }

    #[test]
    fn a_clock_that_was_set_back_in_between_is_no_panic() {
        let skew = Skew::of(Timestamp::MAX, Timestamp::MIN, Timestamp::MAX);
        assert!(!skew.exceeds(SignedDuration::MAX - skew.within));
        assert_eq!(
            Skew::of(
                at("2026-01-01T00:00:00Z"),
                at("2026-01-01T00:00:01Z"),
                at("2026-01-01T00:00:00Z")
            )
            .within,
            SignedDuration::from_millis(500)
        );
    }
}

//! Whether a log that is read for the first time can be missing its begin: a node rotates logs, and serves what is left as
//! if it were all. Pure; called by `logs` for the first line of a reading that starts at byte 0, and for no other.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Programs are silent for so long before their first line too often for a doubt to be worth anything: what a node rotated
/// away by then, at its size (10 MiB by default) within so little time and before anybody read it, goes untold. The API tells
/// starts in whole seconds, rounded down.
const NEVER_ROTATED: SignedDuration = SignedDuration::from_secs(3);
/// How far the clocks of a node and of this machine are trusted to be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(2);
/// What a node has at hand comes soon, also from a busy one; a line that was waited for longer was written meanwhile.
const WAITED: Duration = Duration::from_secs(5);

/// How a reading came to its first line.
#[derive(Debug, Clone, Copy)]
pub(super) struct First {
    /// By the node's clock.
    pub line: Timestamp,
    /// By the node's clock; `None`: the API does not tell.
    pub container_started: Option<Timestamp>,
    /// When the first answer began, by this machine's clock, and how long after that the line came; no time where the log
    /// is not followed.
    pub opened: Timestamp,
    pub waited: Duration,
}

impl First {
    /// What must be said before the first line; `None`: the begin is there.
    pub fn doubt(&self) -> Option<String> {
        let silent = self.line.duration_since(self.container_started?);
        if silent < NEVER_ROTATED || self.was_awaited() {
            return None;
        }
        Some(format!(
            "the first line kept is {} s after the container started, and was there before its log was first read: if the \
             node rotated the log by then, what came before is missing",
            silent.as_secs()
        ))
    }

    /// Whether the log was being read already when the line was written.
    fn was_awaited(&self) -> bool {
        let arrived = self.opened + SignedDuration::try_from(self.waited).unwrap_or(SignedDuration::ZERO);
        // A line of the future tells that the two clocks cannot be compared.
        let comparable = self.line <= arrived + SKEW;
        self.waited >= WAITED || comparable && self.line >= self.opened - SKEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In milliseconds: when the container started, its first line was written and the log was opened, and how long after
    /// that the line came.
    fn doubt(started: i64, line: i64, opened: i64, waited: u64) -> Option<String> {
        let at = |millis: i64| Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap();
        let first = First {
            line: at(line),
            container_started: Some(at(started)),
            opened: at(opened),
            waited: Duration::from_millis(waited),
        };
        first.doubt()
    }

    #[test]
    fn d04_a_line_that_was_there_long_after_the_start_is_doubted() {
        let told = doubt(0, 7_400, 60_000, 5).unwrap();
        assert!(told.contains("7 s after the container started"), "{told}");
        assert!(doubt(0, 3_000, 5_100, 0).is_some());
        assert!(
            doubt(0, 7_400, 60_000, 900).is_some(),
            "a busy node takes its time for what it has at hand"
        );
    }

    #[test]
    fn the_first_lines_of_a_container_are_its_begin() {
        for line in [0, 900, 1_900, 2_999] {
            assert_eq!(doubt(0, line, 3_600_000, 0), None, "{line}");
        }
        let line = Timestamp::from_second(1_800_000_000).unwrap();
        let untold = First {
            line,
            container_started: None,
            opened: line,
            waited: Duration::ZERO,
        };
        assert_eq!(untold.doubt(), None);
    }

    #[test]
    fn who_was_there_before_the_first_line_missed_nothing() {
        assert_eq!(doubt(0, 60_000, 800, 59_200), None, "silent for long");
        assert_eq!(doubt(0, 5_000, 4_900, 110), None, "attached just before");
        assert_eq!(doubt(0, 5_000, 6_500, 0), None, "within what clocks differ");
    }

    #[test]
    fn clocks_that_differ_hide_nothing_and_invent_nothing() {
        let behind = -300_000;
        assert!(doubt(0, 20_000, 60_000 + behind, 5).is_some());
        assert_eq!(doubt(0, 20_000, 1_000 + behind, 19_000), None);
        let ahead = 300_000;
        assert!(doubt(0, 20_000, 60_000 + ahead, 5).is_some());
        assert_eq!(doubt(0, 20_000, 1_000 + ahead, 19_000), None);
    }
}

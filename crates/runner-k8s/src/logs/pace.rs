//! How far behind its log a reading is. Pure. It matters where a node rotates: who follows a log and is at its end goes on in
//! the next file with its first line, and who is late by then goes on in the newest one, whatever was between.

use jiff::{SignedDuration, Timestamp};

/// A kubelet looks at the sizes of logs every three seconds at most often, so a whole file that is skipped leaves at least
/// so much time between the lines around it.
pub(super) const SKIPPED: SignedDuration = SignedDuration::from_secs(2);
/// Who reads a line so long after it was written is late. Clocks may differ by as much.
const LATE: SignedDuration = SignedDuration::from_secs(2);

/// Of one reading.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// The least time there ever was between a line and its arrival: what the clocks differ, at most.
    least: Option<SignedDuration>,
    last: Option<SignedDuration>,
}

impl Pace {
    /// A line, by the node's clock, has arrived, by ours.
    pub fn heard(&mut self, line: Timestamp, now: Timestamp) {
        let behind = now.duration_since(line);
        self.least = Some(self.least.map_or(behind, |least| least.min(behind)));
        self.last = Some(behind);
    }

    /// Whether the last line was read late. A clock that is ahead or behind makes it late rather than in time.
    pub fn is_late(&self) -> bool {
        let Some((least, last)) = self.least.zip(self.last) else {
            return false;
        };
        last > LATE || last > least + LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds between each line and its arrival.
    fn is_late(behind: &[i64]) -> bool {
        let mut pace = Pace::default();
        for (second, behind) in behind.iter().enumerate() {
            let line = Timestamp::from_second(1_800_000_000 + second as i64).unwrap();
            pace.heard(line, line + SignedDuration::from_millis(*behind));
        }
        pace.is_late()
    }

    #[test]
    fn who_keeps_up_is_not_late_and_who_falls_behind_is() {
        assert!(!is_late(&[]));
        assert!(!is_late(&[5, 900, 40]));
        assert!(is_late(&[5, 900, 2_100]));
        assert!(is_late(&[3_600_000]), "what was written an hour ago");
    }

    #[test]
    fn a_clock_that_is_ahead_hides_nobody() {
        assert!(!is_late(&[-10_000, -9_000]));
        assert!(is_late(&[-10_000, -7_900]));
    }
}

//! How often a keeper of a run was started in vain. A keeper that cannot begin would else be started by every look, for
//! ever. Asked by `keeper` alone.

use std::time::Duration;

use jiff::Timestamp;
use qwex_runner::durable::Durability;
use qwex_runner::{Journal, StoreError};
use serde::{Deserialize, Serialize};

const FILE: &str = "keeper-starts.json";
/// Pause after the first start; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So many starts without a keeper that keeps are no bad luck any more: after about six seconds.
const ENOUGH: u32 = 5;

/// The starts since the last keeper that kept the run for a while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    count: u32,
    last: Option<Timestamp>,
}

impl Starts {
    /// Those of a run. What cannot be understood counts as none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(journal: &Journal) -> Result<Self, StoreError> {
        let bytes = journal.read_file(FILE)?.unwrap_or_default();
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Notes one more.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(self, journal: &Journal, now: Timestamp) -> Result<Self, StoreError> {
        let is_old = self
            .since(now)
            .is_none_or(|since| since > self.pause() * 2 + LONGEST_PAUSE);
        let next = Self {
            count: if is_old { 1 } else { self.count.saturating_add(1) },
            last: Some(now),
        };
        let json = serde_json::to_vec(&next).expect("numbers and times serialise");
        journal.write_file(FILE, &json, Durability::Process)?;
        Ok(next)
    }

    /// A keeper keeps the run: those before count no more.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget(journal: &Journal) -> Result<(), StoreError> {
        if Self::read(journal)? == Self::default() {
            return Ok(());
        }
        journal.write_file(FILE, b"{\"count\":0}", Durability::Process)
    }

    /// Whether the pause after the last one is over. A clock that was set back ends it.
    #[must_use]
    pub fn may_begin(self, now: Timestamp) -> bool {
        self.since(now).is_none_or(|since| since >= self.pause())
    }

    /// How many there were, if they are too many.
    #[must_use]
    pub fn too_many(self) -> Option<u32> {
        (self.count > ENOUGH).then_some(self.count)
    }

    fn pause(self) -> Duration {
        let doublings = self.count.saturating_sub(1).min(16);
        (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
    }

    fn since(self, now: Timestamp) -> Option<Duration> {
        Duration::try_from(now.duration_since(self.last?)).ok()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn after(count: u32) -> Starts {
        Starts {
            count,
            last: Some(Timestamp::UNIX_EPOCH),
        }
    }

    fn may_begin_after(count: u32, millis: i64) -> bool {
        after(count).may_begin(Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millis))
    }

    #[test]
    fn the_pause_between_starts_grows_to_a_limit() {
        assert!(Starts::default().may_begin(Timestamp::UNIX_EPOCH));
        assert!(!may_begin_after(1, 199) && may_begin_after(1, 200));
        assert!(!may_begin_after(4, 1599) && may_begin_after(4, 1600));
        assert!(!may_begin_after(900, 59_999) && may_begin_after(900, 60_000));
        assert!(may_begin_after(900, -1), "the clock was set back");
    }

    #[test]
    fn a_few_are_bad_luck() {
        assert_eq!((after(5).too_many(), after(6).too_many()), (None, Some(6)));
    }
}

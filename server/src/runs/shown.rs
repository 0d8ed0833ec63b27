//! What a listener to a list has been told: the cursor of `GET /v1/runs?watch`. Pure.
//!
//! Each read of the list happens in a snapshot of the database, and each row names the transaction that last
//! changed what rows show. A row was told if that transaction is visible in the snapshot of a read that was told to
//! its end, or as far as this row. No state is kept between connections: the cursor says it all, in any replica.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Which transactions a read has seen: Postgres' `pg_snapshot`, `xmin:xmax:running,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    first_running: u64,
    first_unassigned: u64,
    running: Vec<u64>,
}

/// This is no cursor of a watched list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of a watched list")]
pub struct BadCursor;

impl Snapshot {
    fn sees(&self, transaction: u64) -> bool {
        transaction < self.first_running
            || (transaction < self.first_unassigned && !self.running.contains(&transaction))
    }
}

impl FromStr for Snapshot {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| BadCursor);
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or(BadCursor);
        let (first_running, first_unassigned, running) = (next()?, next()?, next()?);
        let running = running.split(',').filter(|text| !text.is_empty());
        Ok(Self {
            first_running: number(first_running)?,
            first_unassigned: number(first_unassigned)?,
            running: running.map(number).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running: Vec<String> = self.running.iter().map(u64::to_string).collect();
        write!(
            f,
            "{}:{}:{}",
            self.first_running,
            self.first_unassigned,
            running.join(",")
        )
    }
}

/// One read of the list: what it saw, and the oldest run on its page. Older ones were not on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub snapshot: Snapshot,
    pub oldest: Uuid,
}

impl Reading {
    fn shows(&self, run: Uuid, changed_by: u64) -> bool {
        run >= self.oldest && self.snapshot.sees(changed_by)
    }
}

impl FromStr for Reading {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (snapshot, oldest) = text.split_once('/').ok_or(BadCursor)?;
        Ok(Self {
            snapshot: snapshot.parse()?,
            oldest: Uuid::try_parse(oldest).map_err(|_| BadCursor)?,
        })
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.snapshot, self.oldest.simple())
    }
}

/// What was told: all of one reading, and of the next one the runs up to an id (the oldest come first).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    whole: Option<Reading>,
    part: Option<(Reading, Uuid)>,
}

impl Told {
    /// Whether a row was told as it is now.
    #[must_use]
    pub fn has(&self, run: Uuid, changed_by: u64) -> bool {
        let shows = |reading: &Reading| reading.shows(run, changed_by);
        self.whole.as_ref().is_some_and(shows)
            || self
                .part
                .as_ref()
                .is_some_and(|(reading, up_to)| run <= *up_to && shows(reading))
    }

    /// What was told once `reading` is told up to `run`.
    #[must_use]
    pub fn and_part(&self, reading: &Reading, run: Uuid) -> Self {
        Self {
            whole: self.whole.clone(),
            part: Some((reading.clone(), run)),
        }
    }

    /// What was told once `reading` is told to its end.
    #[must_use]
    pub fn all_of(reading: Reading) -> Self {
        Self {
            whole: Some(reading),
            part: None,
        }
    }
}

impl FromStr for Told {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let parts: Vec<&str> = text.split(';').collect();
        let (whole, part) = match parts.as_slice() {
            [whole] => (*whole, None),
            [whole, part, up_to] => (*whole, Some((*part, *up_to))),
            _ => return Err(BadCursor),
        };
        let part = part.map(|(reading, up_to)| {
            let up_to = Uuid::try_parse(up_to).map_err(|_| BadCursor)?;
            Ok((reading.parse()?, up_to))
        });
        Ok(Self {
            whole: (!whole.is_empty()).then(|| whole.parse()).transpose()?,
            part: part.transpose()?,
        })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(whole) = &self.whole {
            write!(f, "{whole}")?;
        }
        match &self.part {
            Some((reading, up_to)) => write!(f, ";{reading};{}", up_to.simple()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(snapshot: &str, oldest: u128) -> Reading {
        Reading {
            snapshot: snapshot.parse().unwrap(),
            oldest: Uuid::from_u128(oldest),
        }
    }

    #[test]
    fn a_snapshot_sees_what_was_committed_before_it() {
        let snapshot: Snapshot = "10:20:12,15".parse().unwrap();
        for (transaction, seen) in [
            (9, true),
            (11, true),
            (12, false),
            (15, false),
            (19, true),
            (20, false),
        ] {
            assert_eq!(snapshot.sees(transaction), seen, "{transaction}");
        }
        let quiet: Snapshot = "7:7:".parse().unwrap();
        assert!(quiet.sees(6) && !quiet.sees(7));
    }

    #[test]
    fn a_reading_told_in_part_is_gone_on_with() {
        let run = Uuid::from_u128;
        let told = Told::all_of(reading("10:10:", 3));
        assert!(told.has(run(3), 9));
        assert!(!told.has(run(2), 9), "it was not on the page");
        assert!(!told.has(run(4), 10), "it changed since");
        // Runs 4 to 6 changed in transaction 11; the connection broke behind run 5.
        let told = told.and_part(&reading("12:12:", 4), run(5));
        assert!(told.has(run(4), 11) && told.has(run(5), 11) && !told.has(run(6), 11));
        assert!(!told.has(run(5), 12), "it changed again");
        assert!(told.has(run(6), 9), "told before, and not changed");
    }

    #[test]
    fn cursors_come_back_as_they_were() {
        let nothing = Told::default();
        let whole = Told::all_of(reading("10:20:12,15", 3));
        let part = whole.and_part(&reading("21:21:", 4), Uuid::from_u128(5));
        let first = nothing.and_part(&reading("21:21:", 0), Uuid::from_u128(5));
        for told in [nothing, whole, part, first] {
            assert_eq!(told.to_string().parse::<Told>(), Ok(told));
        }
        for bad in [
            "x", "1:2", "1:2:", "1:2:/zz", "1:2:x/00", ";1:1:/0", "-1:2:/00", ";;",
        ] {
            assert_eq!(bad.parse::<Told>(), Err(BadCursor), "{bad}");
        }
    }
}

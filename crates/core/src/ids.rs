//! Identities: of a run, of one try of it, of the object a backend made for it.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::{Uuid, Variant};

/// Identity of a run: a UUIDv7 minted by the client before it connects. It is the primary key, the
/// idempotency key, the stem of the object name and the key in webhooks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(try_from = "Uuid", into = "Uuid")]
pub struct RunId(Uuid);

/// Why a string or UUID is no run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunIdError {
    #[error("`{0}` is not a UUID")]
    NotUuid(String),
    #[error("`{0}` is a UUID of version {1}, a run id is a UUIDv7")]
    NotV7(Uuid, usize),
    #[error("`{0}` is not laid out as RFC 9562 says; a run id is a UUIDv7")]
    BadVariant(Uuid),
}

/// Why a run id is refused by its age. A wrong clock on either side is the usual reason: the id carries
/// the time of its minting, and the server keeps runs in tables by that time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunIdAgeError {
    #[error(
        "run id {id} was minted at {minted_at}, more than 7 days before now ({now}); mint a new id, and \
         if it is new, set the clock of the machine that made it"
    )]
    TooOld {
        id: RunId,
        minted_at: Timestamp,
        now: Timestamp,
    },
    #[error(
        "run id {id} was minted at {minted_at}, more than 1 day after now ({now}); set the clock of the \
         machine that made it, then mint a new id"
    )]
    FromTheFuture {
        id: RunId,
        minted_at: Timestamp,
        now: Timestamp,
    },
}

/// How long an id may wait for its first submit.
const OLDEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far the minting clock may be ahead.
const NEWEST: SignedDuration = SignedDuration::from_hours(24);

impl RunId {
    /// Mints an id from the wall clock and random bits.
    #[must_use]
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    #[must_use]
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// The wall clock time, to the millisecond, which the minting client wrote into the id.
    #[must_use]
    pub fn minted_at(&self) -> Timestamp {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |t| t.to_unix());
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).unwrap_or(Timestamp::MAX)
    }

    /// Checks that the id was minted within 7 days before and 1 day after `now`, both ends included.
    pub fn check_age(&self, now: Timestamp) -> Result<(), RunIdAgeError> {
        let (id, minted_at) = (*self, self.minted_at());
        let age = minted_at.duration_until(now);
        if age > OLDEST {
            return Err(RunIdAgeError::TooOld { id, minted_at, now });
        }
        if age < -NEWEST {
            return Err(RunIdAgeError::FromTheFuture { id, minted_at, now });
        }
        Ok(())
    }

    /// Name of the object that a backend makes for one attempt: `qwex-<id>-a<attempt>`.
    /// A pure function, valid as a DNS label: 53 characters at most for the attempts a spec can ask for.
    #[must_use]
    pub fn object_name(&self, attempt: Attempt) -> String {
        format!("qwex-{}-a{}", self.0, attempt.0)
    }
}

impl TryFrom<Uuid> for RunId {
    type Error = RunIdError;

    fn try_from(uuid: Uuid) -> Result<Self, RunIdError> {
        match (uuid.get_version_num(), uuid.get_variant()) {
            (7, Variant::RFC4122) => Ok(Self(uuid)),
            (7, _) => Err(RunIdError::BadVariant(uuid)),
            (other, _) => Err(RunIdError::NotV7(uuid, other)),
        }
    }
}

impl From<RunId> for Uuid {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let uuid = Uuid::try_parse(text).map_err(|_| RunIdError::NotUuid(text.to_owned()))?;
        Self::try_from(uuid)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a try of a run, from 1. A retry is a new attempt with a new object name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    pub const FIRST: Self = Self(1);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of the object a backend made for an attempt: a Job's UID, a container's id, or
/// `<boot id>/<pid>/<start ticks>` of a process. Facts about another UID never touch the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct ObjectUid(pub String);

impl fmt::Display for ObjectUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of one pod, container or process that ran for an attempt: a pod's UID, or the same
/// string as [`ObjectUid`] where object and episode are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct EpisodeId(pub String);

impl fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minted at 2026-01-01T00:00:00Z.
    const NEW_YEAR: &str = "019b76da-a800-7000-8000-000000000000";

    fn new_year() -> (RunId, Timestamp) {
        (NEW_YEAR.parse().unwrap(), "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn carries_the_time_of_its_minting() {
        let (id, time) = new_year();
        assert_eq!(id.minted_at(), time);
        let minted = RunId::mint();
        assert_eq!(minted.check_age(Timestamp::now()), Ok(()));
    }

    #[test]
    fn sorts_by_time() {
        let (old, _) = new_year();
        assert!(old < RunId::mint());
    }

    #[test]
    fn the_age_has_two_limits() {
        let (id, time) = new_year();
        let after = |seconds: i64| id.check_age(time + SignedDuration::from_secs(seconds));
        let (week, day) = (7 * 24 * 3600, 24 * 3600);
        assert_eq!(after(week), Ok(()));
        assert!(matches!(after(week + 1), Err(RunIdAgeError::TooOld { .. })));
        assert_eq!(after(-day), Ok(()));
        let ahead = after(-day - 1).unwrap_err();
        assert!(matches!(ahead, RunIdAgeError::FromTheFuture { .. }));
        assert!(ahead.to_string().contains("set the clock"), "{ahead}");
        assert!(id.check_age(Timestamp::MAX).is_err());
        assert!(id.check_age(Timestamp::MIN).is_err());
    }

    #[test]
    fn refuses_what_is_no_uuid_of_version_7() {
        for text in [
            "",
            "../x",
            "0199",
            "019b76da-a800-4000-8000-000000000000",
            "019b76da-a800-7000-c000-000000000000",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
            assert!(serde_json::from_value::<RunId>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn is_always_written_in_one_form() {
        let (id, _) = new_year();
        assert_eq!(
            NEW_YEAR.to_uppercase().parse::<RunId>().unwrap().to_string(),
            NEW_YEAR
        );
        assert_eq!(serde_json::to_value(id).unwrap(), NEW_YEAR);
    }

    #[test]
    fn object_names_are_dns_labels() {
        let (id, _) = new_year();
        assert_eq!(id.object_name(Attempt(2)), format!("qwex-{NEW_YEAR}-a2"));
        let longest = id.object_name(Attempt(u32::MAX));
        assert!(longest.len() <= 63, "{longest}");
        assert!(
            longest
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        );
    }

    #[test]
    fn attempts_do_not_wrap() {
        assert_eq!(Attempt::FIRST.next(), Attempt(2));
        assert_eq!(Attempt(u32::MAX).next(), Attempt(u32::MAX));
    }
}

//! Identities: of a run, of one try of it, of the object a backend made for it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
}

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

    /// Name of the object that a backend makes for one attempt: `qwex-<id>-a<attempt>`.
    /// A pure function, at most 52 characters, valid as a DNS label.
    #[must_use]
    pub fn object_name(&self, attempt: Attempt) -> String {
        format!("qwex-{}-a{}", self.0, attempt.0)
    }
}

impl TryFrom<Uuid> for RunId {
    type Error = RunIdError;

    fn try_from(uuid: Uuid) -> Result<Self, RunIdError> {
        match uuid.get_version_num() {
            7 => Ok(Self(uuid)),
            other => Err(RunIdError::NotV7(uuid, other)),
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

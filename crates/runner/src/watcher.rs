//! The reading half of a backend.

use async_trait::async_trait;
use futures::stream::BoxStream;
use qwex_core::{Attempt, ObjectUid, Observation, RunId};
use serde::{Deserialize, Serialize};

use crate::backend::Details;
use crate::error::RunnerError;
use crate::log::{LogItem, LogPosition, LogSource};
use crate::runner::Handle;

/// Where a watch may be resumed. Opaque; stored in the transaction of the observations it covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WatchPosition(pub String);

/// An attempt's object as a complete list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub uid: ObjectUid,
}

/// What an object on a backend that others may write to says of itself. Whether it is ours is for the
/// listener to judge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    pub object: ObjectRef,
    pub name: String,
    /// Hash of the spec that it was made from, if it bears one.
    pub spec_hash: Option<String>,
}

/// What a watch yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    Seen(Observation),
    /// An object says that it is an attempt of ours; told before anything else about it, and again after
    /// each full list. Backends where nobody else can make objects tell none.
    Claimed(Claim),
    /// A log can be read from now on (also told again after a restart).
    LogReady(LogSource),
    /// What else is known of an attempt that is over; told behind its end, and again as often as that. What was measured
    /// by a process that is gone is not in it.
    Detailed(ObjectRef, Details),
    /// A complete and consistent list: whatever of ours is not in it, is not there. Told after start
    /// and after each relist, behind the observations of the objects in it.
    Listed(Vec<ObjectRef>),
    /// Everything up to here was told.
    Position(WatchPosition),
    /// Nothing new, but the backend answers.
    Alive,
}

pub type SightingStream = BoxStream<'static, Result<Sighting, RunnerError>>;

/// Reads and yields observations. Never changes run state, never acts on a backend.
#[async_trait]
pub trait Watcher: Send + Sync {
    /// Everything of ours on this backend, from `from` on or from a full list. The stream ends with an
    /// error or when the backend closes it; the caller starts over with the last position. A closed
    /// watch proves nothing.
    async fn watch(&self, from: Option<WatchPosition>) -> Result<SightingStream, RunnerError>;

    /// One consistent read of one attempt: what can be said of it now. Yields `Gone` only where the
    /// backend proves the object absent.
    async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError>;

    /// The logs of an attempt that can be read now.
    async fn list_logs(&self, handle: &Handle) -> Result<Vec<LogSource>, RunnerError>;

    /// Reads a log from a position; with `follow` until the source ends, else what is there.
    async fn read_log(
        &self,
        source: &LogSource,
        from: LogPosition,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError>;
}

//! Rows of a run's history.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, RunId};
use crate::status::word_enum;

word_enum!(
    /// What a row of a run's history tells.
    EventKind {
        Submitted = "submitted",
        /// A cluster was chosen or none fits; `data` holds the whole reasoning.
        Placed = "placed",
        Dispatched = "dispatched",
        /// The reason of waiting changed.
        Waiting = "waiting",
        Started = "started",
        /// A queue took the run back.
        Requeued = "requeued",
        EpisodeStarted = "episode_started",
        EpisodeEnded = "episode_ended",
        DuplicateStart = "duplicate_start",
        AttemptFailed = "attempt_failed",
        CancelRequested = "cancel_requested",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
        /// A lost run turned out to have a real result.
        Corrected = "corrected",
        Unreachable = "unreachable",
        Reachable = "reachable",
        LogsSealed = "logs_sealed",
        /// The run ended elsewhere; its record and log were brought here. What is told before happened there.
        Imported = "imported",
        /// A fact that was refused and changed nothing.
        Refused = "refused",
    } Unknown
);

/// One row of a run's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunEvent {
    pub run_id: RunId,
    /// Grows by one per run, from 1.
    pub seq: i64,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    pub kind: EventKind,
    pub attempt: Attempt,
    /// A sentence for people.
    pub message: String,
    /// Details of the kind, a JSON object.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub data: serde_json::Value,
}

//! A run that is over, whole: what `PUT /v1/runs/{id}/import` takes and what `qwexctl describe -o json` prints.

use qwex_core::{Project, Run, RunEvent};
use serde::{Deserialize, Serialize};

use crate::log::LogStreamInfo;
use crate::run::AttemptInfo;

/// Content type of a [`RunRecord`] as one line of JSON with the bytes of its log behind it.
pub const RECORD_WITH_LOG: &str = "application/vnd.qwex.record";

/// Everything about a run but the bytes of its log. Those follow the line in which this stands: stream after stream in
/// the order of `log_streams`, without anything between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Where it is to be kept. Absent: the token's project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// Over, with its log summed up. Fields of a newer version are not kept.
    pub run: Run,
    /// Those that are known, by their numbers. The last one says what the run says.
    #[serde(default)]
    pub attempts: Vec<AttemptInfo>,
    /// The history, oldest first, numbered from 1 without a hole.
    pub events: Vec<RunEvent>,
    /// The streams of the log in order, each with its verdict; their lengths say how the bytes are split.
    #[serde(default)]
    pub log_streams: Vec<LogStreamInfo>,
}

//! Log lines of a run, live and archived, by one cursor.

use jiff::Timestamp;
use qwex_core::{Attempt, LogVerdict};
use serde::{Deserialize, Serialize};

/// One line of a log in `application/jsonl` and as the data of SSE events `line`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// Where to go on after this line; opaque, the same live and archived.
    pub cursor: String,
    pub attempt: Attempt,
    /// `output`, `stdout` or `stderr`.
    pub stream: String,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// The line without its newline, where it is valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The line's bytes without its newline in base64, where it is not valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// True on a part of a line that goes on in the next item (long lines, no newline yet).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Bytes are missing before the next line; this is the reason. Such an item has no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

/// One stream of a run's log (`GET /v1/runs/{id}/logs/streams`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogStreamInfo {
    pub ordinal: u32,
    pub attempt: Attempt,
    /// Pod UID or process identity.
    pub episode: String,
    pub stream: String,
    pub bytes: u64,
    pub lines: u64,
    /// Set once sealed.
    #[serde(default)]
    pub verdict: Option<LogVerdict>,
    #[serde(default)]
    pub sha256: Option<String>,
    /// Why the verdict is not `complete`.
    #[serde(default)]
    pub message: Option<String>,
}

//! What a run was made from and what it used: kept beside its result, never a reason for a state.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a run comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Provenance {
    /// Commit that was checked out where the run was submitted, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// Whether files under version control differed from that commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_dirty: Option<bool>,
    /// What the image's name meant: `sha256:…`, with the repository where the backend tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The machine or node that executed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Version of the qwex that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qwex_version: Option<String>,
    /// What the command was run through: `uv run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_by: Option<String>,
}

/// What the run's processes used, all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Milliseconds of processor time, user and system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Most resident memory in bytes: of the largest process, or of all where the backend counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<u64>,
    /// It was measured now and then while the run lasted: it used at least so much, between two looks perhaps more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sampled: bool,
}

/// Set on a run that ended elsewhere and was brought to a server as it was: that server executed nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Imported {
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// Who brought it: `token:<name>`.
    pub by: String,
}

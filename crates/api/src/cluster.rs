//! Clusters: registered, checked, drained, removed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qwex_core::{ClusterName, QueueName};
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/clusters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddCluster {
    pub name: ClusterName,
    /// The kubeconfig as YAML text. Stored sealed; one with an `exec` block is refused.
    pub kubeconfig: String,
    /// Absent: the kubeconfig's current context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Namespace in which Jobs are made. Absent: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// LocalQueue for runs that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue: Option<QueueName>,
}

/// A registered cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ClusterInfo {
    pub name: ClusterName,
    /// `k8s` or `local`.
    pub kind: String,
    pub status: ClusterStatus,
    /// Whether it answered last time.
    pub reachable: bool,
    /// Why it did not.
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub default_queue: Option<QueueName>,
    /// LocalQueues seen at the last check; empty without Kueue.
    #[serde(default)]
    pub queues: Vec<String>,
    /// Runs handed to it and not over.
    pub open_runs: i64,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub last_seen_at: Option<Timestamp>,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    pub created_by: String,
}

/// What the server does with a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClusterStatus {
    Active,
    /// Takes no new runs; those it has go on.
    Draining,
    /// Takes nothing and is not watched; kept for the history.
    Removed,
    /// A word of a newer server.
    #[serde(other)]
    Unknown,
}

impl ClusterStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Removed => "removed",
            Self::Unknown => "unknown",
        }
    }
}

/// One check of a cluster before it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ClusterCheck {
    /// `reach`, `version`, `rights`, `kueue`, `default_queue`.
    pub check: String,
    pub ok: bool,
    pub message: String,
}

/// Answer of `POST /v1/clusters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AddedCluster {
    pub cluster: ClusterInfo,
    pub checks: Vec<ClusterCheck>,
}

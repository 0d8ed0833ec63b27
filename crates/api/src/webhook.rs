//! Webhook endpoints, their deliveries, and the payload that is sent.

use jiff::Timestamp;
use qwex_core::{Project, RunId, RunName, RunStatus};
use serde::{Deserialize, Serialize};

/// What a webhook tells. The first four are of runs; `webhook.test` is sent on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum WebhookEvent {
    #[serde(rename = "run.started")]
    RunStarted,
    #[serde(rename = "run.succeeded")]
    RunSucceeded,
    #[serde(rename = "run.failed")]
    RunFailed,
    #[serde(rename = "run.cancelled")]
    RunCancelled,
    #[serde(rename = "webhook.test")]
    Test,
    /// A word of a newer server.
    #[serde(other)]
    Unknown,
}

impl WebhookEvent {
    /// The events an endpoint can subscribe to.
    pub const OF_RUNS: &'static [Self] = &[
        Self::RunStarted,
        Self::RunSucceeded,
        Self::RunFailed,
        Self::RunCancelled,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunStarted => "run.started",
            Self::RunSucceeded => "run.succeeded",
            Self::RunFailed => "run.failed",
            Self::RunCancelled => "run.cancelled",
            Self::Test => "webhook.test",
            Self::Unknown => "unknown",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::OF_RUNS
            .iter()
            .copied()
            .chain([Self::Test])
            .find(|event| event.as_str() == word)
    }
}

/// Body of `POST /v1/webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    pub url: String,
    /// Absent or empty: succeeded, failed and cancelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<WebhookEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A webhook endpoint without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WebhookInfo {
    /// `ep_…`.
    pub id: String,
    pub project: Project,
    pub url: String,
    pub events: Vec<WebhookEvent>,
    #[serde(default)]
    pub description: Option<String>,
    pub enabled: bool,
    /// Why it was disabled.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    pub created_by: String,
}

/// Answer of `POST /v1/webhooks` and of `POST /v1/webhooks/{id}/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreatedWebhook {
    /// `whsec_…` (Standard Webhooks): shown once.
    pub secret: String,
    pub webhook: WebhookInfo,
}

/// One event owed to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeliveryInfo {
    /// Also the header `webhook-id`; the same on every try and replay.
    pub id: String,
    pub webhook_id: String,
    pub event: WebhookEvent,
    #[serde(default)]
    pub run_id: Option<RunId>,
    pub status: DeliveryStatus,
    /// Tries so far.
    pub tries: i32,
    #[serde(default)]
    pub last_status: Option<i32>,
    #[serde(default)]
    pub last_error: Option<String>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub next_try_at: Option<Timestamp>,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub delivered_at: Option<Timestamp>,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    Pending,
    Delivered,
    /// Every try failed; it can be replayed.
    Dead,
    /// A word of a newer server.
    #[serde(other)]
    Unknown,
}

impl DeliveryStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

/// The body that is sent: thin, with a link to the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WebhookPayload {
    #[serde(rename = "type")]
    pub event: WebhookEvent,
    /// When the event happened.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub timestamp: Timestamp,
    pub data: WebhookData,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WebhookData {
    #[serde(default)]
    pub run_id: Option<RunId>,
    #[serde(default)]
    pub name: Option<RunName>,
    pub project: Project,
    #[serde(default)]
    pub status: Option<RunStatus>,
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Failure code, if it failed.
    #[serde(default)]
    pub failure: Option<String>,
    /// Grows per run; deliveries may arrive in any order.
    pub sequence: i64,
    /// Where the whole run can be read.
    #[serde(default)]
    pub link: Option<String>,
}

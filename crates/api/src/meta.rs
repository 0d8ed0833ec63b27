//! The server about itself and the caller.

use qwex_core::Project;
use serde::{Deserialize, Serialize};

use crate::token::Role;

/// Answer of `GET /v1/meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Meta {
    pub server_version: String,
    pub api_version: String,
    /// Oldest client version served.
    pub min_client_version: String,
    /// Whether this is `qwexcloud dev`.
    pub dev: bool,
}

/// Answer of `GET /v1/whoami`: who the token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    /// `token:<name>`.
    pub principal: String,
    pub token_id: String,
    pub project: Project,
    pub role: Role,
    /// RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
}

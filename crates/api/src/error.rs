//! RFC 9457 problem documents and the registry of error codes.

use serde::{Deserialize, Serialize};

/// The body of every error response (`application/problem+json`, RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Stable URI of the kind of problem: `https://qwex.dev/problems/<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// What is wrong, the same for every problem of this code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong with this request, and why.
    pub detail: String,
    /// Request id; also in the header `x-request-id` and in the server's log.
    pub instance: String,
    pub code: ErrorCode,
    /// One entry per bad field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
    pub code: String,
    pub detail: String,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $status:literal, $retryable:literal, $title:literal;)+) => {
        /// The registry of error codes. A code keeps its meaning for ever.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        // Not `rename = $word`: the schema's derive does not see through the macro.
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)+
            /// A code of a newer server. Never written by this one.
            #[serde(other)]
            Unknown,
        }

        impl ErrorCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ Self::Unknown => "unknown" }
            }

            /// HTTP status of a problem with this code.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ Self::Unknown => 500 }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)+ Self::Unknown => false }
            }

            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ Self::Unknown => "Unknown problem" }
            }
        }
    };
}

error_codes! {
    /// The body is not JSON of the expected shape.
    InvalidBody = "invalid_body", 400, false, "The request body cannot be read";
    /// A field or parameter has a value that is not allowed.
    InvalidField = "invalid_field", 422, false, "A field is not valid";
    InvalidParameter = "invalid_parameter", 400, false, "A query or path parameter is not valid";
    InvalidCursor = "invalid_cursor", 400, false, "The cursor or page token is not valid here";
    UnsupportedMediaType = "unsupported_media_type", 415, false, "The content type is not supported";
    BodyTooLarge = "body_too_large", 413, false, "The request body is too large";
    Unauthenticated = "unauthenticated", 401, false, "A valid token is needed";
    TokenExpired = "token_expired", 401, false, "The token has expired";
    Forbidden = "forbidden", 403, false, "The token's role does not allow this";
    /// Also for objects of projects that the token may not see.
    NotFound = "not_found", 404, false, "There is no such object";
    MethodNotAllowed = "method_not_allowed", 405, false, "The method is not allowed here";
    Ambiguous = "ambiguous", 409, false, "More than one object matches";
    /// The run id exists with another spec.
    RunIdTaken = "run_id_taken", 409, false, "This run id belongs to another run";
    AlreadyExists = "already_exists", 409, false, "An object of that name exists";
    InUse = "in_use", 409, false, "The object is in use";
    /// The first request with this Idempotency-Key is still in flight.
    IdempotencyInFlight = "idempotency_in_flight", 409, true, "The first request with this key is in flight";
    /// Same Idempotency-Key, other body.
    IdempotencyMismatch = "idempotency_mismatch", 422, false, "This idempotency key was used with another body";
    PreconditionFailed = "precondition_failed", 412, false, "The object has changed";
    /// The run is not in a state that allows this.
    WrongState = "wrong_state", 409, false, "The run's state does not allow this";
    /// A cluster was checked before it was stored and did not pass.
    ClusterCheckFailed = "cluster_check_failed", 422, false, "The cluster did not pass the checks";
    EndpointRefused = "endpoint_refused", 422, false, "This URL is not allowed as a webhook endpoint";
    LogUnavailable = "log_unavailable", 503, true, "The log cannot be read now";
    RateLimited = "rate_limited", 429, true, "Too many requests";
    Timeout = "timeout", 504, true, "The request took too long";
    /// The database or the archive is not there now; nothing was stored.
    Unavailable = "unavailable", 503, true, "The server cannot do this now";
    /// A bug or an outage; the cause is in the server's log under the request id.
    Internal = "internal", 500, true, "The server failed";
}

impl Problem {
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>, request_id: impl Into<String>) -> Self {
        Self {
            type_uri: format!("https://qwex.dev/problems/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            instance: request_id.into(),
            code,
            errors: Vec::new(),
            hint: None,
            retryable: code.retryable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_spells_each_code_as_the_registry_does() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}

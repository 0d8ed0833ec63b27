//! The one error of the HTTP layer. A handler returns it; `context` gives it the request id, logs its cause once and
//! writes the problem document. What is in `cause` never leaves the server.

use std::error::Error;

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use qwex_api::{ErrorCode, FieldProblem, Problem};

/// Why a request is refused, in the words of the registry [`ErrorCode`].
#[derive(Debug)]
pub struct HttpError {
    code: ErrorCode,
    detail: String,
    errors: Vec<FieldProblem>,
    hint: Option<String>,
    retry_after: Option<u32>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// Result of a handler.
pub type HttpResult<T> = Result<T, HttpError>;

impl HttpError {
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            hint: None,
            retry_after: None,
            cause: None,
        }
    }

    #[must_use]
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(
            ErrorCode::NotFound,
            format!("there is no {what}, or your token may not see it"),
        )
    }

    /// One bad query or path parameter.
    #[must_use]
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(ErrorCode::InvalidParameter, format!("{name}: {detail}")).with_field(
            format!("?{name}"),
            "invalid",
            detail,
        )
    }

    /// One bad field of the body; `pointer` is a JSON pointer.
    #[must_use]
    pub fn field(pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(ErrorCode::InvalidField, format!("{pointer}: {detail}")).with_field(pointer, code, detail)
    }

    /// Several bad fields of the body.
    #[must_use]
    pub fn fields(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are not valid", many.len()),
        };
        Self {
            errors,
            ..Self::new(ErrorCode::InvalidField, detail)
        }
    }

    /// The database or the archive is away; the same request may succeed soon.
    #[must_use]
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorCode::Unavailable,
            "the database does not answer; nothing was stored",
        )
        .with_hint("send the same request again after the seconds of Retry-After; `/readyz` says when the server can answer")
        .with_retry_after(2)
        .with_cause(cause)
    }

    /// A bug or an outage. The cause goes to the log, the request id to the caller.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorCode::Internal,
            "an internal error; the server's log has its cause under this request id",
        )
        .with_cause(cause)
    }

    #[must_use]
    pub fn with_field(
        mut self,
        pointer: impl Into<String>,
        code: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        self.errors.push(FieldProblem {
            pointer: pointer.into(),
            code: code.into(),
            detail: detail.into(),
        });
        self
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Seconds after which the same request may be sent again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Logs the cause, once.
    pub(super) fn log(&self) {
        let Some(cause) = &self.cause else { return };
        let chain = chain(cause.as_ref());
        if self.code == ErrorCode::Internal {
            tracing::error!(code = self.code.as_str(), cause = %chain, "request failed");
        } else {
            tracing::warn!(code = self.code.as_str(), cause = %chain, "request failed");
        }
    }

    pub(super) fn retry_after(&self) -> Option<HeaderValue> {
        self.retry_after.map(HeaderValue::from)
    }

    /// The document that leaves the server.
    pub(super) fn into_problem(self, request_id: &str) -> Problem {
        Problem {
            errors: self.errors,
            hint: self.hint,
            ..Problem::new(self.code, self.detail, request_id)
        }
    }
}

/// An error with its sources, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Rides in the extensions of a response until `context` writes it.
#[derive(Clone)]
pub(super) struct Unwritten(pub(super) std::sync::Arc<std::sync::Mutex<Option<HttpError>>>);

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        let unwritten = std::sync::Arc::new(std::sync::Mutex::new(Some(self)));
        response.extensions_mut().insert(Unwritten(unwritten));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_never_reaches_the_document() {
        let error = HttpError::internal("password=hunter2");
        let text = serde_json::to_string(&error.into_problem("r-1")).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("r-1"));
    }

    #[test]
    fn every_code_has_a_status_of_its_class() {
        for code in ErrorCode::ALL {
            let response = HttpError::new(*code, "x").into_response();
            assert_eq!(response.status().as_u16(), code.status());
            assert!(code.status() >= 400);
        }
    }
}

//! The outermost layer of every request: request id, span, metrics, access log, security headers; and the place where
//! an [`HttpError`] becomes a problem document.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use uuid::Uuid;

use super::error::{HttpError, HttpResult, Unwritten};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The id under which this request is found in the log.
#[derive(Debug, Clone)]
pub struct RequestId(String);

/// What lists and streams need of a request beside its parameters.
pub struct Asked {
    pub headers: HeaderMap,
    pub uri: Uri,
    pub request_id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> HttpResult<Self> {
        let id = parts.extensions.get::<RequestId>();
        let RequestId(request_id) = id.ok_or_else(|| HttpError::internal("a request without an id"))?;
        Ok(Self {
            headers: parts.headers.clone(),
            uri: parts.uri.clone(),
            request_id: request_id.clone(),
        })
    }
}

/// Headers of every answer. Pages of ours load nothing from elsewhere.
const SECURITY: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    ("cross-origin-resource-policy", "same-origin"),
];

pub async fn layer(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = route(&request);
    let span = tracing::info_span!("request", id = %id, method = %method, route = %route);
    async move {
        let began = Instant::now();
        let mut response = written(next.run(request).await, &id);
        let took = began.elapsed();
        let status = response.status().as_u16();
        metrics::counter!("qwex_http_requests_total", "route" => route.clone(), "method" => word(&method), "status" => status.to_string())
            .increment(1);
        metrics::histogram!("qwex_http_request_seconds", "route" => route, "method" => word(&method)).record(took);
        tracing::debug!(status, took_us = took.as_micros(), "answered");
        decorate(response.headers_mut(), &id);
        response
    }
    .instrument(span)
    .await
}

/// The id a proxy gave, if it is one we can put into a log line; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let sane = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    headers
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| sane(text))
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// The pattern of the route, never the path itself: paths have no bound in number.
fn route(request: &Request) -> String {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned())
}

/// A method as a label; made-up ones become one word.
fn word(method: &axum::http::Method) -> &'static str {
    use axum::http::Method;
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

fn decorate(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    for (name, value) in SECURITY {
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(HeaderValue::from_static(value));
    }
}

/// Writes the problem document of a response that carries an error.
fn written(mut response: Response, id: &str) -> Response {
    let Some(Unwritten(cell)) = response.extensions_mut().remove::<Unwritten>() else {
        return response;
    };
    let taken = cell.lock().ok().and_then(|mut cell| cell.take());
    let error = taken.unwrap_or_else(|| HttpError::internal("an error was written twice"));
    error.log();
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"qwex\""),
        );
    }
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
    let problem = error.into_problem(id);
    let json = serde_json::to_vec(&problem).expect("strings and numbers serialise");
    response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(json);
    response
}

/// What a panic of a handler becomes: a 500 like any other, with the panic in the log.
pub fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    use axum::response::IntoResponse;
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned());
    HttpError::internal(format!("panic: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_sane_request_id_is_kept() {
        assert_eq!(given("ci-42.attempt_3"), "ci-42.attempt_3");
    }

    #[test]
    fn a_hostile_request_id_is_replaced() {
        let long = "a".repeat(65);
        for text in ["", "a b", "x\u{e4}", "id=1,admin", &long] {
            let id = given(text);
            assert_ne!(id, text);
            assert_eq!(id.len(), 32, "{id}");
        }
    }
}

//! Idempotency of every POST but submit: a request with an `Idempotency-Key` is carried out once; a repeat gets the
//! kept answer, marked `idempotent-replayed: true`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use qwex_api::ErrorCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::Instrument as _;

use super::access::Caller;
use super::error::{HttpError, HttpResult, Unwritten};
use super::{App, body};
use crate::answers::{Claim, KeyedRequest};

pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const LONGEST_KEY: usize = 255;

/// Routes whose service keeps the key itself.
const OWN: &[&str] = &["/v1/runs", "/v1/runs/{id}/rerun"];

/// Marks an answer that holds a secret: it is shown once and never kept.
#[derive(Clone, Copy)]
struct Secret;

/// An answer that holds a secret: stored by nobody on its way.
pub fn secret(made: impl Serialize) -> Response {
    let mut response = ([(CACHE_CONTROL, "no-store")], axum::Json(made)).into_response();
    response.extensions_mut().insert(Secret);
    response
}

/// The `Idempotency-Key` of a request, checked.
pub fn key(headers: &HeaderMap) -> HttpResult<Option<String>> {
    let Some(value) = headers.get(KEY) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let printable = bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
    if bytes.is_empty() || bytes.len() > LONGEST_KEY || !printable {
        let detail = format!("an Idempotency-Key is 1 to {LONGEST_KEY} printable ASCII characters");
        return Err(HttpError::new(ErrorCode::InvalidParameter, detail));
    }
    Ok(Some(bytes.iter().copied().map(char::from).collect()))
}

pub async fn layer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match keyed(&app, request).await {
        Ok(Asked::Plain(request)) => next.run(request).await,
        Ok(Asked::Answered(response)) => response,
        Ok(Asked::First(request, keyed)) => carry_out(app, request, keyed, next).await,
        Err(error) => error.into_response(),
    }
}

enum Asked {
    /// Without a key.
    Plain(Request),
    /// With a key that stands for an answer.
    Answered(Response),
    /// With a key that is now taken for it.
    First(Request, KeyedRequest),
}

async fn keyed(app: &App, request: Request) -> HttpResult<Asked> {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let caller = request.extensions().get::<Caller>().cloned();
    let (Some(route), Some(Caller(caller)), true) = (route, caller, *request.method() == Method::POST) else {
        return Ok(Asked::Plain(request));
    };
    let Some(key) = key(request.headers())? else {
        return Ok(Asked::Plain(request));
    };
    if OWN.contains(&route.as_str()) {
        return Ok(Asked::Plain(request));
    }
    let (parts, body) = request.into_parts();
    let bytes = body::read(Request::from_parts(parts.clone(), body)).await?;
    let hash = Sha256::new()
        .chain_update(parts.uri.path())
        .chain_update([0])
        .chain_update(&bytes)
        .finalize();
    let keyed = KeyedRequest {
        project: caller.project.to_string(),
        principal: caller.token_id.clone(),
        route: format!("POST {route}"),
        key,
        hash: hash.to_vec(),
    };
    let claim = app.answers.claim(&keyed).await.map_err(HttpError::unavailable)?;
    Ok(match claim {
        Claim::New => Asked::First(Request::from_parts(parts, Body::from(bytes)), keyed),
        Claim::Answered { status, response } => Asked::Answered(replay(status, &response)?),
        Claim::Secret => Asked::Answered(already_shown().into_response()),
        Claim::InFlight => Asked::Answered(in_flight().into_response()),
        Claim::Mismatch => Asked::Answered(mismatch().into_response()),
    })
}

fn already_shown() -> HttpError {
    HttpError::new(
        ErrorCode::AlreadyExists,
        "this request was carried out before, and its answer held a secret that is shown once",
    )
    .with_hint("if the secret was lost: revoke or rotate it, and make a new one under a new key")
}

fn in_flight() -> HttpError {
    HttpError::new(
        ErrorCode::IdempotencyInFlight,
        "the first request with this Idempotency-Key is still being carried out",
    )
    .with_retry_after(1)
}

fn mismatch() -> HttpError {
    HttpError::new(
        ErrorCode::IdempotencyMismatch,
        "this Idempotency-Key was used with another body or object",
    )
    .with_hint("use a new key for a new request")
}

/// Carried out in a task of its own: a caller that goes away leaves no key taken for ever.
async fn carry_out(app: Arc<App>, request: Request, keyed: KeyedRequest, next: Next) -> Response {
    let work = async move {
        let response = next.run(request).await;
        keep(&app, &keyed, response).await
    };
    let done = tokio::spawn(work.in_current_span()).await;
    done.unwrap_or_else(|error| HttpError::internal(error).into_response())
}

/// Keeps what changed something; a refusal may be asked again under the same key.
async fn keep(app: &App, keyed: &KeyedRequest, response: Response) -> Response {
    if response.extensions().get::<Unwritten>().is_some() || !response.status().is_success() {
        note(app.answers.release(keyed).await);
        return response;
    }
    let status = response.status().as_u16();
    if response.extensions().get::<Secret>().is_some() {
        note(app.answers.keep(keyed, status, None).await);
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return HttpError::internal(error).into_response(),
    };
    let answer = Answer::of(&parts.headers, &bytes);
    let json = serde_json::to_vec(&answer).expect("strings serialise");
    note(app.answers.keep(keyed, status, Some(&json)).await);
    Response::from_parts(parts, Body::from(bytes))
}

/// The work is done: that its answer is not kept is told in the log, not to the caller.
fn note<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the answer of a keyed request was not kept");
    }
}

/// A kept answer.
#[derive(Serialize, Deserialize)]
struct Answer {
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn of(headers: &HeaderMap, body: &Bytes) -> Self {
        let kept = [CONTENT_TYPE, LOCATION, ETAG];
        let pairs = kept.iter().filter_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        Self {
            headers: pairs.collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }
}

fn replay(status: u16, kept: &[u8]) -> HttpResult<Response> {
    let answer: Answer = serde_json::from_slice(kept).map_err(HttpError::internal)?;
    let status = StatusCode::from_u16(status).map_err(HttpError::internal)?;
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &[u8]) -> HttpResult<Option<String>> {
        let mut headers = HeaderMap::new();
        headers.insert(KEY, HeaderValue::from_bytes(value).unwrap());
        key(&headers)
    }

    #[test]
    fn a02_a_key_has_a_fixed_grammar() {
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
        assert_eq!(read(b"ci 42/a").unwrap().as_deref(), Some("ci 42/a"));
        assert!(read(&[b'k'; 255]).is_ok());
        for bad in [&b""[..], &[b'k'; 256], "schlüssel".as_bytes(), b"a\tb"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-request-id", HeaderValue::from_static("not kept"));
        let json = serde_json::to_vec(&Answer::of(&headers, &Bytes::from_static(b"{}"))).unwrap();
        let response = replay(202, &json).unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[REPLAYED], "true");
        assert!(response.headers().get("x-request-id").is_none());
    }
}

//! Submitting a run, and reading it back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use qwex_api::Problem;
use qwex_api::run::SubmitRequest;
use qwex_core::{Run, RunId, Span};
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::access::Caller;
use super::super::body::Json;
use super::super::error::{HttpError, HttpResult};
use super::super::params::{Path, Query, optional};
use super::super::{App, kept};
use super::version;
use crate::auth::Principal;
use crate::runs::Submission;

/// The longest wait of one request.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Submits a run and returns at once.
///
/// The client may mint the id (UUIDv7): a repeat with the same id and spec is the same run (200), with another spec it
/// is refused (409). Without an id, `Idempotency-Key` makes a repeat harmless.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", security(("token" = ["submitter"])), request_body = SubmitRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable characters; kept for a day")),
    responses(
        (status = 201, description = "recorded", body = Run, headers(("Location" = String, description = "The run"))),
        (status = 200, description = "the same run was there", body = Run),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    headers: HeaderMap,
    Json(request): Json<SubmitRequest>,
) -> HttpResult<Response> {
    record(&app, &who, &headers, request).await
}

/// Submits a run under an id that the client minted. Repeats are harmless.
#[utoipa::path(put, path = "/v1/runs/{id}", tag = "runs", security(("token" = ["submitter"])), request_body = SubmitRequest,
    params(("id" = RunId, Path, description = "UUIDv7 of the run"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable characters; the id alone does the same")),
    responses(
        (status = 201, description = "recorded", body = Run, headers(("Location" = String, description = "The run"))),
        (status = 200, description = "the same run was there", body = Run),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn put(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
    headers: HeaderMap,
    Json(mut request): Json<SubmitRequest>,
) -> HttpResult<Response> {
    if request.id.is_some_and(|other| other != id) {
        return Err(HttpError::field(
            "/id",
            "invalid",
            "the id in the body is not the id in the path",
        ));
    }
    request.id = Some(id);
    record(&app, &who, &headers, request).await
}

async fn record(
    app: &App,
    who: &Principal,
    headers: &HeaderMap,
    request: SubmitRequest,
) -> HttpResult<Response> {
    let key = kept::key(headers)?;
    let submission = app.runs.submit(who, request, key).await?;
    Ok(submitted(submission))
}

/// The answer to a submit or a rerun.
pub fn submitted(submission: Submission) -> Response {
    let status = if submission.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let location = format!("/v1/runs/{}", submission.run.id);
    let mut response = (status, [(LOCATION, location)], axum::Json(submission.run)).into_response();
    if submission.replayed {
        response
            .headers_mut()
            .insert(kept::REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetParams {
    /// Answers once the run is over, at the latest after this time (at most 5m)
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>, example = "30s")]
    wait: Option<Span>,
}

/// One run.
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "runs", security(("token" = ["viewer"])),
    params(("id" = RunId, Path, description = "UUIDv7 of the run"), GetParams,
        ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has")),
    responses(
        (status = 200, body = Run, headers(("ETag" = String, description = "Version of the run"))),
        (status = 304, description = "the caller has this version"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
    Query(params): Query<GetParams>,
    headers: HeaderMap,
) -> HttpResult<Response> {
    let scope = who.scope();
    let stored = match params.wait {
        None => app.runs.get(&scope, id).await?,
        Some(span) => {
            let limit = span.as_duration().min(LONGEST_WAIT);
            tokio::select! {
                waited = app.runs.wait(&scope, id, limit) => waited?,
                // A server that leaves answers with what is known; the client asks the next replica.
                () = app.drain.closing() => app.runs.get(&scope, id).await?,
            }
        }
    };
    let tag = [(ETAG, version::etag(stored.version))];
    if version::unchanged(&headers, stored.version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, axum::Json(stored.run)).into_response())
}

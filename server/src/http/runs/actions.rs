//! Cancelling a run, and running it again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use qwex_api::Problem;
use qwex_api::run::RerunRequest;
use qwex_core::{Run, RunId};

use super::super::access::Caller;
use super::super::body::Json;
use super::super::error::HttpResult;
use super::super::params::Path;
use super::super::{App, kept};
use super::submit::submitted;
use super::version;

/// Asks a run to stop. Again, or after its end, it changes nothing and answers the same.
#[utoipa::path(post, path = "/v1/runs/{id}/cancel", tag = "runs", security(("token" = ["submitter"])),
    params(("id" = RunId, Path, description = "UUIDv7 of the run"),
        ("If-Match" = Option<String>, Header, description = "ETag that the run must have"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same answer")),
    responses(
        (status = 202, description = "asked; the run as it is now", body = Run),
        (status = 412, description = "the run has changed", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
    headers: HeaderMap,
) -> HttpResult<Response> {
    let wanted = version::wanted(&headers)?;
    let stored = app.runs.cancel(&who, id, wanted).await?;
    let tag = [(ETAG, version::etag(stored.version))];
    Ok((StatusCode::ACCEPTED, tag, axum::Json(stored.run)).into_response())
}

/// Submits the recorded spec again, as a new run.
#[utoipa::path(post, path = "/v1/runs/{id}/rerun", tag = "runs", security(("token" = ["submitter"])), request_body = RerunRequest,
    params(("id" = RunId, Path, description = "UUIDv7 of the run to be repeated"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same new run")),
    responses(
        (status = 201, description = "recorded", body = Run, headers(("Location" = String, description = "The new run"))),
        (status = 200, description = "the same new run was there", body = Run),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn rerun(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
    headers: HeaderMap,
    Json(request): Json<RerunRequest>,
) -> HttpResult<Response> {
    let key = kept::key(&headers)?;
    let submission = app.runs.rerun(&who, id, request, key).await?;
    Ok(submitted(submission))
}

//! What happened to a run, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use qwex_api::run::{AttemptInfo, Why};
use qwex_api::{ErrorCode, Page, Problem};
use qwex_core::{RunEvent, RunId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::access::Caller;
use super::super::context::Asked;
use super::super::error::{HttpError, HttpResult};
use super::super::page::{self, Pager};
use super::super::params::{Path, Query};
use super::super::{App, stream};
use super::watch;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// Only events with a larger `seq`
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Most items of the page
    #[param(minimum = 1, maximum = 500)]
    page_size: Option<u32>,
    /// `next_page_token` of the page before
    page_token: Option<String>,
}

/// The history of a run, oldest first; with `Accept: text/event-stream` live until its end.
///
/// The stream has one event a row (`event:` its kind, `id:` its seq), goes on after `Last-Event-ID`, and ends with
/// `event: end`.
#[utoipa::path(get, path = "/v1/runs/{id}/events", tag = "runs", security(("token" = ["viewer"])),
    params(("id" = RunId, Path, description = "UUIDv7 of the run"), EventParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` that was seen")),
    responses(
        (status = 200, content((Page<RunEvent> = "application/json"), (String = "text/event-stream")),
            headers(("Link" = String, description = "The next page"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn events(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
    Query(params): Query<EventParams>,
    asked: Asked,
) -> HttpResult<Response> {
    let scope = who.scope();
    let size = page::size(params.page_size)?;
    if stream::accepts(&asked.headers, "text/event-stream") {
        let after = match stream::last_event_id(&asked.headers) {
            Some(seen) => seq(seen)?,
            None => params.after.unwrap_or(0),
        };
        // The first look is here, so that a missing run is a 404 and not a broken stream.
        app.runs.get(&scope, id).await?;
        let history = watch::history(app.clone(), scope, id, after);
        return Ok(stream::events(app, who, asked.request_id, history, None));
    }
    let pager = Pager::new(&("events", id));
    let after = match &params.page_token {
        Some(token) => seq(&pager.position(token)?)?,
        None => params.after.unwrap_or(0),
    };
    let mut items = app.runs.events(&scope, id, after, i64::from(size) + 1).await?;
    let more = items.len() > size as usize;
    items.truncate(size as usize);
    let next_page_token = items
        .last()
        .filter(|_| more)
        .map(|last| pager.token(&last.seq.to_string()));
    Ok(page::answer(
        Page {
            items,
            next_page_token,
        },
        &asked.uri,
    ))
}

fn seq(text: &str) -> HttpResult<i64> {
    text.parse()
        .map_err(|_| HttpError::new(ErrorCode::InvalidCursor, "this is no cursor of a run's events"))
}

/// Attempts of a run, with every pod or process that ran for them.
#[utoipa::path(get, path = "/v1/runs/{id}/attempts", tag = "runs", security(("token" = ["viewer"])),
    params(("id" = RunId, Path, description = "UUIDv7 of the run")), responses(
    (status = 200, body = Page<AttemptInfo>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub async fn attempts(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
) -> HttpResult<Json<Page<AttemptInfo>>> {
    Ok(page::whole(app.runs.attempts(&who.scope(), id).await?))
}

/// Why a run waits, failed, or ran where it ran.
#[utoipa::path(get, path = "/v1/runs/{id}/why", tag = "runs", security(("token" = ["viewer"])),
    params(("id" = RunId, Path, description = "UUIDv7 of the run")), responses(
    (status = 200, body = Why),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
pub async fn why(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
) -> HttpResult<Json<Why>> {
    Ok(Json(app.runs.why(&who.scope(), id).await?))
}

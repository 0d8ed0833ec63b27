//! The log of a run: raw, as JSON lines, or as events; live and archived by the same cursor.

use std::sync::Arc;

use async_stream::try_stream;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use qwex_api::log::{LogLine, LogStreamInfo};
use qwex_api::run::StreamEnd;
use qwex_api::{ErrorCode, Page, Problem};
use qwex_core::{Attempt, RunId, Span};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Caller;
use super::context::Asked;
use super::error::{HttpError, HttpResult};
use super::params::{Path, Query, flag, optional};
use super::{App, page, stream};
use crate::auth::Scope;
use crate::logs::{Cursor, LineSplitter, LogPiece, ReadOptions};

const STREAMS: &[&str] = &["output", "stdout", "stderr"];

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(read))
        .routes(routes!(streams))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogParams {
    /// Where to go on: the `cursor` of a line, or the `id:` of an event
    #[serde(default, deserialize_with = "optional")]
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// Goes on until the log is complete
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<String>, example = "")]
    follow: bool,
    /// Begins at the last so many lines
    #[param(minimum = 0)]
    tail: Option<u64>,
    /// Only lines from then on: RFC 3339, or a time ago like `10m`
    since: Option<String>,
    /// Only lines before then: RFC 3339, or a time ago like `10m`
    until: Option<String>,
    /// Only this attempt
    #[param(minimum = 1)]
    attempt: Option<u32>,
    /// `output`, `stdout` or `stderr`
    stream: Option<String>,
}

impl LogParams {
    fn options(&self, headers: &HeaderMap) -> HttpResult<ReadOptions> {
        let seen = stream::last_event_id(headers).map(str::parse).transpose();
        let seen = seen
            .map_err(|error| HttpError::new(ErrorCode::InvalidCursor, format!("Last-Event-ID: {error}")))?;
        if let Some(name) = &self.stream
            && !STREAMS.contains(&name.as_str())
        {
            return Err(HttpError::parameter(
                "stream",
                format!("{name:?} is none of {}", STREAMS.join(", ")),
            ));
        }
        if self.attempt == Some(0) {
            return Err(HttpError::parameter("attempt", "attempts are counted from 1"));
        }
        Ok(ReadOptions {
            cursor: seen.or(self.cursor),
            follow: self.follow,
            tail: self.tail,
            attempt: self.attempt.map(Attempt),
            stream: self.stream.clone(),
            since: self
                .since
                .as_deref()
                .map(|text| instant("since", text))
                .transpose()?,
            until: self
                .until
                .as_deref()
                .map(|text| instant("until", text))
                .transpose()?,
        })
    }
}

/// A point in time, or how long ago it was.
fn instant(name: &str, text: &str) -> HttpResult<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = text
        .parse::<Span>()
        .ok()
        .and_then(|span| Timestamp::now().checked_sub(span.as_duration()).ok());
    ago.ok_or_else(|| {
        HttpError::parameter(
            name,
            format!("{text:?} is neither RFC 3339 nor a time ago like 10m"),
        )
    })
}

/// The log of a run.
///
/// `text/plain` (the default) is the raw bytes, exactly as they were written; `application/jsonl` is one `LogLine` a
/// line; `text/event-stream` is `event: line` with a `LogLine` each, `id:` its cursor, and `event: end` with the run at
/// the end. A cursor is the same live, archived, and across the switch; `Last-Event-ID` goes on behind it. A transfer
/// that is cut was not complete.
#[utoipa::path(get, path = "/v1/runs/{id}/logs", tag = "logs", security(("token" = ["viewer"])),
    params(("id" = RunId, Path, description = "UUIDv7 of the run"), LogParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id:` that was seen")),
    responses(
        (status = 200, content((String = "text/plain"), (LogLine = "application/jsonl"), (String = "text/event-stream"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn read(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
    Query(params): Query<LogParams>,
    asked: Asked,
) -> HttpResult<Response> {
    let options = params.options(&asked.headers)?;
    let scope = who.scope();
    // The right to see the log is the right to see the run.
    app.runs.get(&scope, id).await?;
    let pieces = pieces(&app, id, &options).await?;
    if stream::accepts(&asked.headers, "text/event-stream") {
        let events = events(app.clone(), scope, id, LineSplitter::new(&options), pieces);
        return Ok(stream::events(app, who, asked.request_id, events, None));
    }
    if stream::accepts(&asked.headers, "application/jsonl")
        || stream::accepts(&asked.headers, "application/x-ndjson")
    {
        let lines = lines(LineSplitter::new(&options), pieces).map_ok(|line| json(&line));
        return Ok(stream::bytes(app, who, "application/jsonl", lines));
    }
    let plain = "text/plain; charset=utf-8";
    if options.since.is_some() || options.until.is_some() {
        let lines = lines(LineSplitter::new(&options), pieces).map_ok(|line| raw(&line));
        return Ok(stream::bytes(app, who, plain, lines));
    }
    Ok(stream::bytes(app, who, plain, pieces.map_ok(|piece| piece.bytes)))
}

/// The pieces of a log. The first one of a log that is not followed is read here, so that an archive that is away is
/// an error with a status and not a cut transfer.
async fn pieces(
    app: &App,
    id: RunId,
    options: &ReadOptions,
) -> HttpResult<impl Stream<Item = HttpResult<LogPiece>> + Send + 'static> {
    let mut pieces = app.logs.read(id, options.clone()).map_err(HttpError::from);
    let first = if options.follow {
        None
    } else {
        pieces.try_next().await?
    };
    Ok(futures::stream::iter(first.map(Ok)).chain(pieces))
}

fn lines(
    mut splitter: LineSplitter,
    pieces: impl Stream<Item = HttpResult<LogPiece>> + Send + 'static,
) -> impl Stream<Item = HttpResult<LogLine>> + Send + 'static {
    try_stream! {
        let mut pieces = std::pin::pin!(pieces);
        while let Some(piece) = pieces.try_next().await? {
            for line in splitter.push(&piece) {
                yield line;
            }
        }
        if let Some(line) = splitter.rest() {
            yield line;
        }
    }
}

fn events(
    app: Arc<App>,
    scope: Scope,
    id: RunId,
    splitter: LineSplitter,
    pieces: impl Stream<Item = HttpResult<LogPiece>> + Send + 'static,
) -> impl Stream<Item = HttpResult<Event>> + Send + 'static {
    try_stream! {
        let mut lines = std::pin::pin!(lines(splitter, pieces));
        while let Some(line) = lines.try_next().await? {
            yield stream::data("line", &line).id(line.cursor);
        }
        let run = app.runs.get(&scope, id).await.map_err(HttpError::from)?.run;
        yield stream::data("end", &StreamEnd { run });
    }
}

fn json(line: &LogLine) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("wire types serialise");
    text.push(b'\n');
    text.into()
}

/// The bytes of a line as they were written.
fn raw(line: &LogLine) -> Bytes {
    let mut bytes = match (&line.text, &line.base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(base64)) => STANDARD.decode(base64).unwrap_or_default(),
        (None, None) => return Bytes::new(),
    };
    if !line.partial {
        bytes.push(b'\n');
    }
    bytes.into()
}

/// The streams of a log, with byte counts, checksums and verdicts.
#[utoipa::path(get, path = "/v1/runs/{id}/logs/streams", tag = "logs", security(("token" = ["viewer"])),
    params(("id" = RunId, Path, description = "UUIDv7 of the run")), responses(
    (status = 200, body = Page<LogStreamInfo>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn streams(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(RunId,)>,
) -> HttpResult<axum::Json<Page<LogStreamInfo>>> {
    app.runs.get(&who.scope(), id).await?;
    let streams = app.logs.list_streams(id).await.map_err(|error| {
        if error.is_passing() {
            HttpError::unavailable(error)
        } else {
            HttpError::internal(error)
        }
    })?;
    Ok(page::whole(streams))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_absolute_or_ago() {
        assert_eq!(
            instant("since", "2026-01-01T00:00:00Z").unwrap().to_string(),
            "2026-01-01T00:00:00Z"
        );
        assert!(instant("since", "10m").unwrap() < Timestamp::now());
        assert!(instant("since", "yesterday").is_err());
    }

    #[test]
    fn a_line_becomes_its_bytes_again() {
        let line = |text: Option<&str>, base64: Option<&str>, partial| LogLine {
            cursor: String::new(),
            attempt: Attempt::FIRST,
            stream: "output".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            text: text.map(str::to_owned),
            base64: base64.map(str::to_owned),
            partial,
            gap: None,
        };
        assert_eq!(raw(&line(Some("a"), None, false)), "a\n");
        assert_eq!(raw(&line(Some("a"), None, true)), "a");
        assert_eq!(raw(&line(None, Some("/w=="), false)), &b"\xff\n"[..]);
        assert_eq!(raw(&line(None, None, false)), "");
    }
}

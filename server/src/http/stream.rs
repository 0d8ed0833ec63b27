//! Answers that stay open: guarded against a token that is revoked meanwhile and a server that leaves.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header::ACCEPT};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, pin_mut};

use super::App;
use super::access;
use super::error::{HttpError, HttpResult};
use crate::auth::{AuthError, Principal};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// A revoked token loses its streams within a second: this, plus what `auth` remembers it for.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// What a client waits before it connects again when the server leaves.
const RECONNECT: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One thing that happens to an open answer.
enum Guarded<T> {
    Item(T),
    /// It cannot go on.
    Failed(HttpError),
    /// The server leaves.
    Leaving,
}

/// Counts an open stream for as long as it lives.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!("qwex_http_streams").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("qwex_http_streams").decrement(1.0);
    }
}

fn guarded<T: Send>(
    app: Arc<App>,
    who: Arc<Principal>,
    items: impl Stream<Item = HttpResult<T>> + Send,
) -> impl Stream<Item = Guarded<T>> + Send {
    stream! {
        let _open = Open::new();
        pin_mut!(items);
        let mut checks = tokio::time::interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = app.drain.closing() => {
                    yield Guarded::Leaving;
                    break;
                }
                _ = checks.tick() => match app.auth.still_valid(&who).await {
                    // A database that is away says nothing about the token.
                    Ok(()) | Err(AuthError::Db(_)) => {}
                    Err(refused @ (AuthError::Malformed | AuthError::Unknown | AuthError::Expired { .. })) => {
                        yield Guarded::Failed(access::refuse(&refused));
                        break;
                    }
                },
                item = items.next() => match item {
                    Some(Ok(item)) => yield Guarded::Item(item),
                    Some(Err(error)) => {
                        yield Guarded::Failed(error);
                        break;
                    }
                    None => break,
                },
            }
        }
    }
}

/// Server-sent events. An error becomes `event: error` with a problem document, after which the stream is over. When
/// the server leaves, `end` is told where the stream has no end of its own; else only a comment, since what it is
/// about goes on.
pub fn events(
    app: Arc<App>,
    who: Arc<Principal>,
    request_id: String,
    items: impl Stream<Item = HttpResult<Event>> + Send + 'static,
    mut end: Option<Event>,
) -> Response {
    let guarded = guarded(app, who, items);
    let events = guarded.map(move |step| {
        Ok::<_, Infallible>(match step {
            Guarded::Item(event) => event,
            Guarded::Failed(error) => {
                error.log();
                data("error", &error.into_problem(&request_id))
            }
            Guarded::Leaving => {
                let last = end.take().unwrap_or_default();
                last.retry(RECONNECT).comment("the server leaves")
            }
        })
    });
    let alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    let mut response = Sse::new(events).keep_alive(alive).into_response();
    unbuffered(response.headers_mut());
    response
}

/// An event whose data is `value` as JSON.
pub fn data(name: &str, value: &impl serde::Serialize) -> Event {
    let json = serde_json::to_string(value).expect("wire types serialise");
    Event::default().event(name).data(json)
}

/// Raw bytes. An error or a leaving server breaks the transfer, so that nobody takes a part for the whole.
pub fn bytes(
    app: Arc<App>,
    who: Arc<Principal>,
    content_type: &'static str,
    items: impl Stream<Item = HttpResult<Bytes>> + Send + 'static,
) -> Response {
    let parts = guarded(app, who, items).map(|step| match step {
        Guarded::Item(bytes) => Ok(bytes),
        Guarded::Failed(error) => {
            error.log();
            Err(std::io::Error::other("the stream failed"))
        }
        Guarded::Leaving => Err(std::io::Error::other("the server leaves")),
    });
    let mut response = Body::from_stream(parts).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    unbuffered(headers);
    response
}

/// Asks proxies to pass every part on at once.
fn unbuffered(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
}

/// Whether the caller prefers `media` among what it accepts.
pub fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let texts = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| {
        part.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case(media)
    })
}

/// The last id that a client saw before it connected again.
pub fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(LAST_EVENT_ID)?
        .to_str()
        .ok()
        .filter(|id| !id.is_empty())
}

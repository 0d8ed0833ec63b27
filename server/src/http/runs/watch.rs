//! Watching a list and the history of a run. A hint says that something may have changed; what is sent is always read
//! again from SQL.

use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use axum::http::HeaderMap;
use axum::response::sse::Event;
use futures::Stream;
use qwex_api::ErrorCode;
use qwex_api::run::StreamEnd;
use qwex_core::{RunEvent, RunId};

use super::super::App;
use super::super::error::{HttpError, HttpResult};
use super::super::page::Pager;
use super::super::stream::{self, data};
use crate::auth::Scope;
use crate::runs::{BadCursor, RunQuery, Told};

const LIST_EVERY: Duration = Duration::from_secs(1);
/// A lost hint is made good within this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const EVENTS_AT_ONCE: i64 = 200;

/// Where a watched list begins: after what an earlier connection was told.
pub fn resume(pager: &Pager, headers: &HeaderMap) -> HttpResult<Told> {
    let Some(seen) = stream::last_event_id(headers) else {
        return Ok(Told::default());
    };
    let bad = || {
        HttpError::new(
            ErrorCode::InvalidCursor,
            "Last-Event-ID is no cursor of this list",
        )
        .with_hint("send the id of the last event, with the same filters; or none, to begin anew")
    };
    let told = pager.position(seen).map_err(|_| bad())?;
    told.parse().map_err(|BadCursor| bad())
}

/// The first page of a list, and each of its rows again when it changes, from what was told on.
pub fn rows(
    app: Arc<App>,
    scope: Scope,
    query: RunQuery,
    (pager, mut told): (Pager, Told),
) -> impl Stream<Item = HttpResult<Event>> + Send {
    try_stream! {
        let mut ticks = tokio::time::interval(LIST_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let news = app.runs.news(&scope, &query, &told).await.map_err(HttpError::from)?;
            for (row, then) in news {
                yield data("run", &row).id(pager.token(&then.to_string()));
                told = then;
            }
        }
    }
}

/// Events of a run after `after`, until its end.
pub fn history(
    app: Arc<App>,
    scope: Scope,
    id: RunId,
    after: i64,
) -> impl Stream<Item = HttpResult<Event>> + Send {
    try_stream! {
        let mut changed = app.runs.subscribe(id);
        let mut after = after;
        loop {
            // Read before the events: what came with the end is among them.
            let stored = app.runs.get(&scope, id).await.map_err(HttpError::from)?;
            // Most looks find nothing new: they cost one row.
            while after < stored.event_seq {
                let events = app.runs.events(&scope, id, after, EVENTS_AT_ONCE).await.map_err(HttpError::from)?;
                if events.is_empty() {
                    break;
                }
                for event in events {
                    after = event.seq;
                    yield told(&event);
                }
            }
            let run = stored.run;
            if run.status.is_terminal() {
                yield data("end", &StreamEnd { run });
                break;
            }
            // A hint or a second, whichever comes first.
            let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
        }
    }
}

fn told(event: &RunEvent) -> Event {
    data(event.kind.as_str(), event).id(event.seq.to_string())
}

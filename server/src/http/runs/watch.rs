//! Watching a list and the history of a run. A hint says that something may have changed; what is sent is always read
//! again from SQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use axum::response::sse::Event;
use futures::Stream;
use qwex_api::run::{RunRow, StreamEnd};
use qwex_core::{RunEvent, RunId};

use super::super::App;
use super::super::error::{HttpError, HttpResult};
use super::super::stream::data;
use crate::auth::Scope;
use crate::runs::RunQuery;

const LIST_EVERY: Duration = Duration::from_secs(1);
/// A lost hint is made good within this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const EVENTS_AT_ONCE: i64 = 200;

/// The first page of a list, and each of its rows again when it changes.
pub fn rows(app: Arc<App>, scope: Scope, query: RunQuery) -> impl Stream<Item = HttpResult<Event>> + Send {
    try_stream! {
        let mut sent: HashMap<RunId, RunRow> = HashMap::new();
        let mut ticks = tokio::time::interval(LIST_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let page = app.runs.list(&scope, &query).await.map_err(HttpError::from)?;
            let mut now = HashMap::with_capacity(page.runs.len());
            // Oldest first, so that the newest ends on top.
            for row in page.runs.into_iter().rev() {
                if sent.get(&row.id) != Some(&row) {
                    yield data("run", &row);
                }
                now.insert(row.id, row);
            }
            sent = now;
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

//! Streams that outlive their connection: a cut, a restart of the server or a closed lid is followed by a resume from
//! the last cursor, without a hole and without a repeat.

use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use qwex_core::RunId;
use tokio::time::Instant;

use super::client::{
    EventQuery, EventStream, EventsItem, JobApiClient, LogQuery, LogStream, LogsItem, Result,
};
use super::retry::Notice;

/// How long a stream waits for a server that is away.
pub struct FollowPatience {
    /// Since the last sign of life.
    pub limit: Duration,
    /// Told when a connection was lost and is tried again.
    pub notice: Notice,
}

/// Follows a log to its end, over any number of connections.
pub fn follow_log(
    client: Arc<dyn JobApiClient>,
    id: RunId,
    query: LogQuery,
    patience: FollowPatience,
) -> LogStream {
    let follow = query.follow;
    let open = move |cursor: Option<String>| {
        let (client, mut query) = (client.clone(), query.clone());
        if cursor.is_some() {
            // The tail was counted when the stream began; from here the cursor says where to go on.
            query.tail = None;
            query.cursor = cursor;
        }
        async move { client.stream_log(id, &query).await }.boxed()
    };
    let mark = |item: &LogsItem| match item {
        LogsItem::Line(line) => Mark::At(line.cursor.clone()),
        LogsItem::End(_) => Mark::End,
    };
    resume(open, mark, follow, patience)
}

/// Follows a run's events to its end, over any number of connections.
pub fn follow_events(
    client: Arc<dyn JobApiClient>,
    id: RunId,
    query: EventQuery,
    patience: FollowPatience,
) -> EventStream {
    let open = move |after: Option<i64>| {
        let client = client.clone();
        let query = EventQuery {
            after: after.or(query.after),
        };
        async move { client.stream_events(id, query).await }.boxed()
    };
    let mark = |item: &EventsItem| match item {
        EventsItem::Event(event) => Mark::At(event.value.seq),
        EventsItem::End(_) => Mark::End,
    };
    resume(open, mark, true, patience)
}

/// Where a stream can go on after an item.
enum Mark<M> {
    At(M),
    End,
}

/// Opens again from the last mark until the end was told. Without `until_end` a stream that closes in order is whole.
fn resume<T, M>(
    open: impl Fn(Option<M>) -> BoxFuture<'static, Result<BoxStream<'static, Result<T>>>> + Send + 'static,
    mark: impl Fn(&T) -> Mark<M> + Send + 'static,
    until_end: bool,
    patience: FollowPatience,
) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    M: Clone + Send + 'static,
{
    let stream = try_stream! {
        let mut at: Option<M> = None;
        let mut pauses = pace().build();
        let mut alive = Instant::now();
        loop {
            let lost = match open(at.clone()).await {
                Ok(mut items) => loop {
                    match items.next().await {
                        Some(Ok(item)) => {
                            (alive, pauses) = (Instant::now(), pace().build());
                            let ended = match mark(&item) {
                                Mark::At(place) => { at = Some(place); false }
                                Mark::End => true,
                            };
                            yield item;
                            if ended { return; }
                        }
                        Some(Err(error)) => break Some(error),
                        None if until_end => break None,
                        None => return,
                    }
                },
                Err(error) => Some(error),
            };
            if let Some(error) = lost {
                if !error.is_passing() || alive.elapsed() > patience.limit {
                    Err(error)?;
                } else {
                    (patience.notice)(&error);
                }
            }
            let pause = pauses.next().unwrap_or(SLOWEST);
            tokio::time::sleep(pause).await;
        }
    };
    stream.boxed()
}

const SLOWEST: Duration = Duration::from_secs(5);

fn pace() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(SLOWEST)
        .with_jitter()
        .without_max_times()
}

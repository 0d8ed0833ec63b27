//! Server-sent events of a response as typed items.

use async_stream::try_stream;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use qwex_api::run::StreamEnd;
use qwex_core::Run;
use reqwest::Response;

use super::client::Result;
use super::error::ApiError;
use super::send::chain;
use super::sse::{Event, Parser};

/// Reads each event with `read`; `None` is an event that this version does not know. `event: error` is the server's word
/// that the stream cannot go on: an error like the answer to any request.
pub fn items<T: Send + 'static>(
    server: &str,
    response: Response,
    read: impl Fn(&Event) -> std::result::Result<Option<T>, serde_json::Error> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let (server, status) = (server.to_owned(), response.status().as_u16());
    let stream = try_stream! {
        let events = events(server.clone(), response);
        futures::pin_mut!(events);
        while let Some(event) = events.next().await {
            let event = event?;
            let unknown = |error: serde_json::Error| ApiError::Foreign {
                server: server.clone(),
                status,
                message: format!("an event of the stream has not the expected shape: {error}"),
            };
            if event.kind == "error" {
                let problem = serde_json::from_str(&event.data).map_err(unknown)?;
                Err(ApiError::Problem { problem, retry_after: None })?;
            }
            if let Some(item) = read(&event).map_err(unknown)? {
                yield item;
            }
        }
    };
    stream.boxed()
}

fn events(server: String, response: Response) -> impl Stream<Item = Result<Event>> {
    try_stream! {
        let mut parser = Parser::default();
        let mut bytes = response.bytes_stream();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|error| broken_off(&server, &error))?;
            for event in parser.feed(&chunk) {
                yield event;
            }
        }
    }
}

/// The last event of every stream.
pub fn read_end(event: &Event) -> std::result::Result<Run, serde_json::Error> {
    serde_json::from_str::<StreamEnd>(&event.data).map(|end| end.run)
}

/// A body that ended before its end.
pub fn broken_off(server: &str, error: &reqwest::Error) -> ApiError {
    ApiError::Cut {
        server: server.to_owned(),
        message: chain(error),
    }
}

//! One resource's watch: opened again each time the API server closes it in due time, ended by
//! anything else.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use qwex_runner::RunnerError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use crate::decode::{Meta, Object};
use crate::rest::{ApiStatus, CallError, Refusal, Rest, target};

/// Most bytes of one event: etcd holds no object beyond 1.5 MiB by default, 10 MiB at most.
const LINE_CAP: usize = 16 * 1024 * 1024;
/// A watch that is closed earlier than this much before its time was cut.
const CLOSE_SLACK: Duration = Duration::from_secs(5);

/// What is watched and how.
#[derive(Clone)]
pub(crate) struct Watch {
    pub path: String,
    pub selector: String,
    pub timeout: Duration,
}

/// A change, or a sign of life with the position behind it.
#[derive(Debug)]
pub(crate) enum Event<T> {
    Put(T),
    Deleted(T),
    Bookmark,
    /// The watch was opened: the API server answers.
    Open,
}

/// An event and the resource version behind it.
pub(crate) type Versioned<T> = (Event<T>, String);

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Line<T> {
    #[serde(rename = "type")]
    kind: String,
    object: T,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AnyObject {
    metadata: Meta,
}

/// Follows from a resource version on. Ends with an error; the position of the last event stays good.
pub(crate) fn follow<T>(
    rest: Rest,
    watch: Watch,
    from: String,
) -> impl Stream<Item = Result<Versioned<T>, RunnerError>> + Send
where
    T: DeserializeOwned + Object + Send + 'static,
{
    async_stream::try_stream! {
        let mut version = from;
        loop {
            let opened = Instant::now();
            let mut bytes = open(&rest, &watch, &version).await?;
            yield (Event::Open, version.clone());
            let mut buffer = BytesMut::new();
            while let Some(read) = next(&watch, &mut bytes).await? {
                buffer.extend_from_slice(&read);
                while let Some(line) = take_line(&mut buffer) {
                    if let Some(event) = decode::<T>(&line)? {
                        version.clone_from(&event.1);
                        yield event;
                    }
                }
                oversized(&watch, &buffer)?;
            }
            cut_early(&watch, opened.elapsed())?;
        }
    }
}

async fn open(
    rest: &Rest,
    watch: &Watch,
    version: &str,
) -> Result<impl Stream<Item = Result<Bytes, CallError>> + Send + Unpin + use<>, RunnerError> {
    let seconds = watch.timeout.as_secs().max(1).to_string();
    let mut query = vec![
        ("watch", "1"),
        ("allowWatchBookmarks", "true"),
        ("timeoutSeconds", seconds.as_str()),
        ("resourceVersion", version),
    ];
    if !watch.selector.is_empty() {
        query.push(("labelSelector", watch.selector.as_str()));
    }
    Ok(rest.open(&target(&watch.path, &query)).await?)
}

/// The next bytes; silence of twice the watch's time means that the line is dead though TCP holds.
async fn next(
    watch: &Watch,
    bytes: &mut (impl Stream<Item = Result<Bytes, CallError>> + Send + Unpin),
) -> Result<Option<Bytes>, RunnerError> {
    let patience = watch.timeout * 2;
    match timeout(patience, bytes.next()).await {
        Ok(read) => Ok(read.transpose()?),
        Err(_) => Err(RunnerError::Unreachable {
            message: format!(
                "the watch of {} was silent for {}s, not even a bookmark came",
                watch.path,
                patience.as_secs()
            ),
        }),
    }
}

fn cut_early(watch: &Watch, lasted: Duration) -> Result<(), RunnerError> {
    if lasted + CLOSE_SLACK.min(watch.timeout / 2) >= watch.timeout {
        return Ok(());
    }
    Err(RunnerError::Unreachable {
        message: format!(
            "the watch of {} was cut after {:.1}s",
            watch.path,
            lasted.as_secs_f32()
        ),
    })
}

fn oversized(watch: &Watch, buffer: &BytesMut) -> Result<(), RunnerError> {
    if buffer.len() <= LINE_CAP {
        return Ok(());
    }
    Err(RunnerError::Failed {
        message: format!("an event of {} is larger than {LINE_CAP} bytes", watch.path),
    })
}

fn take_line(buffer: &mut BytesMut) -> Option<BytesMut> {
    let end = buffer.iter().position(|byte| *byte == b'\n')?;
    let line = buffer.split_to(end);
    buffer.advance(1);
    Some(line)
}

/// `None` for an object that cannot be read: it is logged and skipped, others flow.
fn decode<T: DeserializeOwned + Object>(line: &[u8]) -> Result<Option<Versioned<T>>, RunnerError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let (kind, object) = match serde_json::from_slice::<Line<T>>(line) {
        Ok(line) => (line.kind, Some(line.object)),
        Err(error) => (odd(line, &error)?, None),
    };
    if kind == "ERROR" {
        return Err(watch_error(line));
    }
    let Some(object) = object else { return Ok(None) };
    let version = object.meta().resource_version.clone();
    Ok(match kind.as_str() {
        "ADDED" | "MODIFIED" => Some((Event::Put(object), version)),
        "DELETED" => Some((Event::Deleted(object), version)),
        "BOOKMARK" => Some((Event::Bookmark, version)),
        other => {
            tracing::warn!(kind = other, "skipped a watch event of an unknown kind");
            None
        }
    })
}

/// The kind of an event whose object cannot be read.
fn odd(line: &[u8], error: &serde_json::Error) -> Result<String, RunnerError> {
    let read: Line<AnyObject> = match serde_json::from_slice(line) {
        Ok(read) => read,
        Err(_) => serde_json::from_slice::<Line<serde::de::IgnoredAny>>(line)
            .map(|line| Line {
                kind: line.kind,
                object: AnyObject::default(),
            })
            .map_err(|error| RunnerError::Failed {
                message: format!("what the watch sends is no event: {error}"),
            })?,
    };
    let Meta { namespace, name, .. } = read.object.metadata;
    if read.kind != "ERROR" {
        tracing::warn!(%namespace, %name, %error, "skipped a watched object that cannot be read");
    }
    Ok(read.kind)
}

fn watch_error(line: &[u8]) -> RunnerError {
    match serde_json::from_slice::<Line<ApiStatus>>(line) {
        Ok(line) => CallError::Refused(Refusal::from(line.object)).into(),
        Err(error) => RunnerError::Failed {
            message: format!("the watch failed: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::PodView;

    fn read(line: &str) -> Result<Option<Versioned<PodView>>, RunnerError> {
        decode(line.as_bytes())
    }

    #[test]
    fn c01_an_expired_version_is_a_gone_position() {
        let line = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old resource version: 1 (7)","reason":"Expired","code":410}}"#;
        let error = read(line).unwrap_err();
        let message = "too old resource version: 1 (7)".to_owned();
        assert_eq!(error, RunnerError::PositionGone { message });
    }

    #[test]
    fn c07_an_odd_object_is_skipped() {
        let odd = r#"{"type":"ADDED","object":{"metadata":{"name":"a"},"status":{"phase":["no"]}}}"#;
        assert!(read(odd).unwrap().is_none());
        let odder = r#"{"type":"ADDED","object":{"metadata":3}}"#;
        assert!(read(odder).unwrap().is_none());
        assert!(read("<html>").is_err());
    }

    #[test]
    fn reads_events() {
        let line = r#"{"type":"DELETED","object":{"metadata":{"uid":"u","resourceVersion":"8"}}}"#;
        let (event, version) = read(line).unwrap().unwrap();
        assert!(matches!(event, Event::Deleted(pod) if pod.metadata.uid == "u"));
        assert_eq!(version, "8");
        let line = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9","creationTimestamp":null}}}"#;
        assert!(matches!(read(line).unwrap(), Some((Event::Bookmark, version)) if version == "9"));
    }
}

//! A body that is too large to be held: one line of JSON, then raw bytes as they come. Bounded by what it announces, by
//! the length of its line, and by silence.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use qwex_api::ErrorCode;
use qwex_api::record::RECORD_WITH_LOG;

use super::error::{HttpError, HttpResult};
use crate::runs::MOST_LOG_BYTES;

/// Most bytes of the line of JSON.
const LINE: usize = 4 * 1024 * 1024;
/// A body that brings nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// What is left of a refused body is read as far as this, so that its sender gets to read the refusal.
const REST: u64 = 64 * 1024 * 1024;
const REST_TIME: Duration = Duration::from_secs(10);

/// The body of a request, read piece by piece.
pub struct Upload {
    body: BodyDataStream,
    /// Came with the line and lies behind it.
    behind: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = HttpError;

    async fn from_request(request: Request, _: &S) -> HttpResult<Self> {
        check_type(request.headers())?;
        check_length(request.headers())?;
        Ok(Self {
            body: Body::into_data_stream(request.into_body()),
            behind: Bytes::new(),
        })
    }
}

impl Upload {
    /// The line that the body begins with, without its end; all of the body if it has no end of a line.
    ///
    /// # Errors
    /// It is too long, or does not come.
    pub async fn line(&mut self) -> HttpResult<Bytes> {
        let mut line = BytesMut::new();
        loop {
            let Some(mut bytes) = self.next().await? else {
                return Ok(line.freeze());
            };
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = bytes.split_to(end.unwrap_or(bytes.len()));
            if line.len() + part.len() > LINE {
                let detail = format!("the record may have {LINE} bytes at most");
                return Err(HttpError::new(ErrorCode::BodyTooLarge, detail)
                    .with_hint("a run with a history as long as that cannot be brought here"));
            }
            line.extend_from_slice(&part);
            if end.is_some() {
                self.behind = bytes.split_off(1);
                return Ok(line.freeze());
            }
        }
    }

    /// The bytes that are left, as they come.
    pub fn rest(&mut self) -> impl Stream<Item = HttpResult<Bytes>> + Send + Unpin {
        Box::pin(futures::stream::unfold(self, |upload| async move {
            let item = upload.next().await.transpose()?;
            Some((item, upload))
        }))
    }

    /// As [`pass_over`], of what is left.
    pub async fn pass_over(self) {
        pass_over(self.body).await;
    }

    async fn next(&mut self) -> HttpResult<Option<Bytes>> {
        if !self.behind.is_empty() {
            return Ok(Some(std::mem::take(&mut self.behind)));
        }
        match tokio::time::timeout(SILENCE, self.body.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => Err(HttpError::new(
                ErrorCode::InvalidBody,
                "the request body ended before its announced end; nothing was recorded",
            )
            .with_hint("send it again as a whole")
            .with_cause(error)),
            Err(_) => Err(HttpError::new(
                ErrorCode::InvalidBody,
                "nothing of the request body came for 30 seconds; nothing was recorded",
            )),
        }
    }
}

/// Reads a body that nobody wants a little while: its sender may not listen before it has sent.
pub async fn pass_over(mut body: BodyDataStream) {
    let reading = async {
        let mut passed = 0;
        while passed < REST {
            match body.next().await {
                Some(Ok(bytes)) => passed += bytes.len() as u64,
                Some(Err(_)) | None => break,
            }
        }
    };
    // Who still sends then does not listen.
    let _ = tokio::time::timeout(REST_TIME, reading).await;
}

fn check_length(headers: &HeaderMap) -> HttpResult<()> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let most = MOST_LOG_BYTES + LINE as u64;
    if announced.is_some_and(|length| length > most) {
        return Err(HttpError::new(
            ErrorCode::BodyTooLarge,
            format!("a record with its log may have {most} bytes at most"),
        ));
    }
    Ok(())
}

/// A record alone is JSON; with a log behind it, it is not.
fn check_type(headers: &HeaderMap) -> HttpResult<()> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let known = [RECORD_WITH_LOG, "application/json", "application/octet-stream"];
    if known.contains(&essence) {
        return Ok(());
    }
    let detail = format!("the content type {essence:?} is not supported");
    Err(
        HttpError::new(ErrorCode::UnsupportedMediaType, detail).with_hint(format!(
            "send {RECORD_WITH_LOG}: a line of JSON, then the bytes of the log"
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    async fn upload(parts: Vec<&'static str>) -> Upload {
        let body = Body::from_stream(futures::stream::iter(
            parts.into_iter().map(Ok::<_, std::io::Error>),
        ));
        let request = Request::builder().body(body).unwrap();
        Upload::from_request(request, &()).await.ok().unwrap()
    }

    async fn read(parts: Vec<&'static str>) -> (Bytes, Vec<u8>) {
        let mut upload = upload(parts).await;
        let line = upload.line().await.ok().unwrap();
        let rest: Vec<Bytes> = upload.rest().try_collect().await.ok().unwrap();
        (line, rest.concat())
    }

    #[tokio::test]
    async fn a_line_is_cut_from_what_follows_wherever_the_pieces_end() {
        assert_eq!(
            read(vec!["{}\nlog\n", "more"]).await,
            ("{}".into(), b"log\nmore".to_vec())
        );
        assert_eq!(
            read(vec!["{", "}", "\n", "log"]).await,
            ("{}".into(), b"log".to_vec())
        );
        assert_eq!(read(vec!["{}", "\n"]).await, ("{}".into(), Vec::new()));
        assert_eq!(read(vec!["{}"]).await, ("{}".into(), Vec::new()));
    }

    #[tokio::test]
    async fn f05_a_line_without_end_is_refused_before_it_is_parsed() {
        let part: &'static str = Box::leak("x".repeat(LINE / 2 + 1).into_boxed_str());
        let refused = upload(vec![part, part]).await.line().await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::BodyTooLarge);
    }

    #[tokio::test]
    async fn f05_an_announced_length_beyond_the_limit_is_refused_unread() {
        for (length, refused) in [("17", false), ("99999999999999", true)] {
            let request = Request::builder()
                .header(CONTENT_LENGTH, length)
                .body(Body::empty())
                .unwrap();
            assert_eq!(
                Upload::from_request(request, &()).await.is_err(),
                refused,
                "{length}"
            );
        }
    }
}

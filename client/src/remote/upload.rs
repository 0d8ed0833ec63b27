//! A body that is sent as it is read: the record of a run as one line of JSON, then the bytes of its log.

use bytes::Bytes;
use futures::StreamExt;
use qwex_api::record::{RECORD_WITH_LOG, RunRecord};
use reqwest::{Body, StatusCode};
use serde::de::DeserializeOwned;

use super::answer::Answer;
use super::client::LogUpload;
use super::error::ApiError;
use super::http::HttpJobApiClient;
use super::retry::{Patience, persist};
use super::send::Call;

/// What is sent, anew on each try.
pub struct Upload {
    line: Bytes,
    log: LogUpload,
    length: u64,
}

impl Upload {
    pub fn new(record: &RunRecord, log: LogUpload) -> Self {
        let mut line = serde_json::to_vec(record).expect("wire types serialise");
        line.push(b'\n');
        let log_bytes: u64 = record.log_streams.iter().map(|stream| stream.bytes).sum();
        Self {
            length: line.len() as u64 + log_bytes,
            line: line.into(),
            log,
        }
    }

    fn body(&self) -> Body {
        let line = futures::stream::iter([Ok(self.line.clone())]);
        Body::wrap_stream(line.chain((self.log)()))
    }
}

impl HttpJobApiClient {
    /// Sends a body as often as the user is patient.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        call: &Call,
        upload: &Upload,
    ) -> Result<(StatusCode, Answer<T>), ApiError> {
        let kind = (RECORD_WITH_LOG, upload.length);
        let (status, body) = persist(Patience::Submit(self.retry_for), &self.notice, || async {
            let response = self.sender.upload(call, kind, upload.body()).await?;
            let status = response.status();
            let body = response.bytes().await;
            body.map(|body| (status, body))
                .map_err(|error| self.sender.broken(&error))
        })
        .await?;
        let answer = Answer::read(&body).map_err(|error| self.unknown(status, &error))?;
        Ok((status, answer))
    }
}

//! A plain HTTP client of the API for tests: one token, JSON in and out, nothing hidden.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_core::Run;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Asks as one token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    pub base: String,
    pub token: String,
    http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub bytes: bytes::Bytes,
}

impl Reply {
    /// The body as JSON; `null` where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// Refuses any other status than `wanted`, showing the body.
    ///
    /// # Errors
    /// Another status.
    pub fn expect(self, wanted: u16) -> Result<Self> {
        let body = String::from_utf8_lossy(&self.bytes);
        ensure!(
            self.status.as_u16() == wanted,
            "wanted {wanted}, got {}: {body}",
            self.status
        );
        Ok(self)
    }
}

impl Api {
    #[must_use]
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(90))
            .no_proxy()
            .build()
            .expect("a client without special settings can be made");
        Self {
            base: base.into(),
            token: token.into(),
            http,
        }
    }

    /// The same server, asked as another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self {
            token: token.into(),
            ..self.clone()
        }
    }

    /// # Errors
    /// The server gives no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.context("no answer")?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.context("the answer was cut")?;
        Ok(Reply {
            status,
            headers,
            bytes,
        })
    }

    /// # Errors
    /// The server gives no answer.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, None, &[]).await
    }

    /// # Errors
    /// The server gives no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    /// PUTs bytes of a type of their own.
    ///
    /// # Errors
    /// The server gives no answer.
    pub async fn put_bytes(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<Reply> {
        let request = self
            .http
            .put(format!("{}{path}", self.base))
            .bearer_auth(&self.token)
            .header("content-type", kind)
            .body(body);
        let response = request.send().await.context("no answer")?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.context("the answer was cut")?;
        Ok(Reply {
            status,
            headers,
            bytes,
        })
    }

    /// Submits a run that must be accepted.
    ///
    /// # Errors
    /// It is not.
    pub async fn submit(&self, body: &Value) -> Result<Run> {
        let reply = self.post("/v1/runs", body).await?.expect(201)?;
        serde_json::from_slice(&reply.bytes).context("no run in the answer")
    }

    /// # Errors
    /// The run cannot be read.
    pub async fn run(&self, id: impl std::fmt::Display) -> Result<Run> {
        let reply = self.get(&format!("/v1/runs/{id}")).await?.expect(200)?;
        serde_json::from_slice(&reply.bytes).context("no run in the answer")
    }

    /// Waits until a run is as wanted; the error shows it as it is, with its history.
    ///
    /// # Errors
    /// It does not become so in time.
    pub async fn until(
        &self,
        id: impl std::fmt::Display,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Run) -> bool,
    ) -> Result<Run> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let run = self.run(&id).await;
            match run {
                Ok(run) if wanted(&run) => return Ok(run),
                Ok(_) | Err(_) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(run) => {
                    let events = self
                        .get(&format!("/v1/runs/{id}/events"))
                        .await
                        .map(|reply| reply.json());
                    anyhow::bail!("run {id} did not become {what}: {run:#?}\n{events:#?}");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until a run is over and its log is sealed.
    ///
    /// # Errors
    /// It is not, in time.
    pub async fn until_sealed(&self, id: impl std::fmt::Display, limit: Duration) -> Result<Run> {
        self.until(id, limit, "over with its log sealed", |run| {
            run.status.is_terminal() && run.logs.is_some()
        })
        .await
    }

    /// The items of the first page of a list.
    ///
    /// # Errors
    /// It cannot be read, or is no list.
    pub async fn items(&self, path: &str) -> Result<Vec<Value>> {
        let listed = self.get(path).await?.expect(200)?.json();
        listed["items"].as_array().cloned().context("no items")
    }

    /// The kinds of a run's events, oldest first.
    ///
    /// # Errors
    /// As [`Api::items`].
    pub async fn event_kinds(&self, id: impl std::fmt::Display) -> Result<Vec<String>> {
        let events = self.items(&format!("/v1/runs/{id}/events")).await?;
        let kinds = events.iter().filter_map(|event| event["kind"].as_str());
        Ok(kinds.map(str::to_owned).collect())
    }

    /// The raw bytes of a run's log.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn log(&self, id: impl std::fmt::Display) -> Result<bytes::Bytes> {
        Ok(self.get(&format!("/v1/runs/{id}/logs")).await?.expect(200)?.bytes)
    }
}

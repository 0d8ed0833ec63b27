//! One request and its answer: address, token, time limits, problem documents. Every call of [`super::http`] goes
//! through here.

use std::sync::OnceLock;
use std::time::Duration;

use qwex_api::Problem;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};

use super::error::ApiError;

/// Longest time to make a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest silence on an open connection; the server sends a heartbeat every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// Longest time for a whole answer that is no stream.
pub const WHOLE: Duration = Duration::from_secs(30);
/// Largest part of a foreign answer that is shown.
const SHOWN: usize = 200;

/// A request before it is sent; cheap to send again.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Vec<u8>>,
    /// Sent as `Idempotency-Key`, the same on every try.
    pub key: Option<String>,
    pub accept: &'static str,
    /// `None` for streams: only silence ends them.
    pub limit: Option<Duration>,
}

impl Call {
    pub fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            query: Vec::new(),
            body: None,
            key: None,
            accept: "application/json",
            limit: Some(WHOLE),
        }
    }

    pub fn stream(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self.limit = None;
        self
    }

    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }
}

/// A connection pool to one server.
pub struct Sender {
    client: reqwest::Client,
    /// For bodies that take their time: the server says nothing meanwhile, and only a dead connection ends it.
    uploads: OnceLock<reqwest::Client>,
    base: Url,
    /// Marked sensitive, so that no debug output shows it.
    token: Option<HeaderValue>,
    pub server: String,
}

impl Sender {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The address or the token cannot be used, or this machine has no CA certificates.
    pub fn new(server: &str, token: Option<&SecretString>) -> Result<Self, ApiError> {
        let base = address(server)?;
        let client = client(&base, Some(SILENCE))?;
        let token = token.map(|token| bearer(server, token)).transpose()?;
        let server = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self {
            client,
            uploads: OnceLock::new(),
            base,
            token,
            server,
        })
    }

    /// Sends a call and gives its answer if it is a good one.
    ///
    /// # Errors
    /// No answer, a problem document, or something that is not qwexcloud.
    pub async fn send(&self, call: &Call) -> Result<Response, ApiError> {
        let mut request = self.request(&self.client, call);
        if let Some(limit) = call.limit {
            request = request.timeout(limit);
        }
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        self.answered(request).await
    }

    /// Sends a call with a body of `length` bytes of type `kind`, as long as it takes.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn upload(
        &self,
        call: &Call,
        (kind, length): (&'static str, u64),
        body: Body,
    ) -> Result<Response, ApiError> {
        let uploads = match self.uploads.get() {
            Some(uploads) => uploads,
            None => {
                let made = client(&self.base, None)?;
                self.uploads.get_or_init(|| made)
            }
        };
        let request = self
            .request(uploads, call)
            .header(CONTENT_TYPE, kind)
            .header(CONTENT_LENGTH, length);
        self.answered(request.body(body)).await
    }

    fn request(&self, client: &reqwest::Client, call: &Call) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http address has a path")
            .pop_if_empty()
            .push("v1")
            .extend(&call.path);
        let mut request = client
            .request(call.method.clone(), url)
            .header(ACCEPT, call.accept);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        request
    }

    async fn answered(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// What a failed exchange means.
    pub fn broken(&self, error: &reqwest::Error) -> ApiError {
        let (server, message) = (self.server.clone(), chain(error));
        if error.is_connect() && message.contains("certificate") {
            ApiError::Untrusted { server, message }
        } else if error.is_connect() {
            ApiError::Unreachable { server, message }
        } else {
            ApiError::Cut { server, message }
        }
    }

    pub fn foreign(&self, status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError::Foreign {
            server: self.server.clone(),
            status: status.as_u16(),
            message: message.into(),
        }
    }

    async fn refusal(&self, response: Response) -> ApiError {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let place = response
            .headers()
            .get(reqwest::header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        if let (true, Some(place)) = (status.is_redirection(), place) {
            return self.foreign(
                status,
                format!("it points to {place}: use that address if it is right"),
            );
        }
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return self.broken(&error),
        };
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ApiError::Problem {
                problem: Box::new(problem),
                retry_after,
            },
            Err(_) => self.foreign(status, beginning(&body)),
        }
    }
}

/// `silence`: how long the server may say nothing.
fn client(base: &Url, silence: Option<Duration>) -> Result<reqwest::Client, ApiError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("qwexctl/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(redirect::Policy::none());
    if let Some(silence) = silence {
        builder = builder.read_timeout(silence);
    }
    if base.scheme() == "http" {
        // Loading the system's certificates costs more than the whole request.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| ApiError::Setup {
        message: chain(&error),
    })
}

fn address(server: &str) -> Result<Url, ApiError> {
    let bad = |message: &str| ApiError::BadAddress {
        server: server.to_owned(),
        message: message.to_owned(),
    };
    let url = Url::parse(server).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad(
            "it must hold no user and no password; give the token by QWEX_TOKEN or a context",
        ));
    }
    Ok(url)
}

fn bearer(server: &str, token: &SecretString) -> Result<HeaderValue, ApiError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| {
        ApiError::BadAddress {
            server: server.to_owned(),
            message: "the token has characters that no token has".to_owned(),
        }
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with its causes; reqwest says the useful word last. The address is said elsewhere.
pub fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    match causes.pop() {
        Some(last) if error.is_timeout() => format!("no answer in time ({last})"),
        Some(last) => last,
        None => error.to_string(),
    }
}

fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return "an empty answer".to_owned();
    }
    text.chars().take(SHOWN).collect()
}

//! [`HttpJobApiClient`]: the [`JobApiClient`] over HTTP. The calls themselves are in `http_runs` and `http_admin`.

use std::time::Duration;

use reqwest::{Method, Response};
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{Answer, Listing};
use super::error::ApiError;
use super::retry::{Notice, Patience, persist};
use super::send::{Call, Sender};

/// Most pages that are read of a list that is shown whole.
const MOST_PAGES: usize = 100;

/// Where the server is and how to speak to it.
pub struct Endpoint {
    /// `http://…` or `https://…`.
    pub server: String,
    pub token: Option<SecretString>,
    /// How long a submit is tried again.
    pub retry_for: Duration,
    /// Told about each try that failed and is followed by another.
    pub notice: Notice,
}

/// The API over HTTP.
pub struct HttpJobApiClient {
    pub(super) sender: Sender,
    pub(super) retry_for: Duration,
    pub(super) notice: Notice,
}

impl HttpJobApiClient {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The address or the token cannot be used, or this machine has no CA certificates.
    pub fn new(endpoint: Endpoint) -> Result<Self, ApiError> {
        Ok(Self {
            sender: Sender::new(&endpoint.server, endpoint.token.as_ref())?,
            retry_for: endpoint.retry_for,
            notice: endpoint.notice,
        })
    }

    /// Sends a call as often as patience allows.
    pub(super) async fn send(&self, call: &Call, patience: Patience) -> Result<Response, ApiError> {
        persist(patience, &self.notice, || self.sender.send(call)).await
    }

    /// Sends a call and reads the answer's body; a body that breaks off is a try that failed.
    async fn body(
        &self,
        call: &Call,
        patience: Patience,
    ) -> Result<(reqwest::StatusCode, bytes::Bytes), ApiError> {
        persist(patience, &self.notice, || async {
            let response = self.sender.send(call).await?;
            let status = response.status();
            let body = response
                .bytes()
                .await
                .map_err(|error| self.sender.broken(&error))?;
            Ok((status, body))
        })
        .await
    }

    pub(super) async fn answer<T: DeserializeOwned>(
        &self,
        call: &Call,
        patience: Patience,
    ) -> Result<(reqwest::StatusCode, Answer<T>), ApiError> {
        let (status, body) = self.body(call, patience).await?;
        let answer = Answer::read(&body).map_err(|error| self.unknown(status, &error))?;
        Ok((status, answer))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, ApiError> {
        let (_, answer) = self.answer(&Call::new(Method::GET, path), Patience::Read).await?;
        Ok(answer)
    }

    /// One page.
    pub(super) async fn page<T: DeserializeOwned>(&self, call: &Call) -> Result<Listing<T>, ApiError> {
        let (status, body) = self.body(call, Patience::Read).await?;
        Listing::read(&body).map_err(|error| self.unknown(status, &error))
    }

    /// Every page of a list that people see whole.
    pub(super) async fn pages<T: DeserializeOwned>(&self, call: Call) -> Result<Listing<T>, ApiError> {
        let mut whole = self.page::<T>(&call).await?;
        for _ in 1..MOST_PAGES {
            let Some(token) = whole.next_page_token.take() else {
                break;
            };
            let mut next = self.page(&call.clone().query("page_token", Some(token))).await?;
            whole.items.append(&mut next.items);
            whole.next_page_token = next.next_page_token;
        }
        Ok(whole)
    }

    /// A POST that makes or changes something and answers with it.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<Answer<T>, ApiError> {
        let (_, answer) = self.answer(&post(path, body), Patience::Once).await?;
        Ok(answer)
    }

    /// A request whose answer does not matter. Each of them may be repeated.
    pub(super) async fn command(&self, method: Method, path: &[&str]) -> Result<(), ApiError> {
        let mut call = Call::new(method.clone(), path);
        if method == Method::POST {
            call = post(path, None::<&()>);
        }
        self.body(&call, Patience::Read).await.map(drop)
    }

    pub(super) fn unknown(&self, status: reqwest::StatusCode, error: &serde_json::Error) -> ApiError {
        self.sender
            .foreign(status, format!("the answer has not the expected shape: {error}"))
    }
}

/// A POST with a key of its own, so that a server can tell a repeat from a second wish.
pub(super) fn post(path: &[&str], body: Option<&impl Serialize>) -> Call {
    let mut call = Call::new(Method::POST, path);
    call.body = body.map(|body| serde_json::to_vec(body).expect("wire types serialise"));
    call.key = Some(uuid::Uuid::now_v7().to_string());
    call
}

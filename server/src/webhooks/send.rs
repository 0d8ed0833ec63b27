//! One try: a signed POST to an endpoint that is not trusted. Bounded in time and in what is read; follows nothing,
//! asks no proxy, dials only what the guard lets through.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ::url::Url;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::guard::Guard;
use super::resolve::{Lookup, Refused, Resolver};
use super::schedule::Outcome;
use super::secret::Secret;
use super::{sign, url};

/// Most bytes of an answer that are read. They are thrown away; reading them lets the connection be used again.
const BODY: usize = 16 * 1024;
/// Most characters of an error that are stored.
const ERROR: usize = 200;
/// How long a connection is kept for the next delivery.
const IDLE: Duration = Duration::from_secs(30);

/// What is sent.
pub struct Message<'m> {
    pub url: &'m str,
    /// Stays the same on every try.
    pub id: &'m str,
    pub body: &'m [u8],
    /// The newest first.
    pub secrets: &'m [Secret],
}

/// Sends. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    client: reqwest::Client,
    guard: Guard,
    deadline: Duration,
}

impl Sender {
    /// # Errors
    /// TLS cannot be set up, not even without the certificates of this machine.
    pub fn new(guard: Guard, lookup: Lookup, deadline: Duration) -> Result<Self, reqwest::Error> {
        let resolver = Arc::new(Resolver::new(guard, lookup));
        let client = match client(resolver.clone()).build() {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "no CA certificates found: https endpoints will not be reached"
                );
                client(resolver).tls_certs_only([]).build()?
            }
        };
        Ok(Self {
            client,
            guard,
            deadline,
        })
    }

    /// One try. Takes no longer than the deadline.
    pub async fn send(&self, message: &Message<'_>) -> Outcome {
        // A literal address never reaches the resolver.
        let parsed = Url::parse(message.url).map_err(url::UrlError::from);
        let target = match parsed.and_then(|target| url::check_host(&target, self.guard).map(|()| target)) {
            Ok(target) => target,
            Err(error) => return Outcome::Unanswered(format!("the url is refused: {error}")),
        };
        let deadline = Instant::now() + self.deadline;
        let mut response = match timeout_at(deadline, self.request(target, message).send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Outcome::Unanswered(words(&error)),
            Err(_) => {
                let seconds = self.deadline.as_secs_f32();
                return Outcome::Unanswered(format!("no answer within {seconds} s"));
            }
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| read_retry_after(value.to_str().ok()?));
        // The status was heard and counts, however the body goes on.
        let _ = timeout_at(deadline, read_away(&mut response)).await;
        Outcome::Answered { status, retry_after }
    }

    fn request(&self, target: Url, message: &Message<'_>) -> reqwest::RequestBuilder {
        let timestamp = Timestamp::now().as_second();
        let signatures = sign::signatures(message.secrets, message.id, timestamp, message.body);
        self.client
            .post(target)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("qwex/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures)
            .body(message.body.to_vec())
    }
}

fn client(resolver: Arc<Resolver>) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .dns_resolver(resolver)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .no_gzip()
        .referer(false)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(2)
}

/// Reads what comes, up to the limit.
async fn read_away(response: &mut reqwest::Response) {
    let mut left = BODY;
    while let Ok(Some(chunk)) = response.chunk().await {
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            return;
        }
    }
}

/// Seconds, or a date of HTTP.
fn read_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(at.duration_since(Timestamp::now()).try_into().unwrap_or_default())
}

/// What went wrong, in words for the owner of the endpoint: no URL (it may hold a key), no control characters, short.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    loop {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return refused.to_string();
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => break,
        }
    }
    let what = if error.is_connect() {
        "failed to connect"
    } else {
        "failed to exchange"
    };
    let text = format!("{what}: {cause}");
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(ERROR)
        .collect()
}

#[cfg(test)]
mod tests;

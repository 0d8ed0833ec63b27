//! HK: a webhook receiver on loopback that answers by script and keeps every request, bytes as they came, so that a
//! test can verify signatures and count deliveries. It verifies nothing itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::{ports, wait};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One scripted answer.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    delay: Duration,
    body: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Whole(Bytes),
    Drip { bytes: Bytes, every: Duration },
    Endless,
    Silence,
    HangUp,
}

impl Answer {
    /// # Panics
    /// `status` is no HTTP status.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status between 100 and 999");
        Self {
            status,
            headers: HeaderMap::new(),
            delay: Duration::ZERO,
            body: Content::Whole(Bytes::new()),
        }
    }

    /// The connection is closed without an answer.
    pub fn hang_up() -> Self {
        Self {
            body: Content::HangUp,
            ..Self::status(200)
        }
    }

    /// No answer, until the client goes away.
    pub fn silence() -> Self {
        Self {
            body: Content::Silence,
            ..Self::status(200)
        }
    }

    /// # Panics
    /// Name or value cannot stand in a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a valid header name");
        self.headers
            .append(name, HeaderValue::from_str(value).expect("a valid header value"));
        self
    }

    /// Waits this long before the status line.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Content::Whole(body.into());
        self
    }

    /// A body that comes byte by byte.
    pub fn drip(mut self, bytes: impl Into<Bytes>, every: Duration) -> Self {
        self.body = Content::Drip {
            bytes: bytes.into(),
            every,
        };
        self
    }

    /// A body without end, as fast as the client reads.
    pub fn endless(mut self) -> Self {
        self.body = Content::Endless;
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub at: Instant,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The status it was answered with (or would have been, had the client stayed).
    pub status: u16,
}

impl Received {
    /// A header as text; `None` when it is absent or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Debug)]
struct Shared {
    script: Mutex<VecDeque<Answer>>,
    default: Mutex<Answer>,
    received: Mutex<Vec<Received>>,
    busy: Mutex<Busy>,
}

/// How many requests are being answered.
#[derive(Debug, Default)]
struct Busy {
    now: usize,
    most: usize,
}

/// The control handle; the receiver ends when it is dropped.
#[derive(Debug)]
pub struct WebhookSink {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

impl WebhookSink {
    /// Listens on a free loopback port and answers 204 until told otherwise.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start() -> Result<Self> {
        let (addr, listener) = ports::listen().await.context("bind the webhook sink")?;
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            default: Mutex::new(Answer::status(204)),
            received: Mutex::default(),
            busy: Mutex::default(),
        });
        let _task = AbortOnDropHandle::new(tokio::spawn(accept(listener, shared.clone())));
        Ok(Self { addr, shared, _task })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Answers for the next requests, in this order; after them comes the default.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        held(&self.shared.script).extend(answers);
    }

    /// What requests beyond the script are answered.
    pub fn otherwise(&self, answer: Answer) {
        *held(&self.shared.default) = answer;
    }

    /// Every request so far, in the order of arrival.
    pub fn received(&self) -> Vec<Received> {
        held(&self.shared.received).clone()
    }

    /// The largest number of requests that were being answered at one moment.
    pub fn most_at_once(&self) -> usize {
        held(&self.shared.busy).most
    }

    /// Waits for at least `count` requests and gives all of them.
    ///
    /// # Errors
    /// There were fewer within `limit`.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Received>, wait::TimedOut> {
        let what = format!("{count} webhook requests");
        let probe = || {
            let received = self.received();
            let seen = received.len();
            std::future::ready(if seen >= count {
                Ok(received)
            } else {
                Err(format!("{seen} came"))
            })
        };
        wait::until_ok(limit, &what, probe).await
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this mutex")
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned here, so that they end with the sink.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => { connections.spawn(connection(stream, shared.clone())); }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| serve(request, &shared));
    // Scripted hang-ups and clients that give up end here.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

/// Counts a request as busy while it lives, also when the client goes away.
struct InFlight<'a>(&'a Shared);

impl<'a> InFlight<'a> {
    fn start(shared: &'a Shared) -> Self {
        let mut busy = held(&shared.busy);
        busy.now += 1;
        busy.most = busy.most.max(busy.now);
        Self(shared)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        held(&self.0.busy).now -= 1;
    }
}

async fn serve(request: Request<Incoming>, shared: &Shared) -> Result<Response<Body>, anyhow::Error> {
    let at = Instant::now();
    let _busy = InFlight::start(shared);
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let next = held(&shared.script).pop_front();
    let answer = next.unwrap_or_else(|| held(&shared.default).clone());
    let target = parts
        .uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    held(&shared.received).push(Received {
        at,
        method: parts.method.to_string(),
        target,
        headers: parts.headers,
        body,
        status: answer.status.as_u16(),
    });
    tokio::time::sleep(answer.delay).await;
    let mut response = Response::new(content(answer.body).await?);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

async fn content(content: Content) -> Result<Body> {
    match content {
        Content::Whole(bytes) => Ok(Full::new(bytes).boxed_unsync()),
        Content::Drip { bytes, every } => Ok(drip(bytes, every)),
        Content::Endless => Ok(endless()),
        Content::Silence => std::future::pending().await,
        Content::HangUp => anyhow::bail!("scripted: hang up"),
    }
}

fn drip(bytes: Bytes, every: Duration) -> Body {
    let frames = futures::stream::unfold(bytes, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(every).await;
        let byte = left.split_to(1);
        Some((Ok(Frame::data(byte)), left))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn endless() -> Body {
    let chunk = Bytes::from_static(&[b'x'; 4096]);
    let frames = futures::stream::repeat_with(move || Ok(Frame::data(chunk.clone())));
    StreamBody::new(frames).boxed_unsync()
}

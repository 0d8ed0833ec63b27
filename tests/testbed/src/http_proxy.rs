//! FP7: a scripted HTTP proxy before a Kubernetes API server. It ends TLS, forwards everything with the credentials
//! it was started with, and answers by [`Rule`]s what a sick API server would. Streams pass through unbuffered.
//! Every request is in the ledger, so that a test can count what really reached the API server.
//!
//! Knows nothing of qwex. Upgrades (exec, port-forward) are not forwarded.

mod request;
mod rule;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use kube::config::{AuthInfo, Cluster, Context as KubeContext, KubeConfigOptions, Kubeconfig};
use kube::config::{NamedAuthInfo, NamedCluster, NamedContext};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

pub use request::{ApiRequest, Verb};
pub use rule::{Amount, Answer, Rule, RuleId};

use crate::{ports, wait};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;
type Reply = Result<Response<Body>, BoxError>;
type Upstream =
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Result<Response<Incoming>, BoxError>> + Send + Sync;

/// One request as the proxy saw it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub request: ApiRequest,
    pub body: Bytes,
    /// What the client was told; `None` while it waits, or when it was told nothing.
    pub status: Option<u16>,
    /// What the API server said; `None` when the request was not forwarded.
    pub upstream: Option<u16>,
    /// The rule that answered.
    pub rule: Option<RuleId>,
    /// The body of a list that was passed on whole, to be replayed later.
    pub list: Option<Bytes>,
}

/// The control handle; the proxy ends when it is dropped.
#[derive(Debug)]
pub struct HttpProxy {
    addr: SocketAddr,
    certificate: String,
    kubeconfig: Kubeconfig,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    upstream: Box<Upstream>,
    base: Uri,
    rules: Mutex<rule::Rules>,
    ledger: Mutex<Vec<Entry>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("base", &self.base)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl HttpProxy {
    /// Starts before the API server of a kubeconfig file, with its current context.
    ///
    /// # Errors
    /// The file cannot be used, or no port can be bound.
    pub async fn start(kubeconfig: &Path) -> Result<Self> {
        Self::for_user(&std::fs::read_to_string(kubeconfig)?).await
    }

    /// As [`HttpProxy::start`], from the text of a kubeconfig.
    ///
    /// # Errors
    /// As [`HttpProxy::start`].
    pub async fn for_user(kubeconfig: &str) -> Result<Self> {
        let file = Kubeconfig::from_yaml(kubeconfig)?;
        Self::before(kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?).await
    }

    /// Starts before the API server of a client configuration. Its client certificate speaks for every client.
    ///
    /// # Errors
    /// The credentials cannot be used, or no port can be bound.
    pub async fn before(config: kube::Config) -> Result<Self> {
        let client = Client::builder(TokioExecutor::new()).build(config.rustls_https_connector()?);
        let shared = Arc::new(Shared {
            upstream: Box::new(move |request| {
                let reply = client.request(request);
                Box::pin(async { Ok(reply.await?) })
            }),
            base: config.cluster_url.clone(),
            rules: Mutex::default(),
            ledger: Mutex::default(),
        });
        let (addr, listener) = ports::listen().await.context("bind the HTTP proxy")?;
        let (acceptor, certificate) = tls()?;
        let kubeconfig = kubeconfig(addr, &certificate, &config);
        let _task = AbortOnDropHandle::new(tokio::spawn(accept(listener, acceptor, shared.clone())));
        Ok(Self {
            addr,
            certificate,
            kubeconfig,
            shared,
            _task,
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// PEM of the proxy's own certificate, for clients that use no kubeconfig.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Points at the proxy. Holds no client certificate: that one stays inside the proxy.
    pub fn kubeconfig(&self) -> &Kubeconfig {
        &self.kubeconfig
    }

    /// [`HttpProxy::kubeconfig`] as the text of a file (JSON, which is YAML too).
    ///
    /// # Errors
    /// It cannot be serialised.
    pub fn kubeconfig_text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.kubeconfig)?)
    }

    /// A client that goes through the proxy. It belongs to the runtime that asked.
    ///
    /// # Errors
    /// The kubeconfig was not understood, which would be a mistake in here.
    pub async fn client(&self) -> Result<kube::Client> {
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(self.kubeconfig.clone(), &options).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Adds a rule; earlier ones come first.
    pub fn rule(&self, rule: Rule) -> RuleId {
        self.shared.rules().add(rule)
    }

    pub fn remove(&self, id: RuleId) {
        self.shared.rules().remove(id);
    }

    /// Removes every rule. Requests that hang already go on hanging.
    pub fn clear(&self) {
        self.shared.rules().clear();
    }

    /// Every request so far, oldest first.
    pub fn ledger(&self) -> Vec<Entry> {
        self.shared.ledger().clone()
    }

    /// How many requests so far are like this.
    pub fn count(&self, mut like: impl FnMut(&Entry) -> bool) -> usize {
        self.shared.ledger().iter().filter(|entry| like(entry)).count()
    }

    /// Waits until the ledger holds a request like this, and gives the first.
    ///
    /// # Errors
    /// None came within `limit`.
    pub async fn wait_for(
        &self,
        limit: Duration,
        what: &str,
        like: impl Fn(&Entry) -> bool,
    ) -> Result<Entry, wait::TimedOut> {
        let find = || self.shared.ledger().iter().find(|entry| like(entry)).cloned();
        wait::until(limit, what, || std::future::ready(find())).await
    }
}

fn tls() -> Result<(TlsAcceptor, String)> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("make the proxy's certificate")?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    Ok((TlsAcceptor::from(Arc::new(server)), made.cert.pem()))
}

fn kubeconfig(addr: SocketAddr, certificate: &str, from: &kube::Config) -> Kubeconfig {
    const NAME: &str = "proxy";
    let data = base64::engine::general_purpose::STANDARD.encode(certificate);
    let cluster = Cluster {
        server: Some(format!("https://{addr}")),
        certificate_authority_data: Some(data),
        ..Cluster::default()
    };
    // A bearer token is the client's to send: the proxy passes the header on.
    let user = AuthInfo {
        token: from.auth_info.token.clone(),
        ..AuthInfo::default()
    };
    let context = KubeContext {
        cluster: NAME.to_owned(),
        user: Some(NAME.to_owned()),
        namespace: Some(from.default_namespace.clone()),
        ..KubeContext::default()
    };
    Kubeconfig {
        kind: Some("Config".to_owned()),
        api_version: Some("v1".to_owned()),
        clusters: vec![NamedCluster {
            name: NAME.to_owned(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: NAME.to_owned(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: NAME.to_owned(),
            context: Some(context),
            ..NamedContext::default()
        }],
        current_context: Some(NAME.to_owned()),
        ..Kubeconfig::default()
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // Owned here, so that they end with the proxy.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(connection(stream, acceptor.clone(), shared.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| shared.serve(request));
    // A cut reply and a client that went away both end here; neither is worth more than the ledger tells.
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, rule::Rules> {
        self.rules.lock().expect("nothing panics under this mutex")
    }

    fn ledger(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.ledger.lock().expect("nothing panics under this mutex")
    }

    fn note(&self, at: usize, change: impl FnOnce(&mut Entry)) {
        change(&mut self.ledger()[at]);
    }

    async fn serve(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        // Requests of the Kubernetes API are small; only replies are streams.
        let body = body.collect().await?.to_bytes();
        let asked = ApiRequest::new(parts.method.clone(), parts.uri.path(), parts.uri.query());
        let (rule, answer) = self.rules().answer(&asked).unzip();
        let entry = Entry {
            request: asked.clone(),
            body: body.clone(),
            status: None,
            upstream: None,
            rule,
            list: None,
        };
        let at = {
            let mut ledger = self.ledger();
            ledger.push(entry);
            ledger.len() - 1
        };
        let call = Call {
            shared: self,
            at,
            asked,
            parts,
            body,
        };
        let reply = call.answer(answer).await?;
        self.note(at, |entry| entry.status = Some(reply.status().as_u16()));
        Ok(reply)
    }
}

/// One request on its way.
struct Call<'a> {
    shared: &'a Shared,
    at: usize,
    asked: ApiRequest,
    parts: hyper::http::request::Parts,
    body: Bytes,
}

impl Call<'_> {
    async fn answer(&self, answer: Option<Answer>) -> Reply {
        match answer {
            None => self.pass_on().await,
            Some(Answer::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.pass_on().await
            }
            Some(Answer::Cut { after, clean }) => {
                Ok(self.forward().await?.map(|body| cut(body, after, clean)))
            }
            Some(Answer::ApplyThen(then)) => {
                // Read to its end: only then is the request surely carried out.
                self.forward().await?.into_body().collect().await?;
                Box::pin(self.answer(Some(*then))).await
            }
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::HangUp) => Err("scripted: hang up".into()),
            Some(Answer::Raw { code, body }) => json_reply(code, body),
            Some(Answer::Status {
                code,
                message,
                retry_after,
            }) => {
                let status = rule::status_body(code, &message, self.asked.verb);
                let mut reply = json_reply(code, status.to_string().into())?;
                if let Some(after) = retry_after {
                    reply
                        .headers_mut()
                        .insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
                }
                Ok(reply)
            }
        }
    }

    /// Forwards, and keeps the body of a good list for a later replay.
    async fn pass_on(&self) -> Reply {
        let reply = self.forward().await?;
        if self.asked.verb != Verb::List || !reply.status().is_success() {
            return Ok(reply.map(|body| body.map_err(Into::into).boxed_unsync()));
        }
        let (parts, body) = reply.into_parts();
        let body = body.collect().await?.to_bytes();
        self.shared.note(self.at, |entry| entry.list = Some(body.clone()));
        Ok(Response::from_parts(parts, whole(body)))
    }

    async fn forward(&self) -> Result<Response<Incoming>, BoxError> {
        let mut uri = self.shared.base.clone().into_parts();
        uri.path_and_query = self.parts.uri.path_and_query().cloned();
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = Uri::from_parts(uri)?;
        *request.headers_mut() = end_to_end(&self.parts.headers);
        request.headers_mut().remove(header::HOST);
        let mut reply = (self.shared.upstream)(request).await?;
        self.shared
            .note(self.at, |entry| entry.upstream = Some(reply.status().as_u16()));
        *reply.headers_mut() = end_to_end(reply.headers());
        Ok(reply)
    }
}

/// Without the headers that belong to one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    headers
}

fn json_reply(code: u16, body: Bytes) -> Reply {
    let mut reply = Response::new(whole(body));
    *reply.status_mut() = StatusCode::from_u16(code)?;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(reply)
}

fn whole(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// Passes a body on up to `after`; then it ends well or breaks off.
fn cut(body: Incoming, after: Amount, clean: bool) -> Body {
    let frames = futures::stream::unfold((Some(body), 0u64), move |(body, passed)| async move {
        let mut body = body?;
        let over = match after {
            Amount::Bytes(limit) | Amount::Events(limit) => passed >= limit,
        };
        if over {
            // hyper drops what it has not flushed when a body fails; it flushes when a body has to wait.
            tokio::task::yield_now().await;
            return (!clean).then(|| (Err("scripted: cut".into()), (None, passed)));
        }
        match body.frame().await? {
            Ok(frame) => {
                let data = frame.into_data().unwrap_or_default();
                let (part, count) = first_part(&data, after, passed);
                Some((Ok(Frame::data(part)), (Some(body), passed + count)))
            }
            Err(error) => Some((Err(error.into()), (None, passed))),
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// What of `data` still passes, and how much that counts.
fn first_part(data: &Bytes, after: Amount, passed: u64) -> (Bytes, u64) {
    match after {
        Amount::Bytes(limit) => {
            let count = usize::try_from(limit - passed).map_or(data.len(), |left| left.min(data.len()));
            (data.slice(..count), count as u64)
        }
        Amount::Events(limit) => {
            let ends = data
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .map(|(at, _)| at + 1);
            let ends: Vec<usize> = ends
                .take(usize::try_from(limit - passed).unwrap_or(usize::MAX))
                .collect();
            let whole = passed + (ends.len() as u64) < limit;
            let end = if whole {
                data.len()
            } else {
                ends.last().copied().unwrap_or(0)
            };
            (data.slice(..end), ends.len() as u64)
        }
    }
}

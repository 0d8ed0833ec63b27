//! One HTTP call to an API server, with a deadline, and what its failure means. Everything else here
//! goes through [`Rest`].
//!
//! Why not `kube::Api`: it hides the status line (`Retry-After`), rounds `sinceTime`, fails a whole
//! list for one odd object and sets no deadline. kube is used for what it is good at: kubeconfigs,
//! TLS, authentication and the connection pool.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use qwex_runner::RunnerError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

/// Most bytes of an answer that is read whole: an API server's lists are paged below this.
const ANSWER_CAP: usize = 256 * 1024 * 1024;
/// Most characters of the API server's message that are passed on.
const MESSAGE_CAP: usize = 4096;

/// A client of one API server with one deadline for each call.
#[derive(Clone)]
pub(crate) struct Rest {
    client: kube::Client,
    deadline: Duration,
}

/// Why a call has no good answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// The API server, or something before it, said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection broke, or never was, and then nothing was sent.
    #[error("{message}")]
    Broken { message: String, sent: bool },
    #[error("no answer within {}s", .after.as_secs_f32())]
    TimedOut { after: Duration },
    /// The answer is not what the API serves.
    #[error("the answer cannot be read: {message}")]
    Unreadable { message: String },
}

/// An answer with an error status, from `metav1.Status` where the body is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: u16,
    /// `AlreadyExists`, `Forbidden`…; empty where the answer is not of an API server.
    pub reason: String,
    /// Whether an API server said so, and not something before it.
    pub of_api: bool,
    /// Word for word.
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.message)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ApiStatus {
    kind: String,
    code: u16,
    reason: String,
    message: String,
    details: Option<ApiStatusDetails>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ApiStatusDetails {
    retry_after_seconds: Option<u64>,
}

impl From<ApiStatus> for Refusal {
    fn from(status: ApiStatus) -> Self {
        Self {
            code: status.code,
            of_api: status.kind == "Status",
            reason: status.reason,
            message: capped(&status.message),
            retry_after: status
                .details
                .and_then(|details| details.retry_after_seconds)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        }
    }
}

fn capped(message: &str) -> String {
    message.chars().take(MESSAGE_CAP).collect()
}

/// A path with its query, percent-encoded.
pub(crate) fn target(path: &str, query: &[(&str, &str)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(query);
    format!("{path}?{}", pairs.finish())
}

impl Rest {
    pub fn new(client: kube::Client, deadline: Duration) -> Self {
        Self { client, deadline }
    }

    /// For what is no plain call: `exec`.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, CallError> {
        read(&self.call(Method::GET, target, "", Vec::new()).await?)
    }

    pub async fn get_bytes(&self, target: &str) -> Result<Bytes, CallError> {
        self.call(Method::GET, target, "", Vec::new()).await
    }

    pub async fn post<T: DeserializeOwned>(&self, target: &str, body: Vec<u8>) -> Result<T, CallError> {
        read(&self.call(Method::POST, target, "application/json", body).await?)
    }

    pub async fn delete(&self, target: &str, body: Vec<u8>) -> Result<(), CallError> {
        let call = self.call(Method::DELETE, target, "application/json", body);
        call.await.map(|_| ())
    }

    pub async fn merge_patch(&self, target: &str, body: Vec<u8>) -> Result<(), CallError> {
        let call = self.call(Method::PATCH, target, "application/merge-patch+json", body);
        call.await.map(|_| ())
    }

    /// One call; the deadline covers it from the first byte sent to the last byte read.
    async fn call(
        &self,
        method: Method,
        target: &str,
        content: &'static str,
        body: Vec<u8>,
    ) -> Result<Bytes, CallError> {
        let until = Instant::now() + self.deadline;
        let late = |_| CallError::TimedOut { after: self.deadline };
        let answer = timeout_at(until, self.send(method, target, content, body))
            .await
            .map_err(late)??;
        let limited = http_body_util::Limited::new(answer.into_body(), ANSWER_CAP);
        let collected = timeout_at(until, limited.collect()).await.map_err(late)?;
        collected.map(|body| body.to_bytes()).map_err(broken)
    }

    /// Opens a long answer: the deadline covers only its beginning.
    pub async fn open(
        &self,
        target: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, CallError>> + Send + Unpin + use<>, CallError> {
        let late = |_| CallError::TimedOut { after: self.deadline };
        let sent = self.send(Method::GET, target, "", Vec::new());
        let answer = tokio::time::timeout(self.deadline, sent).await.map_err(late)??;
        Ok(answer
            .into_body()
            .into_data_stream()
            .map(|read| read.map_err(broken)))
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        content: &'static str,
        body: Vec<u8>,
    ) -> Result<http::Response<Body>, CallError> {
        let mut request = Request::builder().method(method).uri(target);
        if !content.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, content);
        }
        let request = request.body(Body::from(body)).map_err(broken)?;
        let answer = self.client.send(request).await.map_err(broken)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(CallError::Refused(refusal(answer).await))
    }
}

async fn refusal(answer: http::Response<Body>) -> Refusal {
    let code = answer.status();
    let header = retry_after(&answer);
    let limited = http_body_util::Limited::new(answer.into_body(), 1024 * 1024);
    let body = limited
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut refusal = match serde_json::from_slice::<ApiStatus>(&body) {
        Ok(status) if status.kind == "Status" => Refusal::from(status),
        Ok(_) | Err(_) => foreign(code, &body),
    };
    refusal.code = code.as_u16();
    refusal.retry_after = header.or(refusal.retry_after);
    refusal
}

/// An error that no API server wrote: of a proxy or a kubelet.
fn foreign(code: StatusCode, body: &[u8]) -> Refusal {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let message = if text.is_empty() {
        format!("the API server answered {code}")
    } else {
        format!("the API server answered {code}: {}", capped(text))
    };
    Refusal {
        code: code.as_u16(),
        of_api: false,
        reason: String::new(),
        message,
        retry_after: None,
    }
}

fn retry_after(answer: &http::Response<Body>) -> Option<Duration> {
    let header = answer.headers().get(http::header::RETRY_AFTER)?;
    header.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Unreadable {
        message: error.to_string(),
    })
}

/// What hyper says where no connection came about.
const NEVER_CONNECTED: &str = "client error (Connect)";

/// The whole chain of causes: the outermost error of a client says only "client error".
fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
    let error = error.into();
    let mut told: Vec<String> = Vec::new();
    let mut sent = true;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        sent &= !text.contains(NEVER_CONNECTED);
        // kube's own layers say nothing to people, and that there was no connection its cause says better.
        let text = ["ServiceError: ", "HyperError: ", NEVER_CONNECTED, ": "]
            .iter()
            .fold(text.as_str(), |text, layer| {
                text.strip_prefix(layer).unwrap_or(text)
            });
        if !text.is_empty() && !told.iter().any(|outer| outer.contains(text)) {
            told.push(text.to_owned());
        }
        cause = inner.source();
    }
    let message = match told.as_slice() {
        [] => NEVER_CONNECTED.to_owned(),
        causes => causes.join(": "),
    };
    CallError::Broken { message, sent }
}

impl CallError {
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Broken { .. } | Self::TimedOut { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// An API server's own 404, not that of something before it.
    pub fn is_not_found(&self) -> bool {
        self.refusal()
            .is_some_and(|refusal| refusal.code == 404 && refusal.reason == "NotFound")
    }

    pub fn is_conflict(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == 409)
    }

    pub fn is_already_there(&self) -> bool {
        self.refusal()
            .is_some_and(|refusal| refusal.code == 409 && refusal.reason == "AlreadyExists")
    }

    /// Whether a write may have taken effect nevertheless.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code >= 500,
            Self::Broken { .. } | Self::TimedOut { .. } | Self::Unreadable { .. } => true,
        }
    }
}

impl Refusal {
    /// RBAC says no to us, as opposed to a quota or an admission plugin that says no to the object;
    /// all are 403 `Forbidden`.
    fn is_rbac(&self) -> bool {
        self.code == 403 && (self.message.contains("User \"") && self.message.contains(" cannot "))
    }
}

/// What is to be granted, out of the API server's `User "u" cannot list resource "pods" in API group "" in the
/// namespace "n"`.
fn grant(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("\" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, rest) = rest.split_once("\" in API group \"")?;
    let (group, rest) = rest.split_once('"')?;
    let group = if group.is_empty() {
        ""
    } else {
        &format!(" of {group}")
    };
    let place = match rest
        .split_once("in the namespace \"")
        .and_then(|(_, name)| name.split_once('"'))
    {
        Some((namespace, _)) => format!("a Role in namespace {namespace}"),
        None => "a ClusterRole".to_owned(),
    };
    Some(format!("{place} with the verb `{verb}` on `{resource}`{group}"))
}

impl From<CallError> for RunnerError {
    /// For reads. A write maps 404 and 409 first.
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Broken { sent: false, .. } => Self::NoConnection { message },
            CallError::Broken { sent: true, .. } | CallError::TimedOut { .. } => {
                Self::Unreachable { message }
            }
            CallError::Unreadable { .. } => Self::Failed { message },
            CallError::Refused(refusal) => match refusal.code {
                401 => Self::Unauthorized { message },
                403 if refusal.is_rbac() => Self::Unauthorized {
                    message: match grant(&refusal.message) {
                        Some(grant) => format!("{message}; ask for {grant}"),
                        None => message,
                    },
                },
                429 => Self::Throttled {
                    retry_after: refusal.retry_after,
                    message,
                },
                // A page of a proxy or of another server on the way is no verdict on anything.
                _ if !refusal.of_api => Self::Unreachable { message },
                400 | 403 | 405 | 406 | 413 | 415 | 422 => Self::Rejected { message },
                404 => Self::NotFound { message },
                410 => Self::PositionGone { message },
                502..=504 => Self::Unreachable { message },
                _ => Self::Failed { message },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str) -> RunnerError {
        CallError::Refused(Refusal {
            code,
            of_api: true,
            reason: String::new(),
            message: message.to_owned(),
            retry_after: None,
        })
        .into()
    }

    #[test]
    fn a_page_of_a_proxy_is_no_verdict() {
        for code in [
            StatusCode::BAD_REQUEST,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::GONE,
        ] {
            let error = RunnerError::from(CallError::Refused(foreign(code, b"<html>")));
            assert!(
                matches!(error, RunnerError::Unreachable { .. }),
                "{code}: {error:?}"
            );
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    fn broken_by(layers: &[&'static str]) -> CallError {
        let chain = layers
            .iter()
            .rev()
            .fold(None, |inner, text| Some(Box::new(Layer(text, inner))));
        broken(*chain.expect("a layer"))
    }

    #[test]
    fn a_connection_that_never_came_about_is_told_by_its_cause() {
        let refused = [
            "ServiceError: client error (Connect)",
            "client error (Connect)",
            "tcp connect error",
            "Connection refused",
        ];
        assert!(matches!(
            broken_by(&refused),
            CallError::Broken { sent: false, message } if message == "tcp connect error: Connection refused"
        ));
        assert!(matches!(
            broken_by(&["client error (Connect)"]),
            CallError::Broken { sent: false, message } if message == "client error (Connect)"
        ));
        assert!(matches!(
            broken_by(&["HyperError: client error (SendRequest)", "connection closed"]),
            CallError::Broken { sent: true, message } if message == "client error (SendRequest): connection closed"
        ));
    }

    #[test]
    fn tells_rbac_from_quota() {
        let rbac = r#"jobs.batch is forbidden: User "ci" cannot create resource "jobs" in API group "batch" in the namespace "x""#;
        let wanted =
            format!("{rbac}; ask for a Role in namespace x with the verb `create` on `jobs` of batch");
        assert_eq!(refused(403, rbac), RunnerError::Unauthorized { message: wanted });
        let whole = r#"pods is forbidden: User "ci" cannot list resource "pods" in API group "" at the cluster scope"#;
        let wanted = format!("{whole}; ask for a ClusterRole with the verb `list` on `pods`");
        assert_eq!(refused(403, whole), RunnerError::Unauthorized { message: wanted });
        let quota = r#"jobs.batch "a" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: count/jobs.batch=0"#;
        assert!(matches!(refused(403, quota), RunnerError::Rejected { message } if message == quota));
    }

    #[test]
    fn blind_is_not_rejected() {
        for code in [401, 429, 502, 503, 504] {
            let error = refused(code, "x");
            assert!(error.is_blind() && error.is_retryable(), "{code}: {error:?}");
        }
        for code in [408, 500, 507] {
            assert!(refused(code, "x").is_retryable(), "{code}");
        }
        for code in [400, 403, 413, 422] {
            assert!(!refused(code, "x").is_retryable(), "{code}");
        }
    }

    #[test]
    fn encodes_selectors() {
        assert_eq!(
            target("/p", &[("labelSelector", "a/b=c,d=e"), ("limit", "5")]),
            "/p?labelSelector=a%2Fb%3Dc%2Cd%3De&limit=5"
        );
        assert_eq!(target("/p", &[]), "/p");
    }
}

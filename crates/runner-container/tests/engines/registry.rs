//! A registry in the test's own process: it serves busybox, and refuses, limits or dawdles as asked by the repository's
//! name. Docker and podman speak plain HTTP to loopback.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::sync::watch;

/// `user:password` as Basic credentials.
pub const LOGIN: &str = "dXNlcjpwYXNzd29yZA==";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is served.
pub struct Registry {
    pub addr: SocketAddr,
    content: Arc<Content>,
}

struct Content {
    manifest: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
    layer: String,
    /// Whether the layer of the repository `slow` may go out.
    open: watch::Sender<bool>,
    layer_reads: AtomicUsize,
}

impl Registry {
    pub async fn start() -> Result<Self> {
        Self::serve(false).await
    }

    /// One that serves nothing to whoever is not logged in.
    pub async fn start_private() -> Result<Self> {
        Self::serve(true).await
    }

    async fn serve(private: bool) -> Result<Self> {
        let content = Arc::new(content(&std::fs::read(qwex_testbed::images::busybox().await?)?)?);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let routes = Router::new()
            .route("/v2/", get(|| async { StatusCode::OK }))
            .route("/v2/{name}/manifests/{reference}", get(manifest))
            .route("/v2/{name}/blobs/{digest}", get(blob))
            .with_state(content.clone())
            .layer(middleware::from_fn(
                move |request: Request, next: Next| async move {
                    match private && !is_logged_in(request.headers()) {
                        true => wants_login(),
                        false => next.run(request).await,
                    }
                },
            ));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { addr, content })
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}:1", self.addr)
    }

    /// Lets the layers of `slow` go out.
    pub fn open(&self) {
        self.content.open.send_replace(true);
    }

    /// How often somebody began to read the layer.
    pub fn layer_reads(&self) -> usize {
        self.content.layer_reads.load(Ordering::SeqCst)
    }
}

/// From a tar as `docker save` writes it to what a registry serves.
fn content(archive: &[u8]) -> Result<Content> {
    let mut files = HashMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(name, bytes);
    }
    let config_name = files
        .keys()
        .find(|name| name.ends_with(".json") && *name != "manifest.json");
    let config_name = config_name.context("the archive has a config")?.clone();
    let config = files.remove(&config_name).context("a config")?;
    let layer = files.remove("layer.tar").context("the archive has a layer")?;
    let parsed: serde_json::Value = serde_json::from_slice(&config)?;
    let layer_digest = parsed["rootfs"]["diff_ids"][0]
        .as_str()
        .context("a layer")?
        .to_owned();
    let config_digest = format!("sha256:{}", config_name.trim_end_matches(".json"));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": config_digest },
        "layers": [{ "mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": layer.len(), "digest": layer_digest }],
    });
    Ok(Content {
        manifest: serde_json::to_vec(&manifest)?,
        layer: layer_digest.clone(),
        blobs: HashMap::from([(config_digest, config), (layer_digest, layer)]),
        open: watch::Sender::new(false),
        layer_reads: AtomicUsize::new(0),
    })
}

async fn manifest(
    State(content): State<Arc<Content>>,
    Path((name, _reference)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match name.as_str() {
        "absent" => refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
        "limited" => refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "TOOMANYREQUESTS",
            "you have reached your pull rate limit",
        ),
        "private" if !is_logged_in(&headers) => wants_login(),
        _ => ([(header::CONTENT_TYPE, MANIFEST)], content.manifest.clone()).into_response(),
    }
}

fn is_logged_in(headers: &HeaderMap) -> bool {
    let login = headers.get(header::AUTHORIZATION);
    login.is_some_and(|value| value.as_bytes() == format!("Basic {LOGIN}").as_bytes())
}

fn wants_login() -> Response {
    let mut refused = refuse(
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
        "authentication required",
    );
    let ask = header::HeaderValue::from_static("Basic realm=\"test\"");
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
    refused
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    (status, axum::Json(body)).into_response()
}

async fn blob(State(content): State<Arc<Content>>, Path((name, digest)): Path<(String, String)>) -> Response {
    let Some(bytes) = content.blobs.get(&digest).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if digest != content.layer || name != "slow" {
        return bytes.into_response();
    }
    content.layer_reads.fetch_add(1, Ordering::SeqCst);
    let length = bytes.len();
    let body = futures::stream::unfold((content, bytes, 0), |(content, bytes, at)| async move {
        if at >= bytes.len() {
            return None;
        }
        // The first half goes out, the rest when it may.
        let half = bytes.len() / 2;
        if at >= half {
            let mut open = content.open.subscribe();
            open.wait_for(|open| *open).await.ok()?;
        }
        let end = if at < half { half } else { bytes.len() };
        let part = bytes[at..end].to_vec();
        Some((Ok::<_, std::io::Error>(part), (content, bytes, end)))
    });
    let length = [(header::CONTENT_LENGTH, length.to_string())];
    (length, Body::from_stream(body)).into_response()
}

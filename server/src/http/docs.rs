//! The document and a page that shows it. The page is ours, whole in itself: nothing is loaded from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;

use super::App;

const PAGE: &str = include_str!("docs/page.html");
const SCRIPT: &str = include_str!("docs/page.js");
const STYLE: &str = include_str!("docs/page.css");

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| super::document_text().into());

/// Not part of the document: they show it.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/openapi.json",
            get(|| async { file("application/json", DOCUMENT.clone()) }),
        )
        .route("/docs", get(|| async { file("text/html; charset=utf-8", PAGE) }))
        .route(
            "/docs/page.js",
            get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }),
        )
        .route(
            "/docs/page.css",
            get(|| async { file("text/css; charset=utf-8", STYLE) }),
        )
}

fn file(kind: &'static str, content: impl IntoResponse) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=300")], content)
}

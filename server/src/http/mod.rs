//! Routes, extractors and problem documents of the API. A handler reads the request, asks a service, and writes the
//! answer; it knows neither the database nor a cluster. The whole surface is in [`routes`].

mod access;
mod body;
mod clusters;
mod context;
mod docs;
mod drain;
mod error;
mod health;
mod kept;
mod limit;
mod logs;
mod meta;
mod page;
mod params;
mod projects;
mod refusals;
mod runs;
mod scope;
mod serve;
mod stream;
mod suggest;
mod tokens;
mod upload;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use qwex_api::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::answers::Answers;
use crate::auth::Auth;
use crate::clusters::Clusters;
use crate::logs::Archive;
use crate::projects::Projects;
use crate::runs::Runs;
use crate::telemetry::Metrics;
use crate::webhooks::Webhooks;

pub use access::AccessTable;
pub use drain::Drain;
pub use health::{Check, Probe, metrics_router};
pub use limit::Limiter;
pub use serve::serve;

use error::HttpError;

/// Everything a handler can ask.
pub struct App {
    pub auth: Auth,
    pub projects: Projects,
    pub runs: Runs,
    pub clusters: Clusters,
    pub logs: Archive,
    pub webhooks: Webhooks,
    pub answers: Answers,
    pub limiter: Limiter,
    pub access: AccessTable,
    pub drain: Drain,
    pub probe: Probe,
    /// `None`: they have an address of their own.
    pub metrics: Option<Metrics>,
    /// Whether this is `qwexcloud dev`.
    pub dev: bool,
}

/// Every route of the API, with its document.
fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(base())
        .merge(runs::routes())
        .merge(logs::routes())
        .merge(clusters::routes())
        .merge(webhooks::routes())
        .merge(meta::routes())
        .merge(projects::routes())
        .merge(tokens::routes())
        .merge(health::routes())
}

/// The router of the API.
pub fn router(app: Arc<App>) -> Router {
    let (documented, _) = routes().split_for_parts();
    documented
        .layer(from_fn_with_state(app.clone(), kept::layer))
        .layer(from_fn_with_state(app.clone(), access::layer))
        // Open to all: they only show the document.
        .merge(docs::routes())
        .fallback(|| async { HttpError::new(ErrorCode::NotFound, "there is no such route; see /docs") })
        .method_not_allowed_fallback(|| async {
            HttpError::new(
                ErrorCode::MethodNotAllowed,
                "this route has no such method; see /docs",
            )
        })
        .layer(CatchPanicLayer::custom(context::panicked))
        .layer(from_fn(context::layer))
        .with_state(app)
}

/// The OpenAPI document: what [`router`] serves, no more and no less.
#[must_use]
pub fn document() -> OpenApi {
    routes().into_openapi()
}

/// The document as text, the same for the same source.
#[must_use]
pub fn document_text() -> String {
    let value = serde_json::to_value(document()).expect("a document serialises");
    format!("{value:#}\n")
}

fn base() -> OpenApi {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("qwx")
        .description(Some("A token of a project: `Authorization: Bearer qwx_…`. The scope of an operation is the least role it needs; `root` is an admin of the project `default`."))
        .build();
    let info = InfoBuilder::new()
        .title("qwex")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Runs on many clusters: submitted, recorded, explained, delivered.",
        ))
        .license(Some(
            utoipa::openapi::LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ))
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme(access::SCHEME, SecurityScheme::Http(scheme))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f03_every_route_names_its_role() {
        AccessTable::of_routes().unwrap();
    }

    #[test]
    fn the_document_is_deterministic() {
        assert_eq!(document_text(), document_text());
    }
}

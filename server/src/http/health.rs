//! Whether this replica lives and can work, and its metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use qwex_api::Problem;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::params::{Query, flag};
use crate::telemetry::Metrics;

/// Asks whatever this replica needs; given by `cli`, which knows it.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Vec<Check>> + Send + Sync>;

/// One thing that a replica works with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    pub check: &'static str,
    pub ok: bool,
    /// Whether the replica takes no requests without it. What fails and is not needed makes it degraded.
    pub needed: bool,
    pub message: String,
}

/// Answer of `/readyz?verbose`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// Ready, and a part that it can do without for a while fails: the log archive.
    pub degraded: bool,
    pub checks: Vec<Check>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReadyParams {
    /// Lists every check
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<String>, example = "")]
    verbose: bool,
}

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(healthz))
        .routes(routes!(metrics))
}

/// Whether the process answers. Asks nothing of the database.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether this replica can take requests: database, schema, not leaving.
///
/// A log archive that does not take what it is given leaves it ready (200), since runs go on and no log is lost: a second
/// line names it as degraded, and says why and since when.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), params(ReadyParams), responses(
    (status = 200, description = "ready", content((String = "text/plain"), (Readiness = "application/json"))),
    (status = 503, description = "not ready", content((String = "text/plain"), (Readiness = "application/json"))),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
async fn readyz(State(app): State<Arc<App>>, Query(params): Query<ReadyParams>) -> Response {
    let mut checks = vec![Check {
        check: "draining",
        ok: !app.drain.is_draining(),
        needed: true,
        message: String::new(),
    }];
    checks.extend((app.probe)().await);
    let ready = checks.iter().all(|check| check.ok || !check.needed);
    let failing = checks.iter().filter(|check| !check.ok && !check.needed);
    let degraded: String = failing
        .map(|check| format!("degraded: {}: {}\n", check.check, check.message))
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if params.verbose {
        let body = Readiness {
            ready,
            degraded: ready && !degraded.is_empty(),
            checks,
        };
        (status, axum::Json(body)).into_response()
    } else if ready {
        (status, format!("ready\n{degraded}")).into_response()
    } else {
        (status, "not ready\n").into_response()
    }
}

/// The same as `/readyz`, for load balancers that know one name only.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), params(ReadyParams), responses(
    (status = 200, description = "ready", content((String = "text/plain"), (Readiness = "application/json"))),
    (status = 503, description = "not ready", content((String = "text/plain"), (Readiness = "application/json"))),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
async fn healthz(state: State<Arc<App>>, params: Query<ReadyParams>) -> Response {
    readyz(state, params).await
}

/// Metrics in the text format of Prometheus. Not here when they have an address of their own.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()), responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 404, description = "served on another address"),
))]
async fn metrics(State(app): State<Arc<App>>) -> Response {
    match &app.metrics {
        Some(metrics) => exposition(metrics),
        None => {
            super::error::HttpError::not_found("/metrics here: it has an address of its own").into_response()
        }
    }
}

/// The router of the address that serves metrics alone.
pub fn metrics_router(metrics: Metrics) -> axum::Router {
    axum::Router::new()
        .route(
            "/metrics",
            axum::routing::get(move || async move { exposition(&metrics) }),
        )
        .route("/livez", axum::routing::get(livez))
}

fn exposition(metrics: &Metrics) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics.render(),
    )
        .into_response()
}

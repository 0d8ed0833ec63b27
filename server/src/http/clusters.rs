//! Clusters: registered, looked at, drained, removed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use qwex_api::cluster::{AddCluster, AddedCluster, ClusterInfo};
use qwex_api::{Page, Problem};
use qwex_core::ClusterName;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Caller;
use super::body::Json;
use super::error::HttpResult;
use super::params::Path;
use super::{App, page};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(get, remove))
        .routes(routes!(drain))
        .routes(routes!(undrain))
}

/// Clusters, by name.
#[utoipa::path(get, path = "/v1/clusters", tag = "clusters", security(("token" = ["viewer"])), responses(
    (status = 200, body = Page<ClusterInfo>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn list(State(app): State<Arc<App>>) -> HttpResult<axum::Json<Page<ClusterInfo>>> {
    Ok(page::whole(app.clusters.list().await?))
}

/// Registers a cluster after it passed every check; its kubeconfig is stored sealed.
#[utoipa::path(post, path = "/v1/clusters", tag = "clusters", security(("token" = ["root"])), request_body = AddCluster,
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same answer")),
    responses(
        (status = 201, body = AddedCluster, headers(("Location" = String, description = "The cluster"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn add(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Json(request): Json<AddCluster>,
) -> HttpResult<Response> {
    let added = app.clusters.add(&who, request).await?;
    let location = format!("/v1/clusters/{}", added.cluster.name);
    Ok((StatusCode::CREATED, [(LOCATION, location)], axum::Json(added)).into_response())
}

/// One cluster.
#[utoipa::path(get, path = "/v1/clusters/{name}", tag = "clusters", security(("token" = ["viewer"])),
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = ClusterInfo),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn get(
    State(app): State<Arc<App>>,
    Path((name,)): Path<(ClusterName,)>,
) -> HttpResult<axum::Json<ClusterInfo>> {
    Ok(axum::Json(app.clusters.get(&name).await?))
}

/// Forgets a cluster on which no runs are. Its history stays.
#[utoipa::path(delete, path = "/v1/clusters/{name}", tag = "clusters", security(("token" = ["root"])),
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 204, description = "removed"),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn remove(State(app): State<Arc<App>>, Path((name,)): Path<(ClusterName,)>) -> HttpResult<StatusCode> {
    app.clusters.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a cluster take no new runs; those it has go on.
#[utoipa::path(post, path = "/v1/clusters/{name}/drain", tag = "clusters", security(("token" = ["root"])),
    params(("name" = String, Path, description = "Its name"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same answer")),
    responses(
        (status = 200, body = ClusterInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn drain(
    State(app): State<Arc<App>>,
    Path((name,)): Path<(ClusterName,)>,
) -> HttpResult<axum::Json<ClusterInfo>> {
    Ok(axum::Json(app.clusters.drain(&name).await?))
}

/// Lets a drained cluster take runs again.
#[utoipa::path(post, path = "/v1/clusters/{name}/undrain", tag = "clusters", security(("token" = ["root"])),
    params(("name" = String, Path, description = "Its name"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same answer")),
    responses(
        (status = 200, body = ClusterInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn undrain(
    State(app): State<Arc<App>>,
    Path((name,)): Path<(ClusterName,)>,
) -> HttpResult<axum::Json<ClusterInfo>> {
    Ok(axum::Json(app.clusters.undrain(&name).await?))
}

//! Projects.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use qwex_api::project::{CreateProject, ProjectInfo};
use qwex_api::{Page, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::access::Caller;
use super::body::Json;
use super::error::HttpResult;
use super::page::{self, PageParams, Pager};
use super::params::Query;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create))
}

/// Projects that the token sees, by name: its own, or all of them for an admin of the project `default`.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", security(("token" = ["viewer"])), params(PageParams), responses(
    (status = 200, body = Page<ProjectInfo>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(params): Query<PageParams>,
    uri: Uri,
) -> HttpResult<Response> {
    let scope = who.scope();
    let pager = Pager::new(&("projects", &scope));
    let (size, after) = params.read(&pager)?;
    let mut items = app.projects.list(&scope, after.as_deref(), size + 1).await?;
    let more = items.len() > size as usize;
    items.truncate(size as usize);
    let next_page_token = items
        .last()
        .filter(|_| more)
        .map(|last| pager.token(last.name.as_str()));
    Ok(page::answer(
        Page {
            items,
            next_page_token,
        },
        &uri,
    ))
}

/// Makes a project.
#[utoipa::path(post, path = "/v1/projects", tag = "projects", security(("token" = ["root"])), request_body = CreateProject,
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same answer")),
    responses(
        (status = 201, body = ProjectInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Json(request): Json<CreateProject>,
) -> HttpResult<(StatusCode, axum::Json<ProjectInfo>)> {
    let made = app.projects.create(&who, &request.name).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

//! Tokens of a project.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use qwex_api::token::{CreateToken, CreatedToken, TokenInfo};
use qwex_api::{Page, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Caller;
use super::body::Json;
use super::error::HttpResult;
use super::params::{Path, Query};
use super::scope::{self, ProjectParams};
use super::{App, kept, page};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
}

/// Tokens of the project, revoked ones too, newest first.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", security(("token" = ["admin"])), params(ProjectParams), responses(
    (status = 200, body = Page<TokenInfo>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(params): Query<ProjectParams>,
) -> HttpResult<axum::Json<Page<TokenInfo>>> {
    let scope = scope::of_list(&who, params.project)?;
    Ok(page::whole(app.projects.list_tokens(&scope).await?))
}

/// Makes a token. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", security(("token" = ["admin"])), request_body = CreateToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat does nothing twice and gets 409: the secret is shown once")),
    responses(
        (status = 201, body = CreatedToken, headers(("Location" = String, description = "The token"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Json(request): Json<CreateToken>,
) -> HttpResult<Response> {
    let made = app.projects.create_token(&who, &request).await?;
    let location = [(LOCATION, format!("/v1/tokens/{}", made.info.id))];
    Ok((StatusCode::CREATED, location, kept::secret(made)).into_response())
}

/// Revokes a token: it is refused within a second, and its open streams end.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "The public part of the token")), responses(
    (status = 204, description = "revoked"),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn revoke(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(String,)>,
) -> HttpResult<StatusCode> {
    app.projects.revoke_token(&who.scope(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

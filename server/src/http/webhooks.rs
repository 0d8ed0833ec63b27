//! Webhook endpoints of a project, and what they were and are owed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use qwex_api::webhook::{CreateWebhook, CreatedWebhook, DeliveryInfo, WebhookInfo};
use qwex_api::{Page, Problem};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Caller;
use super::body::Json;
use super::error::HttpResult;
use super::page::{self, PageParams, Pager};
use super::params::{Path, Query};
use super::scope::{self, ProjectParams};
use super::{App, kept};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, remove))
        .routes(routes!(test))
        .routes(routes!(rotate))
        .routes(routes!(deliveries))
        .routes(routes!(replay))
}

/// Webhooks of the project, newest first.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", security(("token" = ["admin"])), params(ProjectParams), responses(
    (status = 200, body = Page<WebhookInfo>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(params): Query<ProjectParams>,
) -> HttpResult<axum::Json<Page<WebhookInfo>>> {
    let scope = scope::of_list(&who, params.project)?;
    Ok(page::whole(app.webhooks.list(&scope).await?))
}

/// Makes a webhook in the token's project. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", security(("token" = ["admin"])), request_body = CreateWebhook,
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat does nothing twice and gets 409: the secret is shown once")),
    responses(
        (status = 201, body = CreatedWebhook, headers(("Location" = String, description = "The webhook"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Json(request): Json<CreateWebhook>,
) -> HttpResult<Response> {
    let made = app.webhooks.create(&who, request).await?;
    let location = [(LOCATION, format!("/v1/webhooks/{}", made.webhook.id))];
    Ok((StatusCode::CREATED, location, kept::secret(made)).into_response())
}

/// One webhook.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "`ep_…`")), responses(
    (status = 200, body = WebhookInfo),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn get(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(String,)>,
) -> HttpResult<axum::Json<WebhookInfo>> {
    Ok(axum::Json(app.webhooks.get(&who.scope(), &id).await?))
}

/// Removes a webhook. What it is still owed is not delivered.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "`ep_…`")), responses(
    (status = 204, description = "removed"),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
    (status = "5XX", body = Problem, content_type = "application/problem+json"),
))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(String,)>,
) -> HttpResult<StatusCode> {
    app.webhooks.remove(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Owes the webhook a `webhook.test`. One that arrives at a disabled webhook enables it again.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", tag = "webhooks", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "`ep_…`"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same answer")),
    responses(
        (status = 202, body = DeliveryInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn test(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(String,)>,
) -> HttpResult<(StatusCode, axum::Json<DeliveryInfo>)> {
    let owed = app.webhooks.test(&who, &id).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(owed)))
}

/// Gives the webhook a new secret, shown in this answer only. For a day the old one signs as well.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate", tag = "webhooks", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "`ep_…`"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat does nothing twice and gets 409: the secret is shown once")),
    responses(
        (status = 200, body = CreatedWebhook),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn rotate(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(String,)>,
) -> HttpResult<Response> {
    Ok(kept::secret(app.webhooks.rotate(&who, &id).await?))
}

/// What the webhook was and is owed, newest first.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "webhooks", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "`ep_…`"), PageParams),
    responses(
        (status = 200, body = Page<DeliveryInfo>, headers(("Link" = String, description = "The next page"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn deliveries(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id,)): Path<(String,)>,
    Query(params): Query<PageParams>,
    uri: Uri,
) -> HttpResult<Response> {
    let pager = Pager::new(&("deliveries", &id));
    let (size, after) = params.read(&pager)?;
    let page = app
        .webhooks
        .deliveries(&who.scope(), &id, after.as_deref(), size)
        .await?;
    let next_page_token = page.next.map(|last| pager.token(&last));
    let items = page.deliveries;
    Ok(page::answer(
        Page {
            items,
            next_page_token,
        },
        &uri,
    ))
}

/// Delivers anew, at once and with all tries: same id, same bytes.
#[utoipa::path(post, path = "/v1/webhooks/{id}/deliveries/{delivery}/replay", tag = "webhooks", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "`ep_…`"), ("delivery" = String, Path, description = "Id of the delivery"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat gets the same answer")),
    responses(
        (status = 202, body = DeliveryInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn replay(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, delivery)): Path<(String, String)>,
) -> HttpResult<(StatusCode, axum::Json<DeliveryInfo>)> {
    let owed = app.webhooks.replay(&who, &id, &delivery).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(owed)))
}

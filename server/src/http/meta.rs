//! The server about itself and the caller.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use qwex_api::Problem;
use qwex_api::meta::{Meta, WhoAmI};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::access::Caller;

/// The oldest client that this server understands.
const OLDEST_CLIENT: &str = "0.1.0";

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(meta)).routes(routes!(whoami))
}

/// Versions of the server and of the clients it serves.
///
/// Tokens look like `qwx_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}`; the last six characters are the CRC-32 of what stands
/// before them, in base62: a scanner of leaked secrets can be sure of a find.
#[utoipa::path(get, path = "/v1/meta", tag = "meta", security(()), responses((status = 200, body = Meta)))]
async fn meta(State(app): State<Arc<App>>) -> Json<Meta> {
    Json(Meta {
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: "v1".to_owned(),
        min_client_version: OLDEST_CLIENT.to_owned(),
        dev: app.dev,
    })
}

/// Who the token is.
#[utoipa::path(get, path = "/v1/whoami", tag = "meta", security(("token" = ["viewer"])), responses(
    (status = 200, body = WhoAmI),
    (status = 401, body = Problem, content_type = "application/problem+json"),
))]
async fn whoami(Caller(who): Caller) -> Json<WhoAmI> {
    Json(WhoAmI {
        principal: who.label(),
        token_id: who.token_id.clone(),
        project: who.project.clone(),
        role: who.role,
        expires_at: who.expires_at.map(|at| at.to_string()),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_publishes_the_shape_of_tokens() {
        let document = serde_json::to_string(&super::super::document()).unwrap();
        assert!(document.contains(crate::auth::TOKEN_REGEX));
    }
}

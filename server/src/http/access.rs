//! Who may call which route. The law is the document: each operation names its role in `security`, and this layer
//! reads it there, so that a route cannot be served under another right than the one it is documented with.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use qwex_api::ErrorCode;
use qwex_api::token::Role;
use serde_json::Value;

use super::App;
use super::error::{HttpError, HttpResult};
use super::upload::pass_over;
use crate::auth::{AuthError, Principal};

/// Name of the security scheme in the document.
pub const SCHEME: &str = "token";

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Role(Role),
    /// An admin of the project `default`.
    Root,
}

/// What each documented operation needs.
#[derive(Debug, Default)]
pub struct AccessTable(HashMap<String, HashMap<Method, Needs>>);

impl AccessTable {
    /// What the routes of this server need.
    ///
    /// # Errors
    /// An operation without `security`, or with a role that is not known: a mistake in a handler's attribute.
    pub fn of_routes() -> Result<Self, String> {
        let document = serde_json::to_value(super::document()).map_err(|error| error.to_string())?;
        Self::of(&document)
    }

    /// Reads a document.
    fn of(document: &Value) -> Result<Self, String> {
        let mut table = Self::default();
        let paths = document["paths"].as_object().ok_or("the document has no paths")?;
        for (path, item) in paths {
            for (word, operation) in item.as_object().into_iter().flatten() {
                let Ok(method) = Method::from_bytes(word.to_ascii_uppercase().as_bytes()) else {
                    continue;
                };
                let needs = needs(operation).ok_or_else(|| format!("{word} {path} names no known role"))?;
                table.0.entry(path.clone()).or_default().insert(method, needs);
            }
        }
        Ok(table)
    }

    fn find(&self, path: &str, method: &Method) -> Documented {
        let Some(methods) = self.0.get(path) else {
            return Documented::No;
        };
        // axum answers HEAD with the handler of GET.
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        methods
            .get(method)
            .map_or(Documented::OtherMethod, |needs| Documented::Yes(*needs))
    }
}

enum Documented {
    Yes(Needs),
    OtherMethod,
    No,
}

/// `security: [{}]` is open to all; else the one scope of our scheme is a role.
fn needs(operation: &Value) -> Option<Needs> {
    let requirement = operation.get("security")?.as_array()?.first()?.as_object()?;
    let Some(scopes) = requirement.get(SCHEME) else {
        return requirement.is_empty().then_some(Needs::Nothing);
    };
    match scopes.as_array()?.first()?.as_str()? {
        "root" => Some(Needs::Root),
        word => Role::from_word(word).map(Needs::Role),
    }
}

/// Lets a request through to its handler, with its [`Principal`] in the extensions.
pub async fn layer(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let needs = match app.access.find(path.as_str(), request.method()) {
        Documented::Yes(Needs::Nothing) | Documented::OtherMethod => return next.run(request).await,
        Documented::Yes(needs) => needs,
        Documented::No => return HttpError::internal("a route without a document").into_response(),
    };
    match admit(&app, request.headers(), needs).await {
        Ok(principal) => {
            tracing::Span::current().record("token", &principal.token_id);
            request.extensions_mut().insert(Caller(principal));
            next.run(request).await
        }
        Err(error) => {
            if error.code() == ErrorCode::Forbidden {
                pass_over(request.into_body().into_data_stream()).await;
            }
            error.into_response()
        }
    }
}

async fn admit(app: &App, headers: &HeaderMap, needs: Needs) -> HttpResult<Arc<Principal>> {
    let text = bearer(headers)?;
    let principal = app
        .auth
        .authenticate(text)
        .await
        .map_err(|error| refuse(&error))?;
    if let Err(seconds) = app.limiter.take(&principal.token_id) {
        metrics::counter!("qwex_http_rate_limited_total").increment(1);
        let detail = "this token makes more requests than the server takes from one token";
        return Err(HttpError::new(ErrorCode::RateLimited, detail).with_retry_after(seconds));
    }
    let (allowed, needed) = match needs {
        Needs::Nothing => (true, "no token"),
        Needs::Role(role) => (principal.role >= role, role.as_str()),
        Needs::Root => (principal.is_root(), "admin of the project default"),
    };
    if allowed {
        return Ok(principal);
    }
    let have = format!("{} of the project {}", principal.role.as_str(), principal.project);
    let detail = format!("this needs {needed}; the token is {have}");
    Err(HttpError::new(ErrorCode::Forbidden, detail)
        .with_hint("ask an admin of the project for a token of that role"))
}

fn bearer(headers: &HeaderMap) -> HttpResult<&str> {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.ok_or_else(|| {
        count("missing");
        HttpError::new(ErrorCode::Unauthenticated, "the request has no token")
            .with_hint("send the header `Authorization: Bearer qwx_…`")
    })
}

/// Why nobody is let in, without telling which part of the token was wrong.
pub fn refuse(error: &AuthError) -> HttpError {
    match error {
        AuthError::Malformed => {
            count("malformed");
            HttpError::new(
                ErrorCode::Unauthenticated,
                "the token is not well formed: its checksum is wrong",
            )
            .with_hint("copy the whole token, from qwx_ to its last character")
        }
        AuthError::Unknown => {
            count("unknown");
            HttpError::new(ErrorCode::Unauthenticated, "the token is unknown or was revoked")
                .with_hint("ask an admin of the project for a new one")
        }
        AuthError::Expired { at } => {
            count("expired");
            HttpError::new(ErrorCode::TokenExpired, format!("the token expired at {at}"))
                .with_hint("ask an admin of the project for a new one")
        }
        AuthError::Db(cause) => HttpError::unavailable(cause.to_string()),
    }
}

fn count(reason: &'static str) {
    metrics::counter!("qwex_auth_failures_total", "reason" => reason).increment(1);
}

/// The principal of this request. Only routes that need a token have one.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> HttpResult<Self> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| HttpError::internal("a handler asks for the caller of an open route"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_are_read_from_the_document() {
        for (security, expected) in [
            (json!([{}]), Some(Needs::Nothing)),
            (json!([{"token": ["viewer"]}]), Some(Needs::Role(Role::Viewer))),
            (json!([{"token": ["root"]}]), Some(Needs::Root)),
            (json!([{"token": ["king"]}]), None),
            (json!([{"token": []}]), None),
            (json!([{"other": []}]), None),
            (json!([]), None),
        ] {
            assert_eq!(needs(&json!({ "security": security })), expected, "{security}");
        }
        assert_eq!(needs(&json!({})), None);
    }

    #[test]
    fn an_operation_without_a_role_is_refused_at_start() {
        let document = json!({"paths": {"/v1/x": {"get": {}}}});
        assert_eq!(
            AccessTable::of(&document).unwrap_err(),
            "get /v1/x names no known role"
        );
    }

    #[test]
    fn a_bearer_token_is_found() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers).unwrap_err().code(), ErrorCode::Unauthenticated);
        headers.insert(AUTHORIZATION, "bearer qwx_x".parse().unwrap());
        assert_eq!(bearer(&headers).unwrap(), "qwx_x");
        headers.insert(AUTHORIZATION, "Basic qwx_x".parse().unwrap());
        assert!(bearer(&headers).is_err());
    }
}

//! F03: every route of the OpenAPI document, asked by every identity. A route that is not in the table below fails, so
//! that none is forgotten.

use anyhow::{Context, Result, ensure};
use qwex_suite::{Api, Server};
use reqwest::Method;
use serde_json::{Value, json};

use crate::imports::record;

/// The least that a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Least {
    Nobody,
    Viewer,
    Submitter,
    Admin,
    /// An admin of the project `default`.
    Root,
}

/// Written down by hand: what the document says must be this.
const ROUTES: &[(&str, &str, Least)] = &[
    ("GET", "/livez", Least::Nobody),
    ("GET", "/readyz", Least::Nobody),
    ("GET", "/healthz", Least::Nobody),
    ("GET", "/metrics", Least::Nobody),
    ("GET", "/v1/meta", Least::Nobody),
    ("GET", "/v1/whoami", Least::Viewer),
    ("GET", "/v1/runs", Least::Viewer),
    ("POST", "/v1/runs", Least::Submitter),
    ("GET", "/v1/runs/{id}", Least::Viewer),
    ("PUT", "/v1/runs/{id}", Least::Submitter),
    ("PUT", "/v1/runs/{id}/import", Least::Submitter),
    ("POST", "/v1/runs/{id}/cancel", Least::Submitter),
    ("POST", "/v1/runs/{id}/rerun", Least::Submitter),
    ("GET", "/v1/runs/{id}/events", Least::Viewer),
    ("GET", "/v1/runs/{id}/attempts", Least::Viewer),
    ("GET", "/v1/runs/{id}/why", Least::Viewer),
    ("GET", "/v1/runs/{id}/logs", Least::Viewer),
    ("GET", "/v1/runs/{id}/logs/streams", Least::Viewer),
    ("GET", "/v1/clusters", Least::Viewer),
    ("POST", "/v1/clusters", Least::Root),
    ("GET", "/v1/clusters/{name}", Least::Viewer),
    ("DELETE", "/v1/clusters/{name}", Least::Root),
    ("POST", "/v1/clusters/{name}/drain", Least::Root),
    ("POST", "/v1/clusters/{name}/undrain", Least::Root),
    ("GET", "/v1/tokens", Least::Admin),
    ("POST", "/v1/tokens", Least::Admin),
    ("DELETE", "/v1/tokens/{id}", Least::Admin),
    ("GET", "/v1/projects", Least::Viewer),
    ("POST", "/v1/projects", Least::Root),
    ("GET", "/v1/webhooks", Least::Admin),
    ("POST", "/v1/webhooks", Least::Admin),
    ("GET", "/v1/webhooks/{id}", Least::Admin),
    ("DELETE", "/v1/webhooks/{id}", Least::Admin),
    ("POST", "/v1/webhooks/{id}/test", Least::Admin),
    ("POST", "/v1/webhooks/{id}/rotate", Least::Admin),
    ("GET", "/v1/webhooks/{id}/deliveries", Least::Admin),
    (
        "POST",
        "/v1/webhooks/{id}/deliveries/{delivery}/replay",
        Least::Admin,
    ),
];

/// The documented routes with the role each asks for.
fn documented(document: &Value) -> Result<Vec<(String, String, Least)>> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().context("no paths")? {
        for (method, operation) in item.as_object().context("no operations")? {
            let scope = operation["security"][0]["token"][0].as_str();
            let least = match scope {
                None => Least::Nobody,
                Some("viewer") => Least::Viewer,
                Some("submitter") => Least::Submitter,
                Some("admin") => Least::Admin,
                Some("root") => Least::Root,
                Some(other) => anyhow::bail!("{method} {path} asks for {other}"),
            };
            routes.push((method.to_uppercase(), path.clone(), least));
        }
    }
    Ok(routes)
}

/// Fresh objects of the project `alpha`, for one call that may destroy them.
async fn path_of(pattern: &str, owner: &Api) -> Result<String> {
    if !pattern.contains('{') {
        return Ok(pattern.to_owned());
    }
    if pattern.starts_with("/v1/runs/") {
        let run = owner.submit(&json!({"command": ["true"]})).await?;
        return Ok(pattern.replace("{id}", &run.id.to_string()));
    }
    if pattern.starts_with("/v1/clusters/") {
        return Ok(pattern.replace("{name}", "local"));
    }
    if pattern.starts_with("/v1/tokens/") {
        let name = format!("t-{}", uuid::Uuid::now_v7());
        let made = owner
            .post("/v1/tokens", &json!({"name": name, "role": "viewer"}))
            .await?
            .expect(201)?
            .json();
        return Ok(pattern.replace("{id}", made["info"]["id"].as_str().context("no token id")?));
    }
    let made = owner
        .post("/v1/webhooks", &json!({"url": "http://127.0.0.1:9/sink"}))
        .await?
        .expect(201)?
        .json();
    let webhook = made["webhook"]["id"]
        .as_str()
        .context("no webhook id")?
        .to_owned();
    let test = owner
        .post(&format!("/v1/webhooks/{webhook}/test"), &json!({}))
        .await?
        .expect(202)?
        .json();
    let delivery = test["id"].as_str().context("no delivery id")?;
    Ok(pattern.replace("{id}", &webhook).replace("{delivery}", delivery))
}

fn body_of(method: &str, pattern: &str) -> Option<Value> {
    let unique = uuid::Uuid::now_v7().simple().to_string();
    Some(match (method, pattern) {
        ("POST" | "PUT", "/v1/runs" | "/v1/runs/{id}") => json!({"command": ["true"]}),
        ("POST", "/v1/projects") => json!({"name": format!("p-{unique}")}),
        ("POST", "/v1/tokens") => json!({"name": unique, "role": "viewer"}),
        ("POST", "/v1/webhooks") => json!({"url": "http://127.0.0.1:9/sink"}),
        // Refused after the right was checked: nothing is registered.
        ("POST", "/v1/clusters") => json!({"name": "x", "kubeconfig": "not a kubeconfig"}),
        ("POST", _) => json!({}),
        _ => return None,
    })
}

async fn call(who: &Api, method: &str, pattern: &str, owner: &Api) -> Result<(u16, Value, String)> {
    let path = path_of(pattern, owner).await?;
    let method = Method::from_bytes(method.as_bytes())?;
    let body = match path.strip_suffix("/import") {
        Some(run) => Some(record(run.trim_start_matches("/v1/runs/"), b"")),
        None => body_of(method.as_str(), pattern),
    };
    let reply = who.send(method, &path, body.as_ref(), &[]).await?;
    Ok((reply.status.as_u16(), reply.json(), path))
}

#[tokio::test]
async fn f03_every_route_refuses_whom_it_must() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let root = &server.api;
    let document = root.get("/openapi.json").await?.expect(200)?.json();
    let routes = documented(&document)?;
    for (method, path, least) in ROUTES {
        let found = routes.iter().find(|(m, p, _)| m == method && p == path);
        ensure!(
            found.map(|(_, _, least)| *least) == Some(*least),
            "{method} {path} should need {least:?}: {found:?}"
        );
    }
    for (method, path, _) in &routes {
        ensure!(
            ROUTES.iter().any(|(m, p, _)| m == method && p == path),
            "{method} {path} is a route without a line in this table: who may call it?"
        );
    }
    let owner = server.project("alpha", "admin").await?;
    let viewer = server.project("alpha", "viewer").await?;
    let submitter = server.project("alpha", "submitter").await?;
    let nobody = root.with_token("");
    let identities = [
        ("no token", &nobody, Least::Nobody),
        ("viewer", &viewer, Least::Viewer),
        ("submitter", &submitter, Least::Submitter),
        ("admin", &owner, Least::Admin),
        ("root", root, Least::Root),
    ];
    for (method, pattern, least) in ROUTES {
        for (name, who, is) in &identities {
            // The root's removal of the one cluster would end the test of the others.
            if (*method, *pattern, *is) == ("DELETE", "/v1/clusters/{name}", Least::Root) {
                continue;
            }
            let (status, body, path) = call(who, method, pattern, &owner).await?;
            let wanted = match (is, is >= least) {
                (_, true) => "neither 401, 403 nor 404",
                (Least::Nobody, false) => "401",
                (_, false) => "403",
            };
            let right = match wanted {
                "401" => status == 401 && body["code"] == "unauthenticated",
                "403" => status == 403 && body["code"] == "forbidden",
                _ => ![401, 403, 404].contains(&status) && status != 500,
            };
            ensure!(
                right,
                "{method} {path} as {name}: wanted {wanted}, got {status} {body}"
            );
        }
    }
    server.settle(&[&owner.token, &root.token]).await
}

#[tokio::test]
async fn f03_another_projects_objects_are_not_found_on_any_route() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let owner = server.project("alpha", "admin").await?;
    let stranger = server.project("beta", "admin").await?;
    for (method, pattern, least) in ROUTES {
        let of_project = ["/v1/runs/", "/v1/tokens/", "/v1/webhooks/"];
        if *least == Least::Root || !of_project.iter().any(|prefix| pattern.starts_with(prefix)) {
            continue;
        }
        let (status, body, path) = call(&stranger, method, pattern, &owner).await?;
        // A run id that is taken in another project cannot be used, and nothing is told of the run.
        let wanted = if *method == "PUT" { 409 } else { 404 };
        ensure!(
            status == wanted,
            "{method} {path}: wanted {wanted}, got {status} {body}"
        );
        ensure!(
            !body.to_string().contains("alpha"),
            "{method} {path} tells of the other project: {body}"
        );
    }
    let run = owner
        .submit(&json!({"command": ["true"], "name": "secret-name"}))
        .await?;
    for list in ["/v1/runs", "/v1/tokens", "/v1/webhooks", "/v1/projects"] {
        let page = stranger.get(list).await?.expect(200)?.json().to_string();
        ensure!(
            !page.contains("alpha") && !page.contains(&run.id.to_string()),
            "{list} tells of alpha: {page}"
        );
    }
    for list in [
        "/v1/runs?project=alpha",
        "/v1/tokens?project=alpha",
        "/v1/webhooks?project=alpha",
    ] {
        stranger.get(list).await?.expect(404)?;
        server.api.get(list).await?.expect(200)?;
    }
    let body = json!({"command": ["true"], "project": "alpha"});
    stranger.post("/v1/runs", &body).await?.expect(404)?;
    let token = json!({"name": "x", "role": "admin", "project": "alpha"});
    stranger.post("/v1/tokens", &token).await?.expect(404)?;
    Ok(())
}

//! Bad input of every kind: a clear problem each, with code, pointer and request id; nothing lost, no 500.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use qwex_suite::{Api, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends a body as it is.
async fn raw(api: &Api, body: impl Into<reqwest::Body>, content_type: &str) -> Result<reqwest::Response> {
    let request = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(format!("{}/v1/runs", api.base));
    Ok(request
        .bearer_auth(&api.token)
        .header("content-type", content_type)
        .body(body)
        .send()
        .await?)
}

async fn problem(response: reqwest::Response) -> Result<(u16, Value)> {
    let status = response.status().as_u16();
    let id = response.headers()["x-request-id"].to_str()?.to_owned();
    ensure!(
        response.headers()["content-type"] == "application/problem+json",
        "{response:?}"
    );
    let body: Value = response.json().await?;
    ensure!(body["instance"] == id && body["status"] == status, "{body}");
    ensure!(
        body["title"].is_string() && body["detail"].is_string() && body["code"].is_string(),
        "{body}"
    );
    Ok((status, body))
}

#[tokio::test]
async fn bad_bodies_are_refused_with_the_field_that_is_wrong() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let long = "n".repeat(300);
    let table = [
        (r#"{"command":["a"],"imgae":"x"}"#.to_owned(), 422, "/imgae"),
        (
            r#"{"command":["a"],"status":"succeeded"}"#.to_owned(),
            422,
            "/status",
        ),
        (
            r#"{"command":["a"],"resources":{"cpus":1}}"#.to_owned(),
            422,
            "/resources/cpus",
        ),
        ("{}".to_owned(), 422, "/command"),
        (r#"{"command":[]}"#.to_owned(), 422, "/command"),
        (r#"{"command":"echo hi","image":"a b"}"#.to_owned(), 422, "/image"),
        (r#"{"command":["a"],"name":"a/b"}"#.to_owned(), 422, "/name"),
        (format!(r#"{{"command":["a"],"name":"{long}"}}"#), 422, "/name"),
        (
            r#"{"command":["a"],"env":{"A":"x\u0000y"}}"#.to_owned(),
            422,
            "/env/A",
        ),
        (
            r#"{"command":["a"],"cluster":"No Such"}"#.to_owned(),
            422,
            "/cluster",
        ),
        (r#"{"command":["a"],"id":"0199"}"#.to_owned(), 422, "/id"),
        (r#"{"command":["a"],"timeout":"-5s"}"#.to_owned(), 422, "/timeout"),
        (
            r#"{"command":["a"],"resources":{"memory":"lots"}}"#.to_owned(),
            422,
            "/resources/memory",
        ),
        (
            r#"{"command":["a"],"retry":{"limit":-1}}"#.to_owned(),
            422,
            "/retry/limit",
        ),
    ];
    for (body, status, pointer) in table {
        let (got, problem) = problem(raw(&server.api, body.clone(), "application/json").await?).await?;
        ensure!(got == status, "{body}: {problem}");
        let pointers: Vec<&str> = problem["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["pointer"].as_str())
            .collect();
        ensure!(pointers.contains(&pointer), "{body}: {problem}");
    }
    Ok(())
}

#[tokio::test]
async fn f06_what_is_no_json_too_big_or_too_deep_is_refused_before_it_is_read() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = &server.api;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, kind, status, code) in [
        (b"{".to_vec(), "application/json", 400, "invalid_body"),
        (b"\xff\xfe".to_vec(), "application/json", 400, "invalid_body"),
        (
            b"{\"command\":[\"\xff\"]}".to_vec(),
            "application/json",
            400,
            "invalid_body",
        ),
        (
            b"command: [a]".to_vec(),
            "application/yaml",
            415,
            "unsupported_media_type",
        ),
        (
            deep.clone().into_bytes(),
            "application/json",
            422,
            "invalid_field",
        ),
        (
            format!(r#"{{"command":{deep}}}"#).into_bytes(),
            "application/json",
            400,
            "invalid_body",
        ),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let (got, problem) = problem(raw(api, body, kind).await?).await?;
        // Too deep is too deep, whichever comes first: the depth or the type.
        let refused = got == status || (shown.starts_with('[') && got == 400);
        ensure!(
            refused && (problem["code"] == code || shown.starts_with('[')),
            "{shown}: {problem}"
        );
    }
    let (status, body) = too_large(api).await?;
    ensure!(
        status == 413 && body.contains("body_too_large"),
        "{status} {body}"
    );
    ensure!(api.get("/livez").await?.status == 200);
    Ok(())
}

/// 10 MiB announced: refused by the announcement, before a byte of it is sent.
async fn too_large(api: &Api) -> Result<(u16, String)> {
    let mut socket = tokio::net::TcpStream::connect(api.base.trim_start_matches("http://")).await?;
    let mut head = Vec::new();
    write!(
        head,
        "POST /v1/runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        api.token,
        10 * 1024 * 1024
    )?;
    socket.write_all(&head).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .with_context(|| text.clone())?;
    Ok((status, text))
}

#[tokio::test]
async fn bad_parameters_paths_and_methods_are_told() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let api = &server.api;
    let other = api.get("/v1/runs?status=failed&page_size=1").await?.expect(200)?;
    ensure!(other.headers.get("link").is_none());
    for (path, status, code) in [
        ("/v1/runs?statuss=failed", 400, "invalid_parameter"),
        ("/v1/runs?status=done", 400, "invalid_parameter"),
        ("/v1/runs?page_size=0", 400, "invalid_parameter"),
        ("/v1/runs?page_size=many", 400, "invalid_parameter"),
        ("/v1/runs?label=novalue", 400, "invalid_parameter"),
        ("/v1/runs?name=%00", 400, "invalid_parameter"),
        ("/v1/runs?page_token=nonsense", 400, "invalid_cursor"),
        ("/v1/runs/not-an-id", 400, "invalid_parameter"),
        ("/v1/runs/01a1fd92-fb06-7627-b44b-48ffa16d9bd9", 404, "not_found"),
        (
            "/v1/runs/01a1fd92-fb06-7627-b44b-48ffa16d9bd9/logs",
            404,
            "not_found",
        ),
        ("/v1/clusters/No%20Such", 404, "not_found"),
        ("/v1/webhooks/%00", 404, "not_found"),
        ("/v1/nothing", 404, "not_found"),
        (
            "/v1/runs/01a1fd92-fb06-7627-b44b-48ffa16d9bd9/cancel",
            405,
            "method_not_allowed",
        ),
    ] {
        let reply = api
            .get(path)
            .await?
            .expect(status)
            .with_context(|| path.to_owned())?;
        ensure!(reply.json()["code"] == code, "{path}: {reply:?}");
        ensure!(reply.headers["x-content-type-options"] == "nosniff");
    }
    Ok(())
}

#[tokio::test]
async fn f13_a_dead_or_dangerous_kubeconfig_is_not_stored() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let server = Server::start().await?;
    let config = |user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:9'}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        )
    };
    let exec =
        "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true, interactiveMode: Never}}";
    for kubeconfig in [
        "".to_owned(),
        "just text".to_owned(),
        config("{token: t}"),
        config(exec),
    ] {
        let body = json!({"name": "dead", "kubeconfig": kubeconfig});
        let reply = server
            .api
            .post("/v1/clusters", &body)
            .await?
            .expect(422)
            .with_context(|| kubeconfig.clone())?;
        ensure!(!reply.json()["detail"].to_string().is_empty());
        server.api.get("/v1/clusters/dead").await?.expect(404)?;
    }
    Ok(())
}

//! Commands on runs against a server that answers as the API says.

use qwex_core::RunId;
use serde_json::{Value, json};
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{User, row, run, seen};

async fn answers(server: &MockServer, verb: &str, at: &str, status: u16, body: Value) {
    Mock::given(method(verb))
        .and(path(at))
        .respond_with(ResponseTemplate::new(status).set_body_json(body))
        .mount(server)
        .await;
}

#[tokio::test]
async fn json_is_the_object_of_the_api_with_what_a_newer_server_adds() {
    let server = MockServer::start().await;
    let id = RunId::mint();
    let body = run(id, "running", json!({"started_at": "2026-01-01T00:00:01Z"}));
    answers(&server, "GET", &format!("/v1/runs/{id}"), 200, body.clone()).await;
    let user = User::new();
    let id_text = id.to_string();
    for format in ["json", "jsonl"] {
        let seen = seen(user.at(&server.uri(), &["get", &id_text, "-o", format]));
        assert_eq!(seen.code, 0, "{}", seen.err);
        assert_eq!(
            serde_json::from_str::<Value>(&seen.out).unwrap(),
            body,
            "{format}"
        );
    }
    let name = seen(user.at(&server.uri(), &["get", &id_text, "-q"]));
    assert_eq!(name.out.trim(), id_text);
    let yaml = seen(user.at(&server.uri(), &["get", &id_text, "-o", "yaml"]));
    assert!(yaml.out.contains("of_a_newer_server:"), "{}", yaml.out);
}

#[tokio::test]
async fn ps_reads_page_after_page_and_prints_a_table() {
    let server = MockServer::start().await;
    let (first, second) = (RunId::mint(), RunId::mint());
    Mock::given(path("/v1/runs"))
        .and(query_param("page_token", "next"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"items": [row(second, "failed")]})))
        .mount(&server)
        .await;
    answers(
        &server,
        "GET",
        "/v1/runs",
        200,
        json!({"items": [row(first, "running")], "next_page_token": "next"}),
    )
    .await;
    let user = User::new();
    let table = seen(user.at(&server.uri(), &["ps"]));
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", table.out);
    assert!(lines[0].starts_with("ID") && lines[0].contains("STATUS") && !lines[0].ends_with(' '));
    assert!(lines[1].contains(&first.to_string()) && lines[2].contains("failed"));
    let bare = seen(user.at(&server.uri(), &["ps", "--no-headers", "-n", "1"]));
    assert_eq!(bare.out.lines().count(), 1);
    let json = seen(user.at(&server.uri(), &["ps", "-o", "json"]));
    let listed: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let ids = seen(user.at(&server.uri(), &["ps", "-q"]));
    assert_eq!(ids.out, format!("{first}\n{second}\n"));
}

#[tokio::test]
async fn a_run_is_named_by_prefix_name_and_place() {
    let server = MockServer::start().await;
    let (id, other) = (RunId::mint(), RunId::mint());
    let list = |name: &'static str, value: &'static str, items: Value| {
        Mock::given(path("/v1/runs"))
            .and(query_param(name, value))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({"items": items})))
    };
    list("id_prefix", "0199", json!([row(id, "running")]))
        .mount(&server)
        .await;
    list(
        "id_prefix",
        "01ab",
        json!([row(id, "running"), row(other, "running")]),
    )
    .mount(&server)
    .await;
    list("id_prefix", "cafe", json!([])).mount(&server).await;
    list("name", "cafe", json!([row(id, "running")]))
        .mount(&server)
        .await;
    list("name", "train", json!([row(id, "running")]))
        .mount(&server)
        .await;
    list("name", "nobody", json!([])).mount(&server).await;
    list("status", "failed", json!([row(id, "failed")]))
        .mount(&server)
        .await;
    answers(
        &server,
        "GET",
        "/v1/runs",
        200,
        json!({"items": [row(id, "running")]}),
    )
    .await;
    answers(
        &server,
        "GET",
        &format!("/v1/runs/{id}"),
        200,
        run(id, "running", Value::Null),
    )
    .await;
    let user = User::new();
    for word in ["0199", "cafe", "train", "@latest", "@last-failed"] {
        let seen = seen(user.at(&server.uri(), &["get", word, "-q"]));
        assert_eq!(seen.out.trim(), id.to_string(), "{word}: {}", seen.err);
    }
    let several = seen(user.at(&server.uri(), &["get", "01ab"]));
    assert_eq!(several.code, 6);
    assert!(several.err.contains(&other.to_string()), "{}", several.err);
    assert_eq!(seen(user.at(&server.uri(), &["get", "nobody"])).code, 3);
}

#[tokio::test]
async fn a_detached_run_prints_its_id_and_is_what_was_asked() {
    let server = MockServer::start().await;
    let id = RunId::mint();
    answers(&server, "POST", "/v1/runs", 201, run(id, "pending", Value::Null)).await;
    let user = User::new();
    let id_text = id.to_string();
    let seen = seen(user.at(
        &server.uri(),
        &[
            "run",
            "--remote",
            "-d",
            "--id",
            &id_text,
            "--name",
            "train",
            "-l",
            "a=b",
            "-e",
            "X=y=z",
            "--cpu",
            "2",
            "--memory",
            "4Gi",
            "--timeout",
            "1h",
            "--retries",
            "2",
            "--",
            "python",
            "-c",
            "print('hi')",
            "--",
            "-x",
        ],
    ));
    assert_eq!(
        (seen.code, seen.out.trim()),
        (0, id_text.as_str()),
        "{}",
        seen.err
    );
    let requests = server.received_requests().await.unwrap();
    let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(body["id"], json!(id));
    assert_eq!(
        body["command"],
        json!(["python", "-c", "print('hi')", "--", "-x"])
    );
    assert_eq!(body["env"], json!({"X": "y=z"}));
    assert_eq!(body["resources"], json!({"cpu": "2", "memory": "4Gi"}));
    assert_eq!(body["retry"]["limit"], json!(2));
    assert_eq!(requests[0].headers["authorization"], "Bearer qwx_test");
}

#[tokio::test]
async fn wait_gives_the_runs_own_exit_code() {
    let server = MockServer::start().await;
    let user = User::new();
    for (status, more, code) in [
        ("succeeded", json!({"exit_code": 0}), 0),
        (
            "failed",
            json!({"exit_code": 42, "failure": {"code": "exit_code", "message": "exit code 42"}}),
            42,
        ),
        (
            "failed",
            json!({"failure": {"code": "oom", "message": "killed", "signal": 9}}),
            137,
        ),
        (
            "failed",
            json!({"failure": {"code": "image", "message": "no such image"}}),
            125,
        ),
        ("cancelled", json!({}), 9),
        ("cancelled", json!({"exit_code": 143}), 9),
    ] {
        let id = RunId::mint();
        answers(
            &server,
            "GET",
            &format!("/v1/runs/{id}"),
            200,
            run(id, status, more),
        )
        .await;
        let seen = seen(user.at(&server.uri(), &["wait", &id.to_string()]));
        assert_eq!(seen.code, code, "{status}: {}", seen.err);
    }
}

#[tokio::test]
async fn wait_gives_up_after_its_timeout() {
    let server = MockServer::start().await;
    let id = RunId::mint();
    answers(
        &server,
        "GET",
        &format!("/v1/runs/{id}"),
        200,
        run(id, "running", Value::Null),
    )
    .await;
    let seen = seen(User::new().at(&server.uri(), &["wait", "--timeout", "300ms", &id.to_string()]));
    assert_eq!(seen.code, 7, "{}", seen.err);
    assert!(seen.err.contains("the run goes on"), "{}", seen.err);
}

#[tokio::test]
async fn cancel_and_why_say_it_in_words() {
    let server = MockServer::start().await;
    let id = RunId::mint();
    answers(
        &server,
        "POST",
        &format!("/v1/runs/{id}/cancel"),
        202,
        run(id, "running", Value::Null),
    )
    .await;
    let why = json!({
        "run": row(id, "pending"), "summary": "waiting for quota", "hint": "try queue b",
        "placement": {"at": "2026-01-01T00:00:00Z", "chosen": null, "candidates": [
            {"cluster": "alpha", "fits": false, "failed_filter": "queue", "reason": "no queue\u{1b}[2J gpu", "score": null}]}
    });
    answers(&server, "GET", &format!("/v1/runs/{id}/why"), 200, why).await;
    let user = User::new();
    let cancelled = seen(user.at(&server.uri(), &["cancel", &id.to_string()]));
    assert_eq!(
        cancelled.out,
        format!("run {id} is asked to stop\n"),
        "{}",
        cancelled.err
    );
    let why = seen(user.at(&server.uri(), &["why", &id.to_string()]));
    assert!(
        why.out.contains("waiting for quota") && why.out.contains("to do: try queue b"),
        "{}",
        why.out
    );
    assert!(
        why.out.contains("alpha") && !why.out.contains('\u{1b}'),
        "{}",
        why.out
    );
}

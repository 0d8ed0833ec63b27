//! Servers that fail: what is said, with which exit code, and what is tried again.

use qwex_core::RunId;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{User, problem, run, seen};

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let user = User::new();
    let gone = seen(user.at("http://127.0.0.1:1", &["ps"]));
    assert_eq!(gone.code, 8);
    assert!(
        gone.err.contains("does not answer") && gone.err.contains("fix:"),
        "{}",
        gone.err
    );
    let mut detached = user.at("http://127.0.0.1:1", &["run", "--remote", "-d", "--", "true"]);
    detached.env("QWEX_RETRY_FOR", "200ms");
    assert_eq!(seen(detached).code, 8);
    // In the foreground the code would be the command's own.
    let mut foreground = user.at("http://127.0.0.1:1", &["run", "--remote", "--", "true"]);
    foreground.env("QWEX_RETRY_FOR", "200ms");
    assert_eq!(seen(foreground).code, 125);
    for address in ["nonsense", "ftp://x", "http://user:password@x"] {
        let seen = seen(user.at(address, &["ps"]));
        assert_eq!(seen.code, 2, "{address}: {}", seen.err);
    }
}

#[tokio::test]
async fn every_refusal_has_its_exit_code_and_names_the_request() {
    let user = User::new();
    for (status, code, exit) in [
        (400, "invalid_parameter", 2),
        (401, "unauthenticated", 4),
        (403, "forbidden", 5),
        (404, "not_found", 3),
        (409, "run_id_taken", 6),
        (422, "invalid_field", 2),
        (500, "internal", 1),
        (503, "unavailable", 8),
        (418, "code_of_the_future", 1),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(status).set_body_json(problem(
                status,
                code,
                "because of this",
            )))
            .mount(&server)
            .await;
        let seen = seen(user.at(&server.uri(), &["cluster", "ls"]));
        assert_eq!(seen.code, exit, "{status}: {}", seen.err);
        assert!(
            seen.err.contains("because of this") && seen.err.contains("request: req-42"),
            "{}",
            seen.err
        );
        assert!(!seen.err.contains("qwx_test"), "{}", seen.err);
    }
}

#[tokio::test]
async fn something_else_behind_the_address_is_told() {
    let server = MockServer::start().await;
    Mock::given(path("/v1/clusters"))
        .respond_with(ResponseTemplate::new(200).set_body_string("<html>hello</html>"))
        .mount(&server)
        .await;
    Mock::given(path("/v1/tokens"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", "http://elsewhere/"))
        .mount(&server)
        .await;
    let user = User::new();
    let html = seen(user.at(&server.uri(), &["cluster", "ls"]));
    assert_eq!(html.code, 8);
    assert!(html.err.contains("not like qwexcloud"), "{}", html.err);
    let moved = seen(user.at(&server.uri(), &["token", "ls"]));
    assert_eq!(moved.code, 8);
    assert!(moved.err.contains("http://elsewhere/"), "{}", moved.err);
}

#[tokio::test]
async fn a01_a_submit_is_repeated_with_the_same_id() {
    let server = MockServer::start().await;
    let id = RunId::mint();
    let mut busy = problem(503, "unavailable", "the database is away");
    busy["retryable"] = json!(true);
    Mock::given(path("/v1/runs"))
        .respond_with(ResponseTemplate::new(503).set_body_json(busy))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(path("/v1/runs"))
        .respond_with(ResponseTemplate::new(200).set_body_json(run(id, "pending", Value::Null)))
        .mount(&server)
        .await;
    let seen = seen(User::new().at(&server.uri(), &["run", "--remote", "-d", "--", "true"]));
    assert_eq!(seen.code, 0, "{}", seen.err);
    let requests = server.received_requests().await.unwrap();
    let ids: Vec<Value> = requests
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0] && id.is_string()), "{ids:?}");
    assert_eq!(seen.err.matches("retrying").count(), 1, "{}", seen.err);
}

#[tokio::test]
async fn what_makes_a_second_thing_is_not_repeated() {
    let server = MockServer::start().await;
    let mut busy = problem(503, "unavailable", "busy");
    busy["retryable"] = json!(true);
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(503).set_body_json(busy))
        .mount(&server)
        .await;
    let seen = seen(User::new().at(&server.uri(), &["token", "create", "ci"]));
    assert_eq!(seen.code, 8);
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].headers.contains_key("idempotency-key"));
}

//! Contexts, settings and their origins, login.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{User, problem, seen};

#[test]
fn contexts_are_added_used_and_removed() {
    let user = User::new();
    let ok = |words: &[&str]| {
        let seen = seen(user.qwexctl(words));
        assert_eq!(seen.code, 0, "{words:?}: {}", seen.err);
        seen.out
    };
    ok(&["context", "add", "a", "--server", "http://a"]);
    let mut add = user.qwexctl(&["context", "add", "b", "--server", "http://b", "--with-token"]);
    add.write_stdin("qwx_secret\n").assert().success();
    let file = user.dir().join(".config/qwex/contexts.yaml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains("qwx_secret"));
    let listed = ok(&["context", "ls"]);
    assert!(
        listed.contains("*         a") && listed.contains("set"),
        "{listed}"
    );
    assert!(!listed.contains("qwx_secret"));
    ok(&["context", "use", "b"]);
    let view = ok(&["config", "view", "--origin"]);
    assert!(
        view.contains("http://b") && view.contains("context b in"),
        "{view}"
    );
    assert!(!view.contains("qwx_secret"), "{view}");
    ok(&["context", "rm", "b"]);
    assert_eq!(seen(user.qwexctl(&["context", "use", "b"])).code, 3);
    assert_eq!(seen(user.qwexctl(&["--context", "gone", "ps"])).code, 3);
}

#[test]
fn a_broken_context_file_is_told_and_can_be_replaced() {
    let user = User::new();
    fs::create_dir_all(user.dir().join(".config/qwex")).unwrap();
    fs::write(user.dir().join(".config/qwex/contexts.yaml"), "contexts: [").unwrap();
    let seen = seen(user.qwexctl(&["ps"]));
    assert_eq!(seen.code, 1);
    assert!(
        seen.err.contains("contexts.yaml") && seen.err.contains("fix:"),
        "{}",
        seen.err
    );
}

#[test]
fn a_bad_project_file_is_told_with_line_and_field() {
    let user = User::new();
    fs::write(user.dir().join("qwex.yaml"), "name: demo\nimagee: python\n").unwrap();
    let seen = seen(user.qwexctl(&["run", "--", "true"]));
    assert_eq!(seen.code, 2);
    assert!(seen.err.contains("imagee"), "{}", seen.err);
}

#[test]
fn without_a_server_it_says_how_to_get_one() {
    let seen = seen(User::new().qwexctl(&["ps", "--remote"]));
    assert_eq!(seen.code, 4);
    assert!(seen.err.contains("qwexcloud dev"), "{}", seen.err);
}

fn whoami() -> serde_json::Value {
    json!({"principal": "token:me", "token_id": "abc", "project": "default", "role": "admin", "expires_at": null})
}

#[tokio::test]
async fn login_stores_a_token_only_if_the_server_knows_it() {
    let server = MockServer::start().await;
    Mock::given(path("/v1/whoami"))
        .and(header("authorization", "Bearer qwx_good"))
        .respond_with(ResponseTemplate::new(200).set_body_json(whoami()))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(401).set_body_json(problem(
            401,
            "unauthenticated",
            "no such token",
        )))
        .mount(&server)
        .await;
    let user = User::new();
    let login = |token: &'static str| {
        let mut command = user.qwexctl(&["auth", "login", "--with-token"]);
        command.env("QWEX_SERVER", server.uri()).write_stdin(token);
        seen(command)
    };
    assert_eq!(login("qwx_bad").code, 4);
    assert!(!user.dir().join(".config/qwex/contexts.yaml").exists());
    assert_eq!(login("").code, 2);
    assert_eq!(login("two words").code, 2);
    let good = login("qwx_good\n");
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(!good.err.contains("qwx_good") && !good.out.contains("qwx_good"));
    let status = seen(user.qwexctl(&["auth", "status"]));
    assert!(status.out.contains("token:me"), "{} {}", status.out, status.err);
    assert_eq!(seen(user.qwexctl(&["auth", "logout"])).code, 0);
    assert_eq!(seen(user.qwexctl(&["auth", "status"])).code, 4);
}

#[tokio::test]
async fn a_contexts_token_is_not_sent_to_another_server() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(401).set_body_json(problem(401, "unauthenticated", "no token")))
        .mount(&server)
        .await;
    let user = User::new();
    let mut add = user.qwexctl(&[
        "context",
        "add",
        "a",
        "--server",
        "http://127.0.0.1:1",
        "--with-token",
    ]);
    add.write_stdin("qwx_secret").assert().success();
    let mut command = user.qwexctl(&["auth", "status"]);
    command.env("QWEX_SERVER", server.uri());
    assert_eq!(seen(command).code, 4);
    let requests = server.received_requests().await.unwrap();
    assert!(
        requests
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}

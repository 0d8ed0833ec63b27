//! Pipelines whose runs cannot be seen: no stage fails for it, none runs twice, and every one can be cancelled.

use qwex_core::RunId;
use serde_json::Value;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::{User, problem, run, seen, until};

const REMOTE: &str = "stages: [{ name: a, command: x, backend: remote, image: i }]\n";

fn with(file: &str) -> User {
    let user = User::new();
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    user
}

fn get(user: &User) -> Value {
    let got = seen(user.qwexctl(&["pipeline", "get", "-o", "json"]));
    serde_json::from_str(&got.out).unwrap_or_else(|_| panic!("{}", got.err))
}

fn until_stage(user: &User, status: &str, reason: &str) -> Value {
    until(&format!("the stage never was {status}: {reason}"), || {
        let stage = get(user)["stages"][0].clone();
        let told = stage["reason"].as_str().unwrap_or_default().contains(reason);
        (stage["status"] == status && told).then_some(stage)
    })
}

fn at(user: &User, server: &MockServer, args: &[&str]) -> crate::support::Seen {
    let mut command = user.at(&server.uri(), args);
    command.env("QWEX_RETRY_FOR", "100ms");
    seen(command)
}

/// Gives a run as it is asked for: by the body of a submit, by the path of all else.
async fn answer(server: &MockServer, verb: &str, code: u16, status: &'static str) {
    let answer = move |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let in_path = request
            .url
            .path()
            .split('/')
            .find_map(|part| part.parse::<RunId>().ok());
        let in_body = body["id"].as_str().and_then(|id| id.parse().ok());
        let id = in_body.or(in_path).unwrap();
        ResponseTemplate::new(code).set_body_json(run(id, status, Value::Null))
    };
    Mock::given(method(verb)).respond_with(answer).mount(server).await;
}

async fn refuse(server: &MockServer, verb: &str, status: u16, code: &str) {
    let answer = ResponseTemplate::new(status).set_body_json(problem(status, code, "because of this"));
    Mock::given(method(verb)).respond_with(answer).mount(server).await;
}

async fn submits(server: &MockServer) -> usize {
    let requests = server.received_requests().await.unwrap();
    let submits = requests.iter().filter(|one| one.url.path() == "/v1/runs");
    submits.count()
}

#[tokio::test]
async fn who_is_not_let_in_waits_says_why_and_goes_on() {
    for (status, code) in [(401, "unauthenticated"), (404, "not_found"), (500, "internal")] {
        let server = MockServer::start().await;
        answer(&server, "POST", 201, "pending").await;
        refuse(&server, "GET", status, code).await;
        let user = with(REMOTE);
        let begun = at(&user, &server, &["pipeline", "run", "-d"]);
        assert_eq!(begun.code, 0, "{}", begun.err);
        let waits = until_stage(&user, "running", "waiting: ");
        assert!(waits["reason"].as_str().unwrap().contains("fix:"), "{waits}");
        assert_eq!(submits(&server).await, 1, "{status}");
        server.reset().await;
        answer(&server, "GET", 200, "succeeded").await;
        let over = until_stage(&user, "succeeded", "");
        assert_eq!(over["run_id"], waits["run_id"]);
        assert_eq!(submits(&server).await, 0, "{status}: it was handed over twice");
    }
}

#[tokio::test]
async fn an_answer_that_came_too_late_is_no_refusal() {
    let server = MockServer::start().await;
    refuse(&server, "POST", 504, "timeout").await;
    answer(&server, "GET", 200, "succeeded").await;
    let user = with(REMOTE);
    let ran = at(&user, &server, &["pipeline", "run"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[tokio::test]
async fn a_pipeline_whose_server_is_away_can_be_cancelled_and_resumed_with_the_same_run() {
    let server = MockServer::start().await;
    answer(&server, "POST", 201, "pending").await;
    refuse(&server, "GET", 401, "unauthenticated").await;
    let user = with(REMOTE);
    assert_eq!(at(&user, &server, &["pipeline", "run", "-d"]).code, 0);
    let before = until_stage(&user, "running", "waiting: ");
    server.reset().await;
    refuse(&server, "GET", 401, "unauthenticated").await;
    refuse(&server, "POST", 403, "forbidden").await;
    let cancelled = at(&user, &server, &["pipeline", "cancel"]);
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    assert!(cancelled.err.contains("because of this"), "{}", cancelled.err);
    let given_up = until_stage(&user, "cancelled", "its run may go on");
    assert_eq!(given_up["in_doubt"], true);
    // Nothing is handed over once more: the run of before is found.
    server.reset().await;
    answer(&server, "GET", 200, "succeeded").await;
    let resumed = at(&user, &server, &["pipeline", "resume"]);
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert_eq!(get(&user)["stages"][0]["run_id"], before["run_id"]);
}

#[test]
fn a_cancel_starts_nothing() {
    let user = with("stages: [{ name: a, command: 'echo x >> ran; exit 1' }]\n");
    assert_eq!(seen(user.qwexctl(&["pipeline", "run"])).code, 1);
    // As if the driver had been killed after the record said running and before the run was handed over.
    let mut record = get(&user);
    record["status"] = "running".into();
    record["finished_at"] = Value::Null;
    record["stages"][0]["status"] = "running".into();
    record["stages"][0]["run_id"] = RunId::mint().to_string().into();
    user.put_pipeline(&record);
    let cancelled = seen(user.qwexctl(&["pipeline", "cancel"]));
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    until_stage(&user, "cancelled", "before it ran");
    assert_eq!(std::fs::read_to_string(user.dir().join("ran")).unwrap(), "x\n");
}

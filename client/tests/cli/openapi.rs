//! Every request that the client can make is one that the OpenAPI document allows: path, method, parameters, body.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use qwex_api::cluster::AddCluster;
use qwex_api::project::CreateProject;
use qwex_api::record::{RECORD_WITH_LOG, RunRecord};
use qwex_api::run::{Command, RerunRequest, SubmitRequest};
use qwex_api::token::{CreateToken, Role};
use qwex_api::webhook::{CreateWebhook, WebhookEvent};
use qwex_core::spec::Backoff;
use qwex_core::spec::{Placement, PullPolicy};
use qwex_core::{
    Attempt, FailureCode, Mount, MountKind, Project, Resources, RetryPolicy, RunId, RunStatus, Span,
};
use qwexctl::remote::{Endpoint, EventQuery, HttpJobApiClient, JobApiClient, LogQuery, RunFilter};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers};

use crate::support::problem;

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/qwex.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn every_request_is_in_the_document() {
    let server = MockServer::start().await;
    Mock::given(matchers::any())
        .respond_with(ResponseTemplate::new(404).set_body_json(problem(404, "not_found", "nothing is here")))
        .mount(&server)
        .await;
    ask_everything(&server.uri()).await;
    let document = document();
    let requests = server.received_requests().await.unwrap();
    let problems: Vec<String> = requests
        .iter()
        .flat_map(|request| check(&document, request))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(requests.len(), 34, "a method was added or left out");
}

/// Calls every method of the trait with every parameter set. Answers do not matter here.
async fn ask_everything(server: &str) {
    let client = HttpJobApiClient::new(Endpoint {
        server: server.to_owned(),
        token: Some("qwx_test".to_owned().into()),
        retry_for: Duration::ZERO,
        notice: Box::new(|_| {}),
    })
    .unwrap();
    let id = RunId::mint();
    ask_runs(&client, id).await;
    ask_clusters(&client).await;
    client.list_tokens().await.unwrap_err();
    let token = CreateToken {
        name: "ci".to_owned(),
        role: Role::Submitter,
        project: Some(Project::new("team").unwrap()),
        expires_in: Some(Span::from_secs(3600)),
    };
    client.create_token(&token).await.unwrap_err();
    client.revoke_token("abc").await.unwrap_err();
    client.list_projects().await.unwrap_err();
    let project = CreateProject {
        name: Project::new("team").unwrap(),
    };
    client.create_project(&project).await.unwrap_err();
    ask_webhooks(&client).await;
    client.meta().await.unwrap_err();
    client.whoami().await.unwrap_err();
}

async fn ask_runs(client: &dyn JobApiClient, id: RunId) {
    client.submit(&whole_request(id)).await.unwrap_err();
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    let filter = RunFilter {
        project: Some(Project::new("team").unwrap()),
        statuses: vec![RunStatus::Pending, RunStatus::Failed],
        name: Some("train".to_owned()),
        id_prefix: Some("0199".to_owned()),
        labels: vec!["a=b".to_owned(), "c=d".to_owned()],
        cluster: Some("alpha".parse().unwrap()),
        queue: Some("gpu".parse().unwrap()),
        created_after: Some(at),
        created_before: Some(at),
        page_size: Some(50),
        page_token: Some("next".to_owned()),
    };
    client.list_runs(&filter).await.unwrap_err();
    client.get_run(id, Some(Span::from_secs(30))).await.unwrap_err();
    client.cancel(id).await.unwrap_err();
    let rerun = RerunRequest {
        id: Some(RunId::mint()),
        cluster: Some("alpha".parse().unwrap()),
        queue: Some("gpu".parse().unwrap()),
    };
    client.rerun(id, &rerun).await.unwrap_err();
    let log = || futures::stream::iter([Ok("every byte\n".into())]).boxed();
    client.import(&whole_record(id), Box::new(log)).await.unwrap_err();
    let after = EventQuery { after: Some(3) };
    client.list_events(id, after).await.unwrap_err();
    assert!(client.stream_events(id, after).await.is_err());
    client.list_attempts(id).await.unwrap_err();
    client.why(id).await.unwrap_err();
    let log = LogQuery {
        cursor: Some("c1".to_owned()),
        follow: true,
        tail: Some(10),
        since: Some(at),
        until: Some(at),
        attempt: Some(Attempt(2)),
        stream: Some("stdout".to_owned()),
    };
    assert!(client.stream_log(id, &log).await.is_err());
    assert!(client.read_log(id, &log).await.is_err());
    client.list_log_streams(id).await.unwrap_err();
}

/// A record with everything set that a server may be told.
fn whole_record(id: RunId) -> RunRecord {
    let at = "2026-01-01T00:00:00Z";
    let failure = json!({"code": "signal", "message": "ended by signal 9", "exit_code": 137, "signal": 9});
    serde_json::from_value(json!({
        "project": "team",
        "run": {
            "id": id, "name": "train", "project": "default", "labels": {"team": "vision"}, "status": "failed",
            "failure": failure, "spec": whole_request(id).into_spec(), "attempt": 1, "exit_code": 137,
            "backend": {"kind": "ssh", "address": "build1", "namespace": "n", "object": "qwex-a1", "uid": "b/1/2"},
            "flags": ["cancel_requested"], "logs": {"verdict": "complete", "bytes": 11, "lines": 1, "sha256": "00"},
            "created_at": at, "dispatched_at": at, "started_at": at, "finished_at": at, "created_by": "local:ada",
            "provenance": {"git_commit": "00", "git_dirty": true, "image_digest": "sha256:00", "host": "build1",
                "qwex_version": "0.1.0", "runs_by": "uv run"},
            "usage": {"cpu_ms": 5, "max_memory_bytes": 7}, "imported": {"at": at, "by": "token:ci"},
        },
        "attempts": [{
            "attempt": 1, "status": "failed", "cluster": "alpha", "namespace": "n", "object": "qwex-a1", "uid": "b/1/2",
            "failure": failure, "exit_code": 137, "dispatched_at": at, "started_at": at, "finished_at": at,
            "episodes": [{"id": "b/1/2", "node": "n1", "exit_code": 137, "signal": 9, "reason": "Killed",
                "started_at": at, "ended_at": at}],
        }],
        "events": [{"run_id": id, "seq": 1, "at": at, "kind": "failed", "attempt": 1, "message": "m", "data": {"a": 1}}],
        "log_streams": [{"ordinal": 0, "attempt": 1, "episode": "b/1/2", "stream": "stdout", "bytes": 11, "lines": 1,
            "verdict": "gap", "sha256": "00", "message": "bytes are missing"}],
    }))
    .unwrap()
}

fn whole_request(id: RunId) -> SubmitRequest {
    let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    SubmitRequest {
        id: Some(id),
        name: Some("train".parse().unwrap()),
        project: Some(Project::new("team").unwrap()),
        labels: pair("team", "vision"),
        command: Command::Exec(vec!["python".to_owned(), "train.py".to_owned()]),
        image: Some("python:3.12".to_owned()),
        env: pair("LOG_LEVEL", "info"),
        secrets: pair("HF_TOKEN", "hf"),
        working_dir: Some("/work".to_owned()),
        resources: Resources {
            cpu: Some("2".to_owned()),
            memory: Some("4Gi".to_owned()),
            gpu: Some(1),
            pids: Some(100),
        },
        timeout: Some(Span::from_secs(3600)),
        retry: RetryPolicy {
            limit: 2,
            on: vec![FailureCode::Evicted],
            backoff: Some(Backoff::default()),
        },
        queue: Some("gpu".parse().unwrap()),
        priority_class: Some("high".parse().unwrap()),
        cluster: Some("alpha".parse().unwrap()),
        placement: Placement {
            require: pair("gpu", "a100"),
        },
        pull_policy: Some(PullPolicy::Always),
        mounts: vec![Mount {
            kind: MountKind::Pvc,
            source: Some("data".to_owned()),
            target: "/data".to_owned(),
            read_only: true,
            size: None,
        }],
        network: Some("none".to_owned()),
        ports: vec!["8080:80".to_owned()],
        user: Some("1000".to_owned()),
        ulimits: pair("nofile", "1024"),
        service_account: Some("trainer".to_owned()),
        outputs: vec!["out/*".to_owned()],
    }
}

async fn ask_clusters(client: &dyn JobApiClient) {
    let name = "alpha".parse().unwrap();
    client.list_clusters().await.unwrap_err();
    let add = AddCluster {
        name: "alpha".parse().unwrap(),
        kubeconfig: "apiVersion: v1".to_owned(),
        context: Some("admin".to_owned()),
        namespace: Some("runs".to_owned()),
        labels: BTreeMap::from([("gpu".to_owned(), "a100".to_owned())]),
        default_queue: Some("gpu".parse().unwrap()),
    };
    client.add_cluster(&add).await.unwrap_err();
    client.get_cluster(&name).await.unwrap_err();
    client.drain_cluster(&name).await.unwrap_err();
    client.undrain_cluster(&name).await.unwrap_err();
    client.remove_cluster(&name).await.unwrap_err();
}

async fn ask_webhooks(client: &dyn JobApiClient) {
    client.list_webhooks().await.unwrap_err();
    let create = CreateWebhook {
        url: "https://example.com/in".to_owned(),
        events: vec![WebhookEvent::RunFailed],
        description: Some("to chat".to_owned()),
    };
    client.create_webhook(&create).await.unwrap_err();
    client.get_webhook("ep_1").await.unwrap_err();
    client.remove_webhook("ep_1").await.unwrap_err();
    client.test_webhook("ep_1").await.unwrap_err();
    client.rotate_webhook("ep_1").await.unwrap_err();
    client.list_deliveries("ep_1").await.unwrap_err();
    client.replay_delivery("ep_1", "d_1").await.unwrap_err();
}

/// What the document does not allow about a request.
fn check(document: &Value, request: &Request) -> Vec<String> {
    let method = request.method.as_str().to_lowercase();
    let path = request.url.path();
    let told = |what: String| format!("{method} {path}: {what}");
    let paths = document["paths"].as_object().unwrap();
    let Some(item) = paths
        .iter()
        .find(|(pattern, _)| fits(pattern, path))
        .map(|(_, item)| item)
    else {
        return vec![told("no such path".to_owned())];
    };
    let operation = &item[&method];
    if operation.is_null() {
        return vec![told("no such method".to_owned())];
    }
    let mut problems = Vec::new();
    let known: Vec<&str> = [&operation["parameters"], &item["parameters"]]
        .iter()
        .flat_map(|list| list.as_array().into_iter().flatten())
        .filter(|parameter| parameter["in"] == "query")
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    for (name, _) in request.url.query_pairs() {
        if !known.contains(&name.as_ref()) {
            problems.push(told(format!("no parameter {name}; there are {known:?}")));
        }
    }
    // A record has the bytes of its log behind it.
    let kind = request
        .headers
        .get("content-type")
        .map_or("application/json", |kind| kind.to_str().unwrap());
    let text = match kind {
        RECORD_WITH_LOG => request.body.split(|byte| *byte == b'\n').next().unwrap(),
        _ => request.body.as_slice(),
    };
    let schema = &operation["requestBody"]["content"][kind]["schema"];
    match (request.body.is_empty(), schema.is_null()) {
        (false, true) => problems.push(told("takes no body".to_owned())),
        (true, false) if operation["requestBody"]["required"] == true => {
            problems.push(told("needs a body".to_owned()))
        }
        (false, false) => {
            let body: Value = serde_json::from_slice(text).unwrap();
            problems.extend(misfits(document, schema, &body, "").into_iter().map(told));
        }
        (true, _) => {}
    }
    problems
}

fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    let same = |(part, segment): (&&str, &&str)| part.starts_with('{') || part == segment;
    pattern.len() == path.len() && pattern.iter().zip(&path).all(same)
}

/// Where a value does not have the shape of a schema: as much of JSON Schema as the document uses for bodies.
fn misfits(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return misfits(document, target, value, at);
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[word].as_array() {
            let fits = choices
                .iter()
                .any(|choice| misfits(document, choice, value, at).is_empty());
            return if fits {
                Vec::new()
            } else {
                vec![format!("{at} fits no choice of {word}: {value}")]
            };
        }
    }
    let mut found: Vec<String> = schema["allOf"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|part| misfits(document, part, value, at))
        .collect();
    if !has_type(&schema["type"], value) {
        found.push(format!("{at} is not {}: {value}", schema["type"]));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|words| !words.contains(value))
    {
        found.push(format!("{at} is none of {}: {value}", schema["enum"]));
    }
    if let (Some(items), false) = (value.as_array(), schema["items"].is_null()) {
        let each = items.iter().enumerate();
        found.extend(
            each.flat_map(|(index, item)| {
                misfits(document, &schema["items"], item, &format!("{at}/{index}"))
            }),
        );
    }
    if let Some(fields) = value.as_object() {
        for required in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !fields.contains_key(required) {
                found.push(format!("{at}/{required} is required"));
            }
        }
        for (name, field) in fields {
            let own = &schema["properties"][name];
            let rest = &schema["additionalProperties"];
            let at = format!("{at}/{name}");
            if !own.is_null() {
                found.extend(misfits(document, own, field, &at));
            } else if rest.is_object() {
                found.extend(misfits(document, rest, field, &at));
            } else if schema["properties"].is_object() {
                found.push(format!("{at} is no field; there are {}", schema["properties"]));
            }
        }
    }
    found
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |word: &str| match word {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    match types {
        Value::String(word) => is(word),
        Value::Array(words) => words.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

#[test]
fn a_request_that_is_not_in_the_document_is_told() {
    let document = document();
    let schema = serde_json::json!({"$ref": "#/components/schemas/SubmitRequest"});
    let wrong = serde_json::json!({"command": ["true"], "imagee": "x", "labels": {"a": 1}});
    let problems = misfits(&document, &schema, &wrong, "");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(!fits("/v1/runs/{id}", "/v1/runs/x/logs"));
}

//! Every rule on both sides of its limit.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::status::FailureCode;

fn spec() -> JobSpec {
    JobSpec::for_command(["echo", "hi"])
}

/// The problems of a spec as `pointer code`.
fn found(spec: &JobSpec) -> Vec<String> {
    briefly(spec.validate())
}

fn briefly(result: Result<(), Vec<SpecProblem>>) -> Vec<String> {
    let problems = result.err().unwrap_or_default();
    for problem in &problems {
        assert!(problem.detail.len() > 20, "{problem:?}");
    }
    problems
        .iter()
        .map(|problem| format!("{} {}", problem.pointer, problem.code))
        .collect()
}

fn map(members: &[(&str, &str)]) -> BTreeMap<String, String> {
    members
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_plain_spec_is_good() {
    let mut spec = spec();
    spec.image = Some("python:3.12-slim".to_owned());
    spec.env = map(&[("LOG_LEVEL", "info"), ("_x1", "")]);
    spec.secrets = map(&[
        ("HF_TOKEN", "hf"),
        ("AWS", "aws-keys/access.key"),
        ("OWN", "env:OWN_TOKEN"),
    ]);
    spec.working_dir = Some("/workspace".to_owned());
    spec.placement.require = map(&[("gpu", "a100"), ("topology.kubernetes.io/region", "eu")]);
    assert_eq!(spec.validate(), Ok(()));
}

#[test]
fn tells_all_problems_at_once() {
    let mut spec = JobSpec::for_command([""]);
    spec.image = Some("py thon".to_owned());
    spec.env = map(&[("1A", "x"), ("QWEX_RUN_ID", "x")]);
    spec.secrets = map(&[("1A", "Bad")]);
    spec.working_dir = Some("here".to_owned());
    spec.resources.cpu = Some("two".to_owned());
    spec.resources.memory = Some("4gb".to_owned());
    spec.resources.gpu = Some(1025);
    spec.timeout = Some(Span::from_secs(MAX_TIMEOUT_SECS + 1));
    spec.retry.limit = 101;
    spec.retry.on = vec![FailureCode::Oom, FailureCode::Unknown, FailureCode::Lost];
    spec.placement.require = map(&[("bad key", "v")]);
    assert_eq!(
        found(&spec),
        [
            "/command/0 required",
            "/image invalid",
            "/env/1A invalid",
            "/env/QWEX_RUN_ID reserved",
            "/secrets/1A invalid",
            "/secrets/1A duplicate",
            "/secrets/1A invalid",
            "/working_dir invalid",
            "/resources/cpu invalid",
            "/resources/memory invalid",
            "/resources/gpu too_large",
            "/timeout too_long",
            "/retry/limit too_large",
            "/retry/on/1 invalid",
            "/retry/on/2 invalid",
            "/placement/require/bad key invalid",
        ]
    );
}

#[test]
fn the_command_must_be_there_and_fit() {
    assert_eq!(found(&JobSpec::default()), ["/command required"]);
    assert_eq!(
        found(&JobSpec::for_command(["echo", "a\0b"])),
        ["/command/1 invalid"]
    );
    assert_eq!(
        found(&JobSpec::for_command(["echo", ""])),
        Vec::<String>::new(),
        "an empty argument is one"
    );
    let of_bytes = |bytes: usize| JobSpec::for_command(["a".to_owned(), "b".repeat(bytes - 1)]);
    assert_eq!(found(&of_bytes(MAX_COMMAND_BYTES)), Vec::<String>::new());
    assert_eq!(found(&of_bytes(MAX_COMMAND_BYTES + 1)), ["/command too_large"]);
}

#[test]
fn a11_variables_have_limits_on_both_sides_of_a_byte() {
    let with = |bytes: usize| {
        let mut spec = spec();
        spec.env = map(&[("A", &"x".repeat(bytes - 1))]);
        found(&spec)
    };
    assert_eq!(with(MAX_VARIABLE_BYTES), Vec::<String>::new());
    assert_eq!(with(MAX_VARIABLE_BYTES + 1), ["/env/A too_large"]);

    let mut spec = spec();
    let value = "x".repeat(MAX_VARIABLE_BYTES - 2);
    spec.env = (0..4).map(|i| (format!("A{i}"), value.clone())).collect();
    assert_eq!(
        found(&spec),
        [" too_large"],
        "the environment fits, the spec around it does not"
    );
    spec.env.insert("B".to_owned(), String::new());
    assert_eq!(found(&spec), ["/env too_large", " too_large"]);
}

#[test]
fn a11_the_whole_spec_has_a_limit() {
    let mut spec = spec();
    let bare = serde_json::to_vec(&spec).unwrap().len();
    let mut left = MAX_SPEC_BYTES - bare;
    for i in 0..5 {
        let around = format!("\"A{i}\":\"\"{}", if i > 0 { "," } else { "" }).len();
        let value = (left - around).min(60_000);
        left -= around + value;
        spec.env.insert(format!("A{i}"), "x".repeat(value));
    }
    assert_eq!(serde_json::to_vec(&spec).unwrap().len(), MAX_SPEC_BYTES);
    assert_eq!(found(&spec), Vec::<String>::new());
    spec.command.push(String::new());
    assert_eq!(found(&spec), [" too_large"]);
}

#[test]
fn values_of_variables_are_never_repeated() {
    let mut spec = spec();
    spec.env = map(&[("A", "canary\0"), ("QWEX_B", "canary"), ("C-", "canary")]);
    spec.secrets = map(&[("D", "Canary canary")]);
    let problems = spec.validate().unwrap_err();
    assert_eq!(problems.len(), 4);
    for problem in problems {
        assert!(!problem.detail.to_lowercase().contains("canary"), "{problem:?}");
    }
}

#[test]
fn secrets_are_references() {
    let refused = [
        "", "/", "hf/", "/key", "Hf", "-hf", "a_b", "a/b/c", "a/..", "a/b c", "env:", "env:A B", "env:1",
    ];
    for reference in refused {
        let mut spec = spec();
        spec.secrets = map(&[("A", reference)]);
        assert_eq!(found(&spec), ["/secrets/A invalid"], "{reference}");
    }
}

#[test]
fn pointers_are_escaped() {
    let mut spec = spec();
    spec.env = map(&[("a/b~c", "")]);
    assert_eq!(found(&spec), ["/env/a~1b~0c invalid"]);
}

#[test]
fn a_flood_of_problems_is_cut() {
    let mut spec = spec();
    spec.env = (0..500).map(|i| (format!("{i}"), String::new())).collect();
    assert_eq!(spec.validate().unwrap_err().len(), 50);
}

#[test]
fn labels_keep_the_grammar_of_kubernetes() {
    let good = map(&[
        ("team", "vision"),
        ("example.com/cost-center", ""),
        ("A.b_c-9", "1.2_3-X"),
    ]);
    assert_eq!(validate_labels(&good), Ok(()));
    let long = "a".repeat(64);
    for (key, value) in [
        ("", "v"),
        ("a b", "v"),
        ("-a", "v"),
        ("/a", "v"),
        ("Ex.com/a", "v"),
        ("a/b/c", "v"),
        (long.as_str(), "v"),
        ("a", "-"),
        ("a", "ä"),
        ("a", long.as_str()),
    ] {
        let problems = validate_labels(&map(&[(key, value)])).unwrap_err();
        assert_eq!(problems[0].code, "invalid", "{key:?} {value:?}");
    }
}

#[test]
fn labels_of_the_system_are_reserved() {
    for key in [
        "qwex.dev/run-id",
        "x.qwex.dev/a",
        "app.kubernetes.io/managed-by",
        "kueue.x-k8s.io/queue-name",
        "k8s.io/a",
    ] {
        let problems = validate_labels(&map(&[(key, "v")])).unwrap_err();
        assert_eq!(problems[0].code, "reserved", "{key}");
    }
    assert_eq!(validate_labels(&map(&[("notqwex.dev/a", "v")])), Ok(()));
}

#[test]
fn labels_have_a_number() {
    let of = |count: usize| -> BTreeMap<String, String> {
        (0..count).map(|i| (format!("k{i}"), String::new())).collect()
    };
    assert_eq!(validate_labels(&of(MAX_LABELS)), Ok(()));
    assert_eq!(
        briefly(validate_labels(&of(MAX_LABELS + 1))),
        ["/labels too_large"]
    );
}

#[test]
fn images_follow_the_reference_grammar() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for image in [
        "python".to_owned(),
        "python:3.12-slim".to_owned(),
        "pytorch/pytorch:latest".to_owned(),
        "registry.example.com/team/app".to_owned(),
        "registry:5000/app:1".to_owned(),
        "localhost/app".to_owned(),
        "localhost:5000/a/b/c:v1_2.3".to_owned(),
        "10.0.0.1:5000/app".to_owned(),
        "[::1]:5000/app".to_owned(),
        "a--b/c__d/e.f_g".to_owned(),
        format!("python@{digest}"),
        format!("registry:5000/python:3.12@{digest}"),
    ] {
        let mut spec = spec();
        spec.image = Some(image.clone());
        assert_eq!(found(&spec), Vec::<String>::new(), "{image}");
    }
    for image in [
        "",
        " python",
        "py thon",
        "python:",
        "python:-a",
        "python:a:b",
        "Python",
        "team/App",
        "https://registry/app",
        "/app",
        "app/",
        "a//b",
        "a..b",
        "a___b",
        "-a",
        "registry:port/app",
        "registry:0/app",
        "registry:99999/app",
        "-reg.io/app",
        "[::1/app",
        "python@sha256:abc",
        "python@",
        "python\n",
        "pythön",
        &"0123456789abcdef".repeat(4),
    ] {
        let mut spec = spec();
        spec.image = Some(image.to_owned());
        assert_eq!(found(&spec), ["/image invalid"], "{image:?}");
    }
}

#[test]
fn images_have_a_length() {
    let mut spec = spec();
    spec.image = Some(format!("{}:{}", "a/".repeat(120) + "a", "b".repeat(128)));
    assert_eq!(found(&spec), Vec::<String>::new());
    spec.image = Some("a".repeat(MAX_IMAGE_CHARS + 1));
    assert_eq!(found(&spec), ["/image too_long"]);
}

#[test]
fn misspelt_fields_are_found() {
    let given = json!({
        "comand": ["x"], "name": "n", "resources": {"gpus": 1, "cpu": 1}, "retry": {"limits": 1},
        "placement": {"prefer": {}}, "wholly_strange": 1
    });
    let problems = unknown_fields(&given, &["name"]);
    let briefly: Vec<String> = problems
        .iter()
        .map(|problem| format!("{} {} {}", problem.pointer, problem.code, problem.detail))
        .collect();
    assert_eq!(
        briefly,
        [
            "/comand unknown there is no field \"comand\"; did you mean `command`?",
            "/wholly_strange unknown there is no field \"wholly_strange\"; known are command, image, env, secrets, working_dir, resources, timeout, retry, queue, priority_class, cluster, placement, pull_policy, mounts, network, ports, user, ulimits, service_account, outputs, name",
            "/resources/gpus unknown there is no field \"gpus\"; did you mean `gpu`?",
            "/retry/limits unknown there is no field \"limits\"; did you mean `limit`?",
            "/placement/prefer unknown there is no field \"prefer\"; known are require",
        ]
    );
}

#[test]
fn every_field_of_a_spec_is_known() {
    let mut full = spec();
    full.resources = Resources {
        cpu: Some("1".to_owned()),
        memory: Some("1Gi".to_owned()),
        gpu: Some(1),
        pids: Some(1),
    };
    full.pull_policy = Some(crate::spec::PullPolicy::Always);
    assert_eq!(unknown_fields(&serde_json::to_value(&full).unwrap(), &[]), []);
    assert_eq!(unknown_fields(&json!([1]), &[]), []);
}

#[test]
fn mounts_keep_their_rules() {
    let mount = |json: serde_json::Value| -> Vec<String> {
        let mut spec = spec();
        spec.mounts = vec![serde_json::from_value(json).unwrap()];
        found(&spec)
    };
    assert_eq!(
        mount(json!({"kind": "bind", "source": "/data", "target": "/data", "read_only": true})),
        Vec::<String>::new()
    );
    assert_eq!(
        mount(json!({"kind": "empty_dir", "target": "/tmp/x", "size": "1Gi"})),
        Vec::<String>::new()
    );
    for (wrong, problem) in [
        (
            json!({"kind": "bind", "target": "/a"}),
            "/mounts/0/source required",
        ),
        (
            json!({"kind": "bind", "source": "a", "target": "/a"}),
            "/mounts/0/source invalid",
        ),
        (
            json!({"kind": "pvc", "source": "a/b", "target": "/a"}),
            "/mounts/0/source invalid",
        ),
        (
            json!({"kind": "volume", "source": "v", "target": "/a/../.."}),
            "/mounts/0/target invalid",
        ),
        (
            json!({"kind": "volume", "source": "v", "target": "/"}),
            "/mounts/0/target invalid",
        ),
        (
            json!({"kind": "tape", "source": "v", "target": "/v"}),
            "/mounts/0/kind invalid",
        ),
        (
            json!({"kind": "volume", "source": "v", "target": "/v", "size": "1"}),
            "/mounts/0/size invalid",
        ),
        (
            json!({"kind": "empty_dir", "source": "v", "target": "/v"}),
            "/mounts/0/source invalid",
        ),
    ] {
        assert_eq!(mount(wrong.clone()), [problem], "{wrong}");
    }
}

#[test]
fn engine_fields_keep_their_rules() {
    let mut spec = spec();
    spec.network = Some("host".to_owned());
    spec.user = Some("1000:1000".to_owned());
    spec.ports = vec!["8080:80".to_owned()];
    spec.outputs = vec!["out/**/*.csv".to_owned()];
    spec.ulimits = [("nofile".to_owned(), "1024:2048".to_owned())].into();
    assert_eq!(found(&spec), Vec::<String>::new());
    spec.network = Some("--privileged".to_owned());
    spec.user = Some("$(id)".to_owned());
    spec.ports = vec!["80".to_owned()];
    spec.outputs = vec!["../secret".to_owned(), "/etc/*".to_owned()];
    spec.ulimits = [("nofiles".to_owned(), "1".to_owned())].into();
    spec.service_account = Some("Admin".to_owned());
    assert_eq!(
        found(&spec),
        [
            "/network invalid",
            "/user invalid",
            "/service_account invalid",
            "/ports/0 invalid",
            "/ulimits/nofiles invalid",
            "/outputs/0 invalid",
            "/outputs/1 invalid"
        ]
    );
}

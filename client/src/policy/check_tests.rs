//! Tests of [`super::Limits`]: each sentence a policy can say, and who wins.

use qwex_core::Mount;
use serde_json::json;

use super::super::Policy;
use super::*;
use crate::config::file::tests::files_of;
use crate::error::CliError;

fn policy(system: &str, user: &str) -> Result<Policy, CliError> {
    Policy::of(&files_of(system, user)?)
}

fn spec(json: serde_json::Value) -> JobSpec {
    let mut whole = json!({"command": ["true"]});
    for (key, value) in json.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// Every violation as one line.
fn told(policy: &Policy, backend: &str, spec: &JobSpec) -> Vec<String> {
    let asked = Asked {
        backend,
        address: None,
        spec,
        workspace: None,
    };
    let line = |found: &Violation| {
        let file = found.place.rsplit('/').next().unwrap_or_default();
        format!(
            "{file} {} {}: {}; {}",
            found.pointer, found.what, found.rule, found.fix
        )
    };
    policy.check(&asked).iter().map(line).collect()
}

#[test]
fn without_a_file_everything_is_allowed() {
    let spec = spec(
        json!({"image": "x", "network": "host", "service_account": "admin",
        "mounts": [{"kind": "bind", "source": "/", "target": "/host"}]}),
    );
    for backend in crate::project_file::BACKENDS {
        assert!(told(&Policy::default(), backend, &spec).is_empty());
    }
}

#[test]
fn each_field_is_told_with_its_line_and_a_way_out() {
    let all = "policy:\n  backends: [local, docker]\n  images: ['python:*', 'ghcr.io/team/**']\n  mounts:\n    kinds: [volume]\n\
               \x20 networks:\n    - none\n  service_accounts: []\n  resources: { cpu: 2, memory: 4Gi, gpu: 0, pids: 100 }\n  timeout: 1h\n";
    let policy = policy("", all).unwrap();
    let limits = json!({"cpu": "500m", "memory": "1Gi", "pids": 10});
    for (backend, more, expected) in [
        (
            "podman",
            json!({"network": "none"}),
            "user.yaml:2 /backend the policy does not allow the backend podman: allows local, docker; choose one of them: --backend local",
        ),
        (
            "docker",
            json!({"network": "none", "image": "evil"}),
            "user.yaml:3 /image the policy does not allow the image evil: allows python:*, ghcr.io/team/**; choose an image that one of these means",
        ),
        (
            "docker",
            json!({"network": "none", "mounts": [{"kind": "bind", "source": "/x", "target": "/x"}]}),
            "user.yaml:5 /mounts/0/kind the policy does not allow mounts of kind bind: allows volume; take the mount of /x away",
        ),
        (
            "docker",
            json!({"network": "host"}),
            "user.yaml:7 /network the policy does not allow the network host: allows none; choose one: --network none",
        ),
        (
            "docker",
            json!({}),
            "user.yaml:7 /network the policy does not allow the network bridge, which a run gets that names none: allows none; choose one: --network none",
        ),
        (
            "local",
            json!({"service_account": "admin"}),
            "user.yaml:8 /service_account the policy does not allow the service account admin: allows none; leave it out",
        ),
        (
            "local",
            json!({"resources": {"cpu": "3", "memory": "1Gi", "pids": 10}}),
            "user.yaml:9 /resources/cpu the policy does not allow 3 of cpu: allows at most 2; ask for no more: --cpu 2",
        ),
        (
            "local",
            json!({"resources": {"cpu": "1", "pids": 10}}),
            "user.yaml:9 /resources/memory the run sets no limit of memory, and the policy has one: allows at most 4Gi; ask for no more: --memory 4Gi",
        ),
        (
            "local",
            json!({"resources": {"cpu": "1", "memory": "1Gi", "pids": 10, "gpu": 1}}),
            "user.yaml:9 /resources/gpu the policy does not allow 1 of GPUs: allows at most 0; ask for no more: --gpu 0",
        ),
        (
            "local",
            json!({"resources": {"cpu": "1", "memory": "1Gi", "pids": 101}}),
            "user.yaml:9 /resources/pids the policy does not allow 101 of processes: allows at most 100; ask for no more: --pids 100",
        ),
        (
            "local",
            json!({"timeout": "2h"}),
            "user.yaml:10 /timeout the policy does not allow 2h of time: allows at most 1h; ask for no more: --timeout 1h",
        ),
    ] {
        let mut whole = json!({"resources": limits, "timeout": "30m"});
        for (key, value) in more.as_object().unwrap() {
            whole[key] = value.clone();
        }
        assert_eq!(told(&policy, backend, &spec(whole)), [expected]);
    }
    let good = spec(json!({"image": "python:3", "network": "none", "resources": limits, "timeout": "1h"}));
    assert!(told(&policy, "docker", &good).is_empty());
}

#[test]
fn what_is_not_said_is_no_way_around_a_limit_but_where_others_hold_it() {
    let policy = policy(
        "policy: { resources: { memory: 1Gi, pids: 5 }, timeout: 1h }\n",
        "",
    )
    .unwrap();
    let silent = spec(json!({}));
    assert_eq!(told(&policy, "local", &silent).len(), 3);
    // The server has limits of its own, and a cluster has one of processes.
    assert!(told(&policy, "remote", &silent).is_empty());
    assert_eq!(told(&policy, "k8s", &silent).len(), 2);
    let over_ssh = told(&policy, "ssh", &spec(json!({"timeout": "1m"})));
    assert!(
        over_ssh[0].contains("the backend ssh cannot hold a run to that"),
        "{over_ssh:?}"
    );
}

#[test]
fn the_users_file_only_narrows_what_the_systems_allows() {
    let system = "policy: { backends: [local, docker], images: ['python:*'] }\n";
    let user = "policy: { backends: [local, podman], images: ['**'] }\n";
    let policy = policy(system, user).unwrap();
    let on = |backend: &str, image: &str| told(&policy, backend, &spec(json!({"image": image})));
    assert!(on("local", "python:3").is_empty());
    let podman = on("podman", "python:3");
    assert!(
        podman.len() == 1 && podman[0].starts_with("system.yaml:1 /backend"),
        "{podman:?}"
    );
    let docker = on("docker", "python:3");
    assert!(
        docker.len() == 1 && docker[0].starts_with("user.yaml:1 /backend"),
        "{docker:?}"
    );
    let evil = on("local", "evil");
    assert!(
        evil.len() == 1 && evil[0].starts_with("system.yaml:1 /image"),
        "{evil:?}"
    );
    // What the system forbids is told first.
    assert!(on("k8s", "evil")[0].starts_with("system.yaml"));
}

#[test]
fn mounts_and_workspaces_are_compared_with_links_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("data")).unwrap();
    std::fs::create_dir_all(at("secret")).unwrap();
    std::os::unix::fs::symlink(at("secret"), at("data/link")).unwrap();
    let data = at("data").display().to_string();
    let text = format!("policy: {{ mounts: {{ paths: ['{data}'] }}, workspaces: ['{data}'] }}\n");
    let policy = policy(&text, "").unwrap();
    let mut spec = spec(json!({}));
    let mut mounted = |source: &str, address: Option<&str>, workspace: &str| {
        spec.mounts = vec![Mount {
            kind: MountKind::Bind,
            source: Some(source.to_owned()),
            target: "/in".to_owned(),
            read_only: true,
            size: None,
        }];
        let workspace = at(workspace);
        let asked = Asked {
            backend: "docker",
            address,
            spec: &spec,
            workspace: Some(&workspace),
        };
        policy.check(&asked)
    };
    assert!(mounted(&data, None, "data").is_empty());
    let link = mounted(&format!("{data}/link"), None, "data");
    assert_eq!(link.len(), 1);
    assert!(
        link[0].what.contains("which is") && link[0].what.ends_with("secret"),
        "{}",
        link[0].what
    );
    // The links of another machine are not known here.
    assert!(mounted(&format!("{data}/link"), Some("tcp://other:2376"), "data").is_empty());
    assert_eq!(mounted("/etc", Some("tcp://other:2376"), "data").len(), 1);
    assert_eq!(mounted("/etc", Some("unix:///run/docker.sock"), "data").len(), 1);
    let elsewhere = mounted(&data, None, "data/link");
    assert!(
        elsewhere.len() == 1 && elsewhere[0].pointer == "/workspace",
        "{elsewhere:?}"
    );
}

#[test]
fn a_policy_that_cannot_be_used_is_told_with_its_place_and_allows_nothing() {
    for (text, parts) in [
        (
            "policy: { backends: [dokcer] }",
            &["there is no backend `dokcer`", "did you mean `docker`?"][..],
        ),
        ("policy: { images: ['a['] }", &["this is no pattern of images"]),
        ("policy: { images: [''] }", &["it is empty"]),
        (
            "policy: { mounts: { kinds: [bnd] } }",
            &["there is no kind of mount `bnd`", "did you mean `bind`?"],
        ),
        (
            "policy: { mounts: { paths: [data] } }",
            &["`data` is no directory that can be allowed"],
        ),
        (
            "policy: { workspaces: [/a/../b] }",
            &["write it absolute and without `..`"],
        ),
        (
            "policy: { resources: { cpu: lots } }",
            &["is not an amount of cpu"],
        ),
        (
            "policy: { resources: { memory: 4gb } }",
            &["is not an amount of memory"],
        ),
        (
            "policy: { content: { off: [world-writeable] } }",
            &["did you mean `world-writable`?"],
        ),
        (
            "policy: { content: { rules: [{ name: a, pattern: '(' }] } }",
            &["this is no regular expression"],
        ),
        (
            "policy: { content: { rules: [{ name: a }] } }",
            &["the rule `a` has no pattern"],
        ),
        (
            "policy: { content: { rules: [{ name: 'a b', pattern: x }] } }",
            &["`a b` cannot name a rule"],
        ),
        (
            "policy: { content: { rules: [{ name: a, pattern: x }, { name: a, pattern: y }] } }",
            &["the rule `a` is there twice"],
        ),
    ] {
        let error = policy("", text).unwrap_err();
        assert_eq!(error.code, Some("config_file"));
        for part in parts {
            assert!(error.text().contains(part), "{text}\n{}", error.text());
        }
        assert!(error.text().contains("user.yaml:1:"), "{}", error.text());
    }
}

#[test]
fn nodes_are_mounted_only_where_every_list_allows_it() {
    let paths = |system: &str, user: &str| policy(system, user).unwrap().node_paths();
    assert!(paths("", "").is_empty());
    assert_eq!(paths("", "policy: { mounts: { paths: [/data] } }"), ["/data"]);
    assert_eq!(
        paths(
            "policy: { mounts: { paths: [/data] } }",
            "policy: { mounts: { paths: [/data/x, /etc] } }"
        ),
        ["/data/x"]
    );
}

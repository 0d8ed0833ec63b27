use super::*;
use qwex_core::{Attempt, ObjectUid, Project, RunId};

fn work(spec: &str) -> Work {
    let run_id: RunId = "019b76da-a800-7000-8000-000000000000".parse().unwrap();
    Work {
        run_id,
        attempt: Attempt(2),
        project: Project::new("default").unwrap(),
        name: None,
        labels: Default::default(),
        spec: serde_json::from_str(spec).unwrap(),
        workspace: None,
    }
}

fn made(work: &Work, flavor: Flavor) -> Result<ContainerCreateBody, ManifestError> {
    let mut record = Record::new("hash".to_owned(), String::new());
    record.uid = ObjectUid("uid".to_owned());
    let caller = Caller {
        uid: 1000,
        gid: 1000,
        rootless: false,
    };
    container(work, &record, flavor, caller)
}

fn json(body: &ContainerCreateBody) -> serde_json::Value {
    serde_json::to_value(body).unwrap()
}

#[test]
fn a_bare_command_asks_for_nothing_else() {
    let body = made(
        &work(r#"{"command":["echo","hi"],"image":"busybox"}"#),
        Flavor::Podman,
    )
    .unwrap();
    insta::assert_json_snapshot!(json(&body));
}

#[test]
fn every_limit_is_passed_on() {
    let mut full = work(
        r#"{"command":["train"],"image":"app:1","env":{"B":"2","A":"$x","QWEX_RUN_ID":"forged"},
            "resources":{"cpu":"1.5","memory":"64Mi","gpu":2,"pids":50},"timeout":"90s",
            "ulimits":{"nofile":"1024:2048","core":"0","memlock":"unlimited"},
            "network":"bridge","ports":["127.0.0.1:8080:80"],"user":"app",
            "mounts":[{"kind":"empty_dir","target":"/scratch","size":"1Gi"}]}"#,
    );
    full.workspace = Some(qwex_runner::Workspace {
        dir: "/srv/me/project".into(),
        send: qwex_runner::Transfer::Nothing,
    });
    let body = made(&full, Flavor::Docker).unwrap();
    insta::assert_json_snapshot!(json(&body));
}

#[test]
fn what_makes_no_sense_is_refused_with_a_way_out() {
    let refused = |spec: &str| made(&work(spec), Flavor::Docker).unwrap_err().to_string();
    assert!(refused(r#"{"command":["true"]}"#).contains("--image"));
    assert!(refused(r#"{"command":[],"image":"a"}"#).contains("say what to run"));
    let with = |extra: &str| refused(&format!(r#"{{"command":["true"],"image":"a",{extra}}}"#));
    for bad in ["x", "2:1", "-1", "unlimited:5", ""] {
        assert!(
            with(&format!(r#""ulimits":{{"nofile":"{bad}"}}"#)).contains("soft:hard"),
            "{bad}"
        );
    }
    for bad in ["container:other", "ns:/proc/1/ns/net", "-x", ""] {
        assert!(
            with(&format!(r#""network":"{bad}""#)).contains("name of a network"),
            "{bad}"
        );
    }
    assert!(with(r#""network":"none","ports":["80"]"#).contains("leave out one"));
    assert!(with(r#""ports":["http"]"#).contains("8080:80"));
    assert!(with(r#""resources":{"memory":"much"}"#).contains("512Mi"));
}

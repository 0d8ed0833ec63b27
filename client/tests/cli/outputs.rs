//! Outputs that are still elsewhere, or here beside files that somebody changed: what `outputs`, `get` and a pipeline that is
//! resumed say, and that nobody waits for ever.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use nix::sys::signal::{Signal, kill};
use qwex_core::{JobSpec, RunId};
use qwex_testbed::require::{Part, must_skip};
use qwex_testbed::sshd::Sshd;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{User, keeper_of, seen};

/// Longer than any answer here needs, and far less than for ever.
const SOON: Duration = Duration::from_secs(60);

/// The user's own key.
fn key(user: &User) -> Vec<u8> {
    let dir = user.dir().join(".local/state/qwex");
    let path = dir.join("key");
    if !path.exists() {
        fs::create_dir_all(&dir).unwrap();
        fs::write(&path, [7; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::read(path).unwrap()
}

/// Has a run kept as this user's on another backend, with what is known of its outputs.
fn keep(user: &User, place: &Path, run: &Value, placed: Value, outputs: &Value) {
    let spec: JobSpec = serde_json::from_value(run["spec"].clone()).unwrap();
    let placed = placed.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(user)).unwrap();
    let about = format!(
        "qwex placed run 1\n{}\n{}\n",
        run["id"].as_str().unwrap(),
        spec.hash()
    );
    mac.update(about.as_bytes());
    mac.update(placed.as_bytes());
    fs::write(place.join("placed.mac"), hex::encode(mac.finalize().into_bytes())).unwrap();
    fs::write(place.join("placed.json"), placed).unwrap();
    fs::write(place.join("outputs.json"), outputs.to_string()).unwrap();
    fs::write(place.join("run.json"), run.to_string()).unwrap();
}

/// A run of this user that succeeded there a moment ago, and its directory.
fn over(user: &User, mut placed: Value, outputs: &Value) -> (String, PathBuf) {
    let id = RunId::mint();
    let now = jiff::Timestamp::now();
    let kind = placed["backend"].clone();
    let run = json!({
        "version": 1, "id": id, "project": "default",
        "spec": JobSpec { outputs: vec!["dist/*".to_owned()], ..JobSpec::for_command(["true"]) },
        "status": "succeeded", "attempt": 1, "exit_code": 0,
        "backend": {"kind": kind, "object": format!("qwex-{id}-a1"), "uid": "1", "address": placed["address"]},
        "logs": {"verdict": "complete", "bytes": 0, "lines": 0, "sha256": ""},
        "created_at": now, "started_at": now, "finished_at": now, "created_by": "local:me"
    });
    let place = user.dir().join(".qwex/runs").join(id.to_string());
    fs::create_dir_all(&place).unwrap();
    placed["workspace"] = user.dir().to_str().unwrap().into();
    keep(user, &place, &run, placed, outputs);
    (id.to_string(), place)
}

fn given_up() -> Value {
    json!({"failed": "unreachable: no route", "is_there": true})
}

/// Nothing goes on after a test.
fn end(user: &User, id: &str) {
    if let Some(keeper) = keeper_of(id) {
        kill(keeper, Signal::SIGKILL).ok();
    }
    fs::remove_dir_all(user.dir().join(".qwex/runs").join(id)).unwrap();
}

#[test]
fn outputs_on_a_cluster_whose_context_is_gone_are_told_and_not_waited_for() {
    let user = User::new();
    let config = user.dir().join(".kube/config");
    fs::create_dir(user.dir().join(".kube")).unwrap();
    let contexts = "current-context: one\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                    users: [{name: me, user: {token: secret}}]\n\
                    contexts:\n- {name: one, context: {cluster: c, user: me}}\n";
    fs::write(&config, contexts).unwrap();
    let (id, _) = over(
        &user,
        json!({"backend": "k8s", "address": "three", "namespace": "n"}),
        &given_up(),
    );
    let began = Instant::now();
    let told = seen(user.qwexctl(&["outputs", "--timeout", "10s", &id]));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // Whoever took it out may put it back: the keeper goes on, and that is said.
    assert_eq!(told.code, 8, "{}", told.err);
    for words in [
        "the kubeconfig has no context \"three\"",
        "trying again, Ctrl-C leaves it to the run's keeper",
        "are tried again",
        "mend the way there",
        "rm --force",
    ] {
        assert!(told.err.contains(words), "{words}: {}", told.err);
    }
    assert!(keeper_of(&id).is_some());
    let got = seen(user.qwexctl(&["get", &id]));
    assert!(
        got.err.contains("three") && got.err.contains("are tried again"),
        "{}",
        got.err
    );
    // It is there again, and the cluster is away.
    fs::write(
        &config,
        format!("{contexts}- {{name: three, context: {{cluster: c, user: me}}}}\n"),
    )
    .unwrap();
    let told = seen(user.qwexctl(&["outputs", "--timeout", "10s", &id]));
    assert_eq!(told.code, 8, "{}", told.err);
    assert!(told.err.contains("k8s three cannot be asked"), "{}", told.err);
    end(&user, &id);
}

#[test]
fn outputs_on_a_host_that_is_away_are_asked_for_within_a_limit_and_left_to_the_keeper() {
    let user = User::new();
    let host = json!({"backend": "ssh", "address": "ssh://nobody@127.0.0.1:1"});
    let (id, place) = over(&user, host, &given_up());
    let began = Instant::now();
    let told = seen(user.qwexctl(&["outputs", "--timeout", "10s", &id]));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(told.code, 8, "{}", told.err);
    for words in [
        "127.0.0.1:1 cannot be asked",
        "trying again, Ctrl-C leaves it to the run's keeper",
        "are tried again",
        "mend the way there",
    ] {
        assert!(told.err.contains(words), "{words}: {}", told.err);
    }
    // What is said of the keeper is true, also once it gave up.
    assert!(keeper_of(&id).is_some());
    let got = seen(user.qwexctl(&["get", &id]));
    assert!(got.err.contains("are tried again"), "{}", got.err);
    kill(keeper_of(&id).unwrap(), Signal::SIGKILL).unwrap();
    let mut run: Value = serde_json::from_slice(&fs::read(place.join("run.json")).unwrap()).unwrap();
    run["finished_at"] = "2026-01-01T00:00:00Z".into();
    fs::write(place.join("run.json"), run.to_string()).unwrap();
    let told = seen(user.qwexctl(&["outputs", "--timeout", "20s", &id]));
    assert!(
        told.code == 1 && told.err.contains("not tried again until somebody asks"),
        "{} {}",
        told.code,
        told.err
    );
    end(&user, &id);
}

/// Of `dist/a` another came than somebody made here meanwhile.
fn held() -> Value {
    json!({"collected": ["dist/b"], "held": ["dist/a"]})
}

fn arrive(user: &User, place: &Path, path: &str) {
    for (dir, text) in [(user.dir(), "mine"), (&place.join("outputs"), "theirs")] {
        let file = dir.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    // A run that was submitted before.
    let placed = fs::File::open(place.join("placed.json")).unwrap();
    placed.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
}

/// A checkout can carry a record, files beside it, and any directory in which they belong.
#[test]
fn what_lies_beside_the_record_of_somebody_else_is_put_nowhere() {
    let user = User::new();
    let (id, place) = over(
        &user,
        json!({"backend": "ssh", "address": "nowhere.invalid"}),
        &held(),
    );
    arrive(&user, &place, "dist/a");
    fs::remove_file(user.dir().join("dist/a")).unwrap();
    fs::remove_file(place.join("placed.mac")).unwrap();
    for words in [&["outputs", &id][..], &["outputs", "--force", &id]] {
        let told = seen(user.qwexctl(words));
        assert_ne!(told.code, 0, "{}", told.out);
        assert!(told.err.contains("carries no mark of you"), "{}", told.err);
    }
    assert!(!user.dir().join("dist/a").exists());
    assert_eq!(fs::read(place.join("outputs/dist/a")).unwrap(), b"theirs");
}

#[test]
fn a_file_that_was_changed_here_is_never_lost_to_one_that_comes() {
    let user = User::new();
    let (id, place) = over(
        &user,
        json!({"backend": "ssh", "address": "nowhere.invalid"}),
        &held(),
    );
    arrive(&user, &place, "dist/a");
    let mine = user.dir().join("dist/a");
    for words in [["outputs", &id], ["wait", &id]] {
        let told = seen(user.qwexctl(&words));
        assert_eq!(
            told.code,
            if words[0] == "wait" { 125 } else { 6 },
            "{}",
            told.err
        );
        for expected in [
            "dist/a was changed in the workspace",
            "outputs --force",
            "/outputs",
        ] {
            assert!(told.err.contains(expected), "{expected}: {}", told.err);
        }
    }
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    let kept = seen(user.qwexctl(&["rm", &id]));
    assert_eq!(kept.code, 6, "what came would be lost: {}", kept.err);
    let taken = seen(user.qwexctl(&["outputs", "--force", &id]));
    assert_eq!(
        (taken.code, taken.out.as_str()),
        (0, "dist/a\ndist/b\n"),
        "{}",
        taken.err
    );
    assert_eq!(fs::read(&mine).unwrap(), b"theirs");
    assert_eq!(seen(user.qwexctl(&["outputs", &id])).out, taken.out);
    assert_eq!(seen(user.qwexctl(&["rm", &id])).code, 0);
}

/// On a real host: what somebody saves while the run works there is theirs.
#[tokio::test]
async fn a_file_that_is_saved_while_a_run_works_elsewhere_is_not_lost() {
    if must_skip(&[Part::Sshd]) {
        return;
    }
    let sshd = Sshd::start().await.unwrap();
    let user = User::new();
    let (config, dir) = (user.dir().join(".config/qwex"), user.dir().display());
    fs::create_dir_all(&config).unwrap();
    let host = format!(
        "ssh: {{ hosts: {{ build1: {{ address: testbed, config_file: '{}', directory: '{dir}/remote', program: script }} }} }}\n",
        sshd.config().display()
    );
    fs::write(config.join("config.yaml"), host).unwrap();
    let project = user.dir().join("project");
    fs::create_dir(&project).unwrap();
    for name in ["report", "other"] {
        fs::write(project.join(name), "old\n").unwrap();
    }
    let at = |words: &[&str]| {
        let mut command = user.qwexctl(words);
        // Connections are shared in a directory of this user.
        command.env("XDG_RUNTIME_DIR", user.dir()).current_dir(&project);
        seen(command)
    };
    let script = format!("until [ -e {dir}/go ]; do sleep 0.1; done; echo theirs | tee report other new");
    let outputs = ["--outputs", "report", "--outputs", "other", "--outputs", "new"];
    let run = [
        &["run", "-d", "--backend", "ssh"],
        &outputs[..],
        &["--", "sh", "-c", &script],
    ]
    .concat();
    let started = at(&run);
    let id = started.out.trim();
    assert_eq!(at(&["wait", "--for", "running", id]).code, 0, "{}", started.err);
    fs::write(project.join("report"), "mine\n").unwrap();
    fs::write(user.dir().join("go"), "").unwrap();
    let waited = at(&["wait", id]);
    assert_eq!(waited.code, 125, "{}", waited.err);
    assert!(
        waited.err.contains("report was changed in the workspace"),
        "{}",
        waited.err
    );
    let text = |name: &str| fs::read_to_string(project.join(name)).unwrap();
    assert_eq!(
        [text("report"), text("other"), text("new")],
        ["mine\n", "theirs\n", "theirs\n"]
    );
    let forced = at(&["outputs", "--force", id]);
    assert_eq!(
        (forced.code, forced.out.as_str()),
        (0, "new\nother\nreport\n"),
        "{}",
        forced.err
    );
    assert_eq!(text("report"), "theirs\n");
}

/// The stage of the pipeline succeeded, and its file waits beside the record.
#[test]
fn a_stage_that_succeeded_does_not_run_again_for_its_outputs() {
    let user = User::new();
    let file = "stages:\n  - { name: a, command: 'echo x >> ran; echo 1 > made', outputs: [made], inputs: [] }\n\
                \x20 - { name: b, needs: [a], command: 'cat made; exit 3' }\n";
    fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    assert_eq!(seen(user.qwexctl(&["pipeline", "run"])).code, 1);
    let pipeline = || -> Value {
        let got = seen(user.qwexctl(&["pipeline", "get", "-o", "json"]));
        serde_json::from_str(&got.out).unwrap_or_else(|_| panic!("{}", got.err))
    };
    let mut record = pipeline();
    record.as_object_mut().unwrap().remove("mark");
    let id = record["stages"][0]["run_id"].as_str().unwrap().to_owned();
    let stage = &mut record["stages"][0];
    stage["status"] = "failed".into();
    stage["in_doubt"] = true.into();
    stage["backend"] = "ssh".into();
    stage["host"] = "ssh://nobody@127.0.0.1:1".into();
    stage["outputs"] = json!([]);
    user.put_pipeline(&record);
    let place = user.dir().join(".qwex/runs").join(&id);
    let run: Value = serde_json::from_slice(&fs::read(place.join("run.json")).unwrap()).unwrap();
    let placed = json!({"backend": "ssh", "address": "ssh://nobody@127.0.0.1:1", "workspace": user.dir()});
    keep(
        &user,
        &place,
        &run,
        placed,
        &json!({"collected": [], "held": ["made"]}),
    );
    arrive(&user, &place, "made");
    let ran = || fs::read_to_string(user.dir().join("ran")).unwrap();
    // Twice, since the second time is no reason to run it either.
    for _ in 0..2 {
        let resumed = seen(user.qwexctl(&["pipeline", "resume"]));
        assert_eq!(resumed.code, 1, "{}", resumed.err);
        assert!(
            resumed.err.contains(&format!("`qwexctl outputs --force {id}`")),
            "{}",
            resumed.err
        );
        assert_eq!(
            (pipeline()["stages"][0]["run_id"].as_str(), ran().as_str()),
            (Some(&*id), "x\n")
        );
    }
    fs::remove_file(user.dir().join("made")).unwrap();
    let resumed = seen(user.qwexctl(&["pipeline", "resume"]));
    assert!(resumed.err.contains("a: succeeded"), "{}", resumed.err);
    let logs = seen(user.qwexctl(&["pipeline", "logs"]));
    assert!(logs.out.contains("b | theirs"), "{}", logs.out);
    assert_eq!(
        (pipeline()["stages"][0]["run_id"].as_str(), ran().as_str()),
        (Some(&*id), "x\n")
    );
}

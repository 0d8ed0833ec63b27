//! Pipelines that this user did not begin: a record that a checkout or somebody else put here, and a `.qwex` above that
//! belongs to another user.

use std::fs;
use std::path::PathBuf;

use nix::unistd::{Uid, chown};
use serde_json::Value;

use crate::support::{User, make_new, seen};

const FILE: &str =
    "stages:\n  - { name: a, command: 'touch witness' }\n  - { name: b, needs: [a], command: 'false' }\n";

fn user() -> User {
    let user = User::new();
    fs::write(user.dir().join("qwex.yaml"), FILE).unwrap();
    user
}

/// A pipeline of this user that failed, and where its record is.
fn failed(user: &User) -> (String, PathBuf) {
    assert_eq!(seen(user.qwexctl(&["pipeline", "run"])).code, 1);
    let id = seen(user.qwexctl(&["pipeline", "ls", "-q"]))
        .out
        .trim()
        .to_owned();
    let place = user.dir().join(".qwex/pipelines").join(&id).join("pipeline.json");
    fs::remove_file(user.dir().join("witness")).unwrap();
    (id, place)
}

#[test]
fn a_pipeline_that_somebody_else_put_here_is_not_driven() {
    let user = user();
    let (id, place) = failed(&user);
    let own = fs::read_to_string(&place).unwrap();
    // As if it had yet to begin.
    let changed = own
        .replace("\"failed\"", "\"pending\"")
        .replace("\"succeeded\"", "\"pending\"");
    let mut unmarked: Value = serde_json::from_str(&changed).unwrap();
    assert!(unmarked.as_object_mut().unwrap().remove("mark").is_some());
    for (record, doubt) in [
        (changed, "its mark is not of the key"),
        (unmarked.to_string(), "it carries no mark of you"),
    ] {
        fs::write(&place, &record).unwrap();
        for words in [
            &["pipeline", "resume", &id][..],
            &["pipeline", "resume", "-d", &id],
            &["pipeline", "cancel", &id],
            &["pipeline", "rm", &id],
            &["__drive-pipeline", &id],
        ] {
            let told = seen(user.qwexctl(words));
            assert_eq!(told.code, 1, "{words:?}: {}", told.err);
            for word in [
                "nobody can say that you began it",
                doubt,
                "pipeline run",
                "rm --force",
            ] {
                assert!(told.err.contains(word), "{words:?}: {}", told.err);
            }
        }
        let got = seen(user.qwexctl(&["pipeline", "get", &id]));
        assert!(got.code == 0 && got.err.contains("nobody can say"), "{}", got.err);
        assert!(!got.err.contains("pipeline resume"), "{}", got.err);
        assert_eq!(fs::read_to_string(&place).unwrap(), record, "it was changed");
        assert!(!place.with_file_name("cancel").exists());
    }
    assert!(!user.dir().join("witness").exists(), "its command was executed");
    assert_eq!(seen(user.qwexctl(&["pipeline", "rm", "--force", &id])).code, 0);
    assert_eq!(seen(user.qwexctl(&["pipeline", "get", &id])).code, 3);
}

#[test]
fn what_a_foreign_pipeline_calls_under_way_here_is_named() {
    let user = user();
    let (id, place) = failed(&user);
    let own = fs::read_to_string(&place).unwrap();
    let record: Value = serde_json::from_str(&own).unwrap();
    let run = record["stages"][0]["run_id"].as_str().unwrap();
    let changed = own
        .replace("\"failed\"", "\"running\"")
        .replace("\"succeeded\"", "\"running\"");
    fs::write(&place, changed).unwrap();
    let told = seen(user.qwexctl(&["pipeline", "resume", &id]));
    assert!(
        told.err.contains(&format!("`qwexctl cancel {run} ")),
        "{}",
        told.err
    );
}

/// A run of a stage that was recorded a minute ago, and whose driver never handed it over.
fn unhanded(user: &User, pipeline: &Value) -> String {
    let runs = user.dir().join(".qwex/runs");
    let of_stage = pipeline["stages"][0]["run_id"].as_str().unwrap();
    let mut run: Value =
        serde_json::from_slice(&fs::read(runs.join(of_stage).join("run.json")).unwrap()).unwrap();
    let id = qwex_core::RunId::mint().to_string();
    make_new(&mut run, &id);
    run["created_at"] = "2026-01-01T00:00:00Z".into();
    fs::create_dir(runs.join(&id)).unwrap();
    fs::write(runs.join(&id).join("run.json"), run.to_string()).unwrap();
    id
}

#[test]
fn only_a_pipeline_of_this_user_keeps_a_run_waiting() {
    let user = user();
    let (id, place) = failed(&user);
    let mut pipeline: Value = serde_json::from_slice(&fs::read(&place).unwrap()).unwrap();
    pipeline.as_object_mut().unwrap().remove("mark");
    let run = unhanded(&user, &pipeline);
    pipeline["status"] = "running".into();
    pipeline["stages"][0]["run_id"] = run.clone().into();
    let status = || {
        let got = seen(user.qwexctl(&["get", &run, "-o", "json"]));
        let got: Value = serde_json::from_str(&got.out).unwrap_or_else(|_| panic!("{}", got.err));
        got["status"].as_str().unwrap().to_owned()
    };
    user.put_pipeline(&pipeline);
    assert_eq!(status(), "pending", "its driver hands it over");
    let json = serde_json::to_string(&pipeline).unwrap();
    fs::write(
        user.dir().join(".qwex/pipelines").join(&id).join("pipeline.json"),
        json,
    )
    .unwrap();
    assert_eq!(status(), "failed", "nobody drives what nobody marked");
}

#[test]
fn the_mark_of_a_pipeline_is_of_one_key_and_one_id() {
    let user = user();
    let (id, place) = failed(&user);
    let resumed = |id: &str, state: Option<&str>| {
        let mut command = user.qwexctl(&["pipeline", "resume", id]);
        command.envs(state.map(|dir| ("QWEX_STATE_DIR", user.dir().join(dir))));
        seen(command)
    };
    let other_key = resumed(&id, Some("other"));
    assert!(
        other_key.err.contains("other/key is not there"),
        "{}",
        other_key.err
    );
    // The record of one is not the record of another.
    let copy = qwex_core::RunId::mint().to_string();
    let pipelines = user.dir().join(".qwex/pipelines");
    fs::create_dir(pipelines.join(&copy)).unwrap();
    fs::copy(&place, pipelines.join(&copy).join("pipeline.json")).unwrap();
    let copied = resumed(&copy, None);
    assert!(
        copied.err.contains("its mark is not of the key"),
        "{}",
        copied.err
    );
    // One's own goes on.
    let own = resumed(&id, None);
    assert!(
        own.code == 1 && own.err.contains("a: succeeded: kept") && own.err.contains("b: failed"),
        "{}",
        own.err
    );
}

/// Only root can give a directory away.
#[test]
fn a_qwex_of_another_user_above_is_passed_over_and_told_once() {
    assert!(
        Uid::effective().is_root(),
        "this test gives a directory to another user, which only root can: run it as root"
    );
    let user = user();
    let (_, _) = failed(&user);
    let below = user.dir().join("below");
    fs::create_dir(&below).unwrap();
    chown(&user.dir().join(".qwex"), Some(54_321.into()), None).unwrap();
    let at_below = |words: &[&str]| {
        let mut command = user.qwexctl(words);
        command.current_dir(&below);
        seen(command)
    };
    for words in [&["pipeline", "ls"][..], &["ps"]] {
        let told = at_below(words);
        assert!(
            told.code == 0 && told.out.lines().count() <= 1,
            "{}{}",
            told.out,
            told.err
        );
        assert_eq!(
            told.err.matches("QWEX_SAFE_DIRECTORY=").count(),
            1,
            "{}",
            told.err
        );
    }
    let absent = at_below(&["pipeline", "get"]);
    assert!(
        absent.code == 3 && absent.err.contains("uid 54321"),
        "{}",
        absent.err
    );
    let here = seen(user.qwexctl(&["pipeline", "ls"]));
    assert!(
        here.code == 5 && here.err.contains("QWEX_SAFE_DIRECTORY="),
        "{} {}",
        here.code,
        here.err
    );
    // Who has records of one's own below does not hear of it.
    assert_eq!(at_below(&["run", "--", "true"]).code, 0);
    assert_eq!(at_below(&["ps"]).err, "");
}

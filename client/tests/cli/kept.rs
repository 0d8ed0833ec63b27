//! Kept runs of a directory: whose they are, what happens when nobody can keep them, and what one of them does to others.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{BINARY, User, keeper_of, make_new, seen, until};

/// With a retry a run of this machine has a keeper.
fn start(user: &User, command: &[&str]) -> String {
    let words = [&["run", "-d", "--retries", "1", "--"], command].concat();
    let started = seen(user.qwexctl(&words));
    assert_eq!(started.code, 0, "{}", started.err);
    started.out.trim().to_owned()
}

fn file(user: &User, id: &str, name: &str) -> PathBuf {
    user.dir().join(".qwex/runs").join(id).join(name)
}

fn status(user: &User, id: &str) -> String {
    let told = seen(user.qwexctl(&["get", id, "-o", "json"]));
    let run: Value = serde_json::from_str(&told.out).unwrap_or_else(|_| panic!("{}", told.err));
    run["status"].as_str().unwrap().to_owned()
}

/// A run as a stranger would have put it there, with the mark of another; and the file that its command would make.
fn planted(user: &User) -> (String, PathBuf) {
    let witness = user.dir().join("witness");
    let made = start(user, &["touch", "witness"]);
    until("it never ended", || {
        (status(user, &made) == "succeeded").then_some(())
    });
    fs::remove_file(&witness).unwrap();
    let id = qwex_core::RunId::mint().to_string();
    let place = user.dir().join(".qwex/runs").join(&id);
    fs::create_dir(&place).unwrap();
    for name in ["placed.json", "placed.mac"] {
        fs::copy(file(user, &made, name), place.join(name)).unwrap();
    }
    let mut run: Value = serde_json::from_slice(&fs::read(file(user, &made, "run.json")).unwrap()).unwrap();
    make_new(&mut run, &id);
    fs::write(place.join("run.json"), run.to_string()).unwrap();
    (id, witness)
}

#[test]
fn looking_at_a_run_that_somebody_else_put_there_starts_nothing() {
    let user = User::new();
    // With the mark of another run; and with none, as before there were any.
    let (id, witness) = planted(&user);
    for with_mark in [true, false] {
        if !with_mark {
            fs::remove_file(file(&user, &id, "placed.mac")).unwrap();
        }
        let listed = seen(user.qwexctl(&["ps"]));
        assert!(listed.out.contains(&id[..8]), "{}", listed.out);
        assert!(
            listed.err.contains("nobody can say that you submitted it"),
            "{}",
            listed.err
        );
        assert_eq!(status(&user, &id), "pending");
        let why = seen(user.qwexctl(&["why", &id]));
        assert!(why.out.contains("rm --force"), "{}", why.out);
        for waiting in [["wait", &id], ["attach", &id]] {
            let told = seen(user.qwexctl(&waiting));
            assert_eq!(told.code, 125, "{waiting:?}: {}", told.err);
            assert!(
                told.err.contains("fix:") && told.err.contains("rerun"),
                "{}",
                told.err
            );
        }
        assert!(keeper_of(&id).is_none());
    }
    // Nor by hand.
    let kept = seen(user.qwexctl(&["__keep", user.dir().to_str().unwrap(), &id]));
    assert_ne!(kept.code, 0);
    assert!(!witness.exists(), "its command was executed");
    assert_eq!(seen(user.qwexctl(&["rm", &id])).code, 6);
    assert_eq!(seen(user.qwexctl(&["rm", "--force", &id])).code, 0);
    assert_eq!(seen(user.qwexctl(&["get", &id])).code, 3);
}

#[test]
fn a_place_for_the_key_that_cannot_be_meant_is_refused() {
    let user = User::new();
    let mut command = user.qwexctl(&["run", "-d", "--retries", "1", "--", "true"]);
    command.env("QWEX_STATE_DIR", "state");
    let told = seen(command);
    assert_eq!(told.code, 1, "{}", told.err);
    for words in [
        "QWEX_STATE_DIR is no absolute path: \"state\"",
        "fix:",
        "QWEX_STATE_DIR=/DIR",
    ] {
        assert!(told.err.contains(words), "{words}: {}", told.err);
    }
    assert!(!user.dir().join("state").exists() && !user.dir().join(".local").exists());
    let runs = fs::read_dir(user.dir().join(".qwex/runs")).map_or(0, Iterator::count);
    assert_eq!(runs, 0, "a run was recorded that nobody can keep");
}

#[test]
fn a_directory_that_moved_keeps_its_runs() {
    let user = User::new();
    fs::create_dir(user.dir().join("a")).unwrap();
    let at = |place: &str, words: &[&str]| {
        let mut command = user.qwexctl(words);
        command.current_dir(user.dir().join(place));
        seen(command)
    };
    let started = at("a", &["run", "-d", "--retries", "1", "--", "sleep", "600"]);
    let id = started.out.trim();
    let keeper = until("it has no keeper", || keeper_of(id));
    fs::rename(user.dir().join("a"), user.dir().join("b")).unwrap();
    kill(keeper, Signal::SIGKILL).unwrap();
    until("the keeper never went", || keeper_of(id).is_none().then_some(()));
    // One that has just been started is not started again at once: it is the next look that does.
    until("no keeper came", || {
        let listed = at("b", &["ps"]);
        assert!(!listed.err.contains("submitted"), "{}", listed.err);
        keeper_of(id)
    });
    assert_eq!(at("b", &["cancel", "--wait", id]).code, 0);
}

#[test]
fn a_keeper_that_cannot_begin_is_told_and_not_started_without_end() {
    let user = User::new();
    let id = start(&user, &["sleep", "600"]);
    let keeper = until("it has no keeper", || keeper_of(&id));
    kill(keeper, Signal::SIGKILL).unwrap();
    until("the keeper never went", || keeper_of(&id).is_none().then_some(()));
    // No keeper can store how far the log is.
    let index = file(&user, &id, "log-a1.json");
    fs::remove_file(&index).ok();
    fs::create_dir(&index).unwrap();
    let told = seen(user.qwexctl(&["wait", &id]));
    assert_eq!(told.code, 125, "{}", told.err);
    assert!(
        told.err.contains("could not begin") && told.err.contains("rm --force"),
        "{}",
        told.err
    );
    let notes = fs::read_to_string(file(&user, &id, "keeper.log")).unwrap();
    let starts = notes.lines().filter(|line| line.contains("log-a1.json")).count();
    assert!(starts < 20, "{starts} keepers were started");
    fs::remove_dir(&index).unwrap();
    assert_eq!(seen(user.qwexctl(&["cancel", "--wait", &id])).code, 0);
}

#[test]
fn one_bad_run_does_not_keep_the_others_from_you() {
    let user = User::new();
    let good = seen(user.qwexctl(&["run", "-d", "--", "true"]))
        .out
        .trim()
        .to_owned();
    until("it never ended", || {
        (status(&user, &good) == "succeeded").then_some(())
    });
    let bad = start(&user, &["sleep", "600"]);
    let placed = fs::read(file(&user, &bad, "placed.json")).unwrap();
    fs::write(file(&user, &bad, "placed.json"), b"{torn").unwrap();
    let listed = seen(user.qwexctl(&["ps"]));
    assert_eq!(listed.code, 0, "{}", listed.err);
    assert!(
        listed.out.contains(&good[..8]) && listed.err.contains("placed.json"),
        "{}",
        listed.err
    );
    let pruned = seen(user.qwexctl(&["prune", "--older-than", "1m", "--yes"]));
    assert!(
        pruned.code == 0 && pruned.err.contains(&format!("left alone: run {bad}")),
        "{}",
        pruned.err
    );
    fs::write(file(&user, &bad, "placed.json"), placed).unwrap();
    assert_eq!(seen(user.qwexctl(&["cancel", "--wait", &bad])).code, 0);
}

#[test]
fn a_keeper_that_was_started_within_a_run_outlives_it() {
    let user = User::new();
    let line = format!("{BINARY} run -d --retries 1 -- sleep 600 >inner");
    let outer = seen(user.qwexctl(&["run", "--", "sh", "-c", &line]));
    assert_eq!(outer.code, 0, "{}", outer.err);
    let inner = fs::read_to_string(user.dir().join("inner")).unwrap();
    let inner = inner.trim();
    assert!(keeper_of(inner).is_some(), "it was killed with the outer run");
    until("it never ran", || {
        let status = status(&user, inner);
        assert!(
            ["pending", "starting", "running"].contains(&status.as_str()),
            "{status}"
        );
        (status == "running").then_some(())
    });
    assert!(keeper_of(inner).is_some(), "it was killed with the outer run");
    assert_eq!(seen(user.qwexctl(&["cancel", "--wait", inner])).code, 0);
}

/// What `cancel` waits for without `--wait`.
const STOPPING: Duration = Duration::from_secs(15);

#[test]
fn cancel_with_wait_waits_for_as_long_as_it_takes() {
    let user = User::new();
    let id = start(&user, &["sleep", "600"]);
    let keeper = until("it has no keeper", || keeper_of(&id));
    kill(keeper, Signal::SIGSTOP).unwrap();
    let mut cancelling = Command::new(BINARY)
        .args(["cancel", "--wait", &id])
        .env_clear()
        .env("HOME", user.dir())
        .current_dir(user.dir())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + STOPPING + Duration::from_secs(1);
    while Instant::now() < deadline {
        assert_eq!(cancelling.try_wait().unwrap(), None, "it did not wait");
        std::thread::sleep(Duration::from_millis(100));
    }
    kill(keeper, Signal::SIGCONT).unwrap();
    let ended = until("it never ended", || cancelling.try_wait().unwrap());
    assert!(ended.success());
    assert_eq!(status(&user, &id), "cancelled");
}

//! Python projects: runs and stages of this machine go through `uv run`, which is said, recorded and can be left out.
//! A script stands in for uv: it says that it was called, and executes what it was given.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Seen, User, seen};

fn project() -> User {
    let user = User::new();
    let bin = user.dir().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for (name, script) in [
        ("uv", "#!/bin/sh\necho \"uv $1\"\nshift\nexec \"$@\"\n"),
        ("python", "#!/bin/sh\necho python \"$@\"\n"),
    ] {
        std::fs::write(bin.join(name), script).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(user.dir().join("uv.lock"), "version = 1\n").unwrap();
    user
}

fn qwexctl(user: &User, words: &[&str]) -> Seen {
    let path = format!(
        "{}:{}",
        user.dir().join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = user.qwexctl(words);
    command.env("PATH", path);
    seen(command)
}

const STAGES: &str = "stages:\n  - { name: line, command: 'python a.py', inputs: [a.py] }\n  - { name: list, needs: [line], command: [python, b.py] }\n\
                      \x20 - { name: other, needs: [list], command: 'echo plain' }\n";

#[test]
fn stages_go_through_uv_and_the_record_says_so() {
    let user = project();
    std::fs::write(user.dir().join("qwex.yaml"), STAGES).unwrap();
    let ran = qwexctl(&user, &["pipeline", "run"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("these stages run through `uv run`"),
        "{}",
        ran.err
    );
    let logs = qwexctl(&user, &["pipeline", "logs"]).out;
    assert_eq!(
        logs,
        "line  | uv run\nline  | python a.py\nlist  | uv run\nlist  | python b.py\nother | plain\n"
    );
    let got: Value = serde_json::from_str(&qwexctl(&user, &["pipeline", "get", "-o", "json"]).out).unwrap();
    let stage = &got["stages"][0];
    assert_eq!(stage["runs_by"], "uv run");
    let run = qwexctl(&user, &["get", stage["run_id"].as_str().unwrap(), "-o", "json"]).out;
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!(run["provenance"]["runs_by"], "uv run");
    assert_eq!(run["spec"]["command"][0], "uv");
}

#[test]
fn what_uv_installs_is_part_of_what_a_stage_depends_on() {
    let user = project();
    std::fs::write(user.dir().join("a.py"), "").unwrap();
    std::fs::write(
        user.dir().join("qwex.yaml"),
        "stages:\n  - { name: line, command: 'python a.py', inputs: [a.py] }\n",
    )
    .unwrap();
    let reason = |words: &[&str]| {
        let ran = qwexctl(&user, &[&["pipeline", "run", "-o", "json"], words].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let got: Value =
            serde_json::from_str(&qwexctl(&user, &["pipeline", "get", "-o", "json"]).out).unwrap();
        got["stages"][0]["reused_from"].is_string()
    };
    assert!(!reason(&[]), "the first time it runs");
    assert!(reason(&[]), "the same again is reused");
    assert!(!reason(&["--no-uv"]), "without uv it is another stage");
    std::fs::write(user.dir().join("uv.lock"), "version = 2\n").unwrap();
    assert!(!reason(&[]), "another lock may install something else");
}

#[test]
fn uv_can_be_left_out_and_need_not_be_there() {
    let user = project();
    std::fs::write(user.dir().join("qwex.yaml"), STAGES).unwrap();
    let ran = qwexctl(&user, &["pipeline", "run", "--no-uv"]);
    assert!(ran.code == 0 && !ran.err.contains("uv run"), "{}", ran.err);
    assert!(!qwexctl(&user, &["pipeline", "logs"]).out.contains("uv run"));
    std::fs::remove_file(user.dir().join("bin/uv")).unwrap();
    let run = qwexctl(&user, &["run", "--", "python", "a.py"]);
    assert_eq!((run.code, run.out.as_str()), (0, "python a.py\n"), "{}", run.err);
}

#[test]
fn the_same_again_goes_through_uv_once_and_as_it_did_before() {
    let user = project();
    assert_eq!(
        qwexctl(&user, &["run", "--", "python", "a.py"]).out,
        "uv run\npython a.py\n"
    );
    assert_eq!(qwexctl(&user, &["rerun", "@latest"]).out, "uv run\npython a.py\n");
    std::fs::remove_file(user.dir().join("uv.lock")).unwrap();
    let elsewhere = qwexctl(&user, &["rerun", "@latest"]);
    assert_eq!(
        elsewhere.out, "python a.py\n",
        "no uv project any more: {}",
        elsewhere.err
    );
    std::fs::write(user.dir().join("uv.lock"), "version = 1\n").unwrap();
    assert_eq!(
        qwexctl(&user, &["run", "--no-uv", "--", "python", "a.py"]).out,
        "python a.py\n"
    );
    assert_eq!(qwexctl(&user, &["rerun", "@latest"]).out, "python a.py\n");
}

#[test]
fn the_project_is_looked_for_where_the_command_works() {
    let user = project();
    let inner = user.dir().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let words = ["run", "--workspace", "inner", "--", "python", "a.py"];
    assert_eq!(qwexctl(&user, &words).out, "python a.py\n");
    std::fs::write(inner.join("pyproject.toml"), "").unwrap();
    assert_eq!(qwexctl(&user, &words).out, "uv run\npython a.py\n");
}

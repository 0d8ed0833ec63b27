//! What a policy and content rules forbid, seen from outside: what is said, and that nothing was started.

use std::path::Path;
use std::process::Command;

use crate::support::{BINARY, Seen, User, seen};

fn with(config: &str) -> User {
    let user = User::new();
    write(&user, ".config/qwex/config.yaml", config);
    user
}

fn write(user: &User, name: &str, text: &str) {
    let path = user.dir().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn run(user: &User, words: &[&str]) -> Seen {
    seen(user.qwexctl(words))
}

/// Refused with exit code 2, with these words, and without a trace of a run.
fn refused(user: &User, words: &[&str], parts: &[&str]) {
    let refused = run(user, words);
    assert_eq!(refused.code, 2, "{words:?}: {}", refused.err);
    for part in parts {
        assert!(refused.err.contains(part), "{words:?}: {part}\n{}", refused.err);
    }
    assert_eq!(run(user, &["ps", "-q"]).out, "", "{words:?}");
}

const FEW: &str = "policy:\n  backends: [local, docker]\n  images: ['python:*']\n  timeout: 1h\n";

/// The words of `line`, behind `run`, in front of a command.
fn runs(line: &str) -> Vec<&str> {
    let words = ["run"].into_iter().chain(line.split(' '));
    words.chain(["--", "true"]).collect()
}

#[test]
fn a_run_that_the_policy_forbids_is_refused_with_file_line_and_a_way_out() {
    let user = with(FEW);
    for line in [
        "--backend podman --image python:3 --timeout 1m",
        "-d --backend ssh --host x --timeout 1m",
        "--backend k8s --image python:3 --timeout 1m",
        "--remote --image python:3",
    ] {
        let said = [
            "the policy does not allow the backend",
            "config.yaml:2 allows local, docker",
            "code: policy",
        ];
        refused(&user, &runs(line), &said);
    }
    let said = [
        "the image evil",
        "config.yaml:3 allows python:*",
        "which is yours",
    ];
    refused(&user, &runs("--backend docker --image evil --timeout 1m"), &said);
    let said = ["sets no limit of time", "config.yaml:4", "--timeout 1h"];
    refused(&user, &["run", "--", "true"], &said);
}

#[test]
fn what_was_allowed_once_is_looked_at_again() {
    let user = with(FEW);
    let allowed = run(&user, &["run", "--timeout", "1m", "--", "true"]);
    assert_eq!(allowed.code, 0, "{}", allowed.err);
    write(&user, ".config/qwex/config.yaml", "policy: { timeout: 1s }\n");
    let again = run(&user, &["rerun", "@latest"]);
    assert!(
        again.code == 2 && again.err.contains("allows at most 1s"),
        "{}",
        again.err
    );
}

#[test]
fn an_image_that_rerun_puts_in_is_looked_at_wherever_it_goes() {
    let user = with("policy: { images: ['python:*'] }\n");
    let first = run(&user, &["run", "--", "true"]);
    assert_eq!(first.code, 0, "{}", first.err);
    for backend in ["remote", "docker"] {
        let again = run(
            &user,
            &["rerun", "@latest", "--backend", backend, "--image", "evil/x"],
        );
        assert!(
            again.code == 2 && again.err.contains("does not allow the image evil/x"),
            "{backend}: {}",
            again.err
        );
    }
}

#[test]
fn a_process_of_this_machine_works_in_an_allowed_directory_whatever_it_says() {
    let user = with("policy: { workspaces: [/srv/allowed] }\n");
    for flags in [&["--no-workspace"][..], &["--workdir", "/etc"], &[]] {
        let said = ["does not allow work in the directory"];
        refused(&user, &[&["run"], flags, &["--", "true"]].concat(), &said);
    }
}

#[test]
fn auto_passes_over_what_is_not_allowed() {
    let user = with("policy: { backends: [docker] }\n");
    let chosen = run(&user, &["run", "--backend", "auto", "--", "true"]);
    // Whether there is a docker here or not: it is never `local`.
    assert!(
        !chosen.err.contains("chosen: backend this machine"),
        "{}",
        chosen.err
    );
    assert!(
        chosen.err.contains("the policy does not allow the backend local"),
        "{}",
        chosen.err
    );
}

#[test]
fn a_file_that_cannot_be_used_stops_runs_and_nothing_else() {
    let user = with("");
    assert_eq!(run(&user, &["run", "--", "echo", "before"]).code, 0);
    write(&user, ".config/qwex/config.yaml", "policy:\n  imges: [a]\n");
    let stopped = run(&user, &["run", "-d", "--", "true"]);
    assert_eq!(stopped.code, 2, "{}", stopped.err);
    for part in [
        "config.yaml:2:3",
        "did you mean `images`?",
        "nothing can be started",
    ] {
        assert!(stopped.err.contains(part), "{part}\n{}", stopped.err);
    }
    assert_eq!(run(&user, &["ps", "-q"]).out.lines().count(), 1);
    assert_eq!(run(&user, &["logs", "@latest"]).out, "before\n");
    for words in [
        &["get", "@latest"][..],
        &["pipeline", "ls"],
        &["config", "view"],
        &["help", "policy"],
    ] {
        assert_eq!(run(&user, words).code, 0, "{words:?}");
    }
    let doctor = run(&user, &["doctor"]);
    assert!(
        doctor.code == 1 && doctor.out.contains("there is no field `imges` here"),
        "{}",
        doctor.out
    );
}

#[test]
fn stages_are_checked_by_validate_plan_run_and_resume() {
    let user = with("");
    let file = "stages:\n  - { name: a, command: 'true' }\n  - { name: b, needs: [a], command: 'false', timeout: 2h }\n";
    write(&user, "qwex.yaml", file);
    assert_eq!(run(&user, &["pipeline", "run"]).code, 1);
    write(&user, ".config/qwex/config.yaml", "policy:\n  timeout: 1h\n");
    let validated = run(&user, &["validate"]);
    assert_eq!(validated.code, 2, "{}", validated.err);
    for part in [
        "qwex.yaml:3:",
        "the policy does not allow 2h of time",
        "config.yaml:2 allows at most 1h",
    ] {
        assert!(validated.err.contains(part), "{part}\n{}", validated.err);
    }
    let runs = run(&user, &["ps", "-q"]).out;
    for words in [
        &["pipeline", "plan"][..],
        &["pipeline", "run"],
        &["pipeline", "resume"],
    ] {
        let refused = run(&user, words);
        assert_eq!(refused.code, 2, "{words:?}: {}", refused.err);
        assert!(
            refused.err.contains("the stage ") && refused.err.contains("config.yaml:2"),
            "{}",
            refused.err
        );
    }
    assert_eq!(run(&user, &["ps", "-q"]).out, runs);
}

#[test]
fn a_script_that_a_stage_made_is_looked_at_before_it_is_executed() {
    let user =
        with("policy: { content: { rules: [{ name: never, pattern: forbidden-word, action: deny }] } }\n");
    let file = "stages:\n  - { name: make, command: [sh, make.sh] }\n  - { name: use, needs: [make], command: [sh, made.sh] }\n";
    write(&user, "qwex.yaml", file);
    write(
        &user,
        "make.sh",
        "printf 'touch ran # %s-word\\n' forbidden > made.sh\n",
    );
    let ran = run(&user, &["pipeline", "run"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("the content rule never forbids"), "{}", ran.err);
    assert!(!user.dir().join("ran").exists());
}

#[test]
fn content_rules_warn_once_and_deny_with_the_line() {
    let user = with(
        "policy:\n  content:\n    rules:\n      - { name: no-sleep, pattern: 'sleep', language: shell, action: deny, message: do not wait }\n",
    );
    write(&user, "x.sh", "echo hello\n# chmod 777 y\nchmod 777 x.sh\n");
    let warned = run(&user, &["run", "--retries", "1", "--", "sh", "x.sh"]);
    assert_eq!(
        (warned.code, warned.out.as_str()),
        (0, "hello\n"),
        "{}",
        warned.err
    );
    assert_eq!(warned.err.matches("world-writable").count(), 1, "{}", warned.err);
    assert!(
        warned
            .err
            .contains("qwex: warning: x.sh:3: chmod 777 x.sh (world-writable: "),
        "{}",
        warned.err
    );
    write(&user, "y.sh", "echo one\nsleep 1 \x1b[2J\n");
    for words in [
        &["run", "--", "bash", "y.sh"][..],
        &["run", "-d", "--", "sh", "-c", "true; ./y.sh"],
    ] {
        let denied = run(&user, words);
        assert_eq!(denied.code, 2, "{}", denied.err);
        for part in [
            "the content rule no-sleep forbids",
            "y.sh:2: sleep 1 \\x1b[2J",
            "config.yaml:4",
            "do not wait",
        ] {
            assert!(denied.err.contains(part), "{part}\n{}", denied.err);
        }
        assert!(!denied.err.contains('\x1b'));
    }
    write(
        &user,
        ".config/qwex/config.yaml",
        "policy: { content: { off: [world-writable] } }\n",
    );
    assert!(!run(&user, &["run", "--", "sh", "x.sh"]).err.contains("warning"));
}

/// As another user of a machine that has `/etc/qwex/config.yaml`: a namespace of mounts with another `/etc`.
fn on_machine(user: &User, system: &str, words: &[&str]) -> Option<Seen> {
    write(user, "system.yaml", system);
    let script =
        "mount -t tmpfs none /etc && mkdir /etc/qwex && cp system.yaml /etc/qwex/config.yaml && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args([
        "--map-root-user",
        "--mount",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        BINARY,
    ]);
    command
        .args(words)
        .env_clear()
        .env("HOME", user.dir())
        .current_dir(user.dir());
    command.env("PATH", std::env::var("PATH").unwrap());
    // Whatever might lead elsewhere.
    for name in [
        "QWEX_CONFIG_DIR",
        "XDG_CONFIG_HOME",
        "XDG_CONFIG_DIRS",
        "QWEX_SYSTEM_CONFIG",
        "QWEX_POLICY",
    ] {
        command.env(name, user.dir().join("elsewhere"));
    }
    let output = command.output().ok()?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (!err.starts_with("unshare:") && !err.starts_with("mount:")).then(|| Seen {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err,
    })
}

#[test]
fn the_file_of_the_machine_binds_whatever_the_user_sets() {
    let user = User::new();
    write(
        &user,
        "elsewhere/config.yaml",
        "policy: { backends: [local, docker, podman], timeout: 99h }\n",
    );
    let system =
        "policy: { backends: [docker], content: { rules: [{ name: world-writable, action: deny }] } }\n";
    let Some(refused) = on_machine(&user, system, &["run", "--", "true"]) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must be able to make a namespace"
        );
        eprintln!("SKIPPED: no namespace of mounts can be made here");
        return;
    };
    assert_eq!(refused.code, 2, "{}", refused.err);
    for part in [
        "/etc/qwex/config.yaml:1 allows docker",
        "ask whoever keeps this machine",
    ] {
        assert!(refused.err.contains(part), "{part}\n{}", refused.err);
    }
    let local = "policy: { backends: [local] }\n";
    let run = on_machine(&user, local, &["run", "--timeout", "1m", "--", "echo", "allowed"]).unwrap();
    assert_eq!((run.code, run.out.as_str()), (0, "allowed\n"), "{}", run.err);
    let broken = on_machine(&user, "policy: [", &["run", "-d", "--", "true"]).unwrap();
    assert!(
        broken.code != 0 && broken.err.contains("ask whoever keeps this machine"),
        "{}",
        broken.err
    );
    assert!(Path::new(&user.dir().join(".qwex")).exists());
}

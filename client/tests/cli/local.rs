//! Runs of this machine, without a server: real processes.

use serde_json::Value;

use crate::support::{BINARY, User, seen, until};

#[test]
fn the_exit_code_and_both_streams_are_the_commands_own() {
    let user = User::new();
    let seen = seen(user.qwexctl(&[
        "run",
        "--progress",
        "none",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]));
    assert_eq!(
        (seen.code, seen.out.as_str(), seen.err.as_str()),
        (7, "out\n", "err\n")
    );
}

#[test]
fn arguments_reach_the_command_untouched() {
    let seen = seen(User::new().qwexctl(&["run", "--", "printf", "%s|", "--help", "-o", "a b", ""]));
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (0, "--help|-o|a b||"),
        "{}",
        seen.err
    );
}

#[test]
fn a_command_that_is_not_there_is_127_and_a_signal_128_and_more() {
    let user = User::new();
    assert_eq!(seen(user.qwexctl(&["run", "--", "/does/not/exist"])).code, 127);
    assert_eq!(seen(user.qwexctl(&["run", "--", "/etc/passwd"])).code, 126);
    assert_eq!(
        seen(user.qwexctl(&["run", "--", "sh", "-c", "kill -9 $$"])).code,
        137
    );
}

#[test]
fn a_detached_run_is_waited_for_read_and_listed() {
    let user = User::new();
    let started = seen(user.qwexctl(&[
        "run",
        "-d",
        "--name",
        "slow",
        "--",
        "sh",
        "-c",
        "echo one; echo two; exit 4",
    ]));
    let id = started.out.trim().to_owned();
    assert_eq!((started.code, id.len()), (0, 36), "{}", started.err);
    assert_eq!(seen(user.qwexctl(&["wait", "slow"])).code, 4);
    assert_eq!(seen(user.qwexctl(&["logs", "@latest"])).out, "one\ntwo\n");
    assert_eq!(seen(user.qwexctl(&["logs", "-f", &id])).out, "one\ntwo\n");
    assert_eq!(seen(user.qwexctl(&["logs", "-n", "1", &id[..30]])).out, "two\n");
    assert_eq!(seen(user.qwexctl(&["logs", "--grep", "^o", &id])).out, "one\n");
    assert_eq!(seen(user.qwexctl(&["attach", &id])).code, 4);
    assert_eq!(seen(user.qwexctl(&["ps", "-q"])).out.trim(), id);
    assert_eq!(seen(user.qwexctl(&["ps", "-q", "--status", "succeeded"])).out, "");
    let got: Value =
        serde_json::from_str(&seen(user.qwexctl(&["get", "@last-failed", "-o", "json"])).out).unwrap();
    assert_eq!(got["exit_code"], 4);
    assert_eq!(got["logs"]["lines"], 2);
    let why = seen(user.qwexctl(&["why", &id]));
    assert!(why.out.contains("exit code 4"), "{}", why.out);
}

#[test]
fn what_a_run_used_and_where_is_recorded_and_shown() {
    let user = User::new();
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let foreground = seen(user.qwexctl(&["run", "--name", "busy", "--", "sh", "-c", script]));
    assert_eq!(foreground.code, 0, "{}", foreground.err);
    let got: Value = serde_json::from_str(&seen(user.qwexctl(&["get", "busy", "-o", "json"])).out).unwrap();
    assert!(got["usage"]["cpu_ms"].as_u64() > Some(0), "{got}");
    assert!(got["usage"]["max_memory_bytes"].as_u64() > Some(100_000), "{got}");
    assert!(got["provenance"]["host"].is_string(), "{got}");
    let described = seen(user.qwexctl(&["describe", "busy"])).out;
    assert!(described.contains("s of processor time, "), "{described}");
    assert!(described.contains("MiB of memory at most"), "{described}");
    let table = seen(user.qwexctl(&["ps"])).out;
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!((lines[0][4], lines[1][4]), ("BACKEND", "local"), "{table}");
}

#[test]
fn a_run_is_cancelled_and_run_again() {
    let user = User::new();
    let id = seen(user.qwexctl(&["run", "-d", "--", "sleep", "600"]))
        .out
        .trim()
        .to_owned();
    let cancelled = seen(user.qwexctl(&["cancel", "--wait", &id]));
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    let got: Value = serde_json::from_str(&seen(user.qwexctl(&["get", &id, "-o", "json"])).out).unwrap();
    assert_eq!(got["status"], "cancelled");
    let again = seen(user.qwexctl(&["rerun", "-d", &id]));
    let second = again.out.trim().to_owned();
    assert_ne!(second, id);
    assert_eq!(seen(user.qwexctl(&["stop", &second])).code, 0);
}

#[test]
fn any_byte_reaches_a_pipe() {
    let user = User::new();
    let mut command = user.qwexctl(&["run", "--", "printf", r"\000\377\033[31m\r\n%s", "no newline"]);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"\x00\xff\x1b[31m\r\nno newline");
}

#[test]
fn with_json_the_log_steps_aside() {
    let seen = seen(User::new().qwexctl(&["run", "-o", "json", "--", "echo", "hello"]));
    let run: Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!(run["status"], "succeeded");
    assert!(seen.err.contains("hello\n"), "{}", seen.err);
}

#[test]
fn the_project_file_sets_variables_and_flags_beat_it() {
    let user = User::new();
    std::fs::write(
        user.dir().join("qwex.yaml"),
        "image: python:3\nenv: { A: file, B: file }\n",
    )
    .unwrap();
    let seen = seen(user.qwexctl(&["run", "-e", "B=flag", "--", "sh", "-c", "echo $A $B"]));
    assert_eq!((seen.code, seen.out.as_str()), (0, "file flag\n"), "{}", seen.err);
}

#[test]
fn the_project_file_sets_times_retries_and_limits_too() {
    let user = User::new();
    let file = "timeout: 1s\nretry: { limit: 1, on: [exit_code], backoff: { initial: 1s } }\nnetwork: none\n";
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    let late = seen(user.qwexctl(&["run", "--", "sleep", "60"]));
    assert!(late.code != 0 && late.err.contains("timeout"), "{}", late.err);
    let twice = seen(user.qwexctl(&["run", "--", "false"]));
    assert!(twice.code == 1, "{}", twice.err);
    let attempts = |user: &User| {
        let run: Value =
            serde_json::from_str(&seen(user.qwexctl(&["get", "@latest", "-o", "json"])).out).unwrap();
        run["attempt"].as_u64()
    };
    assert_eq!(attempts(&user), Some(2));
    assert_eq!(
        seen(user.qwexctl(&["run", "--retries", "0", "--", "false"])).code,
        1
    );
    assert_eq!(attempts(&user), Some(1), "a flag beats the file");
    std::fs::write(user.dir().join("qwex.yaml"), "retry: { limit: 1, on: [oops] }\n").unwrap();
    let bad = seen(user.qwexctl(&["run", "-d", "--", "true"]));
    assert!(
        bad.code == 2 && bad.err.contains("there is no failure `oops`"),
        "{}",
        bad.err
    );
}

#[test]
fn a_log_that_its_command_emptied_is_not_told_as_whole() {
    let user = User::new();
    let script = "echo one >&2; sleep 0.2; echo two > /dev/stderr; sleep 0.2; echo three >&2";
    assert_eq!(seen(user.qwexctl(&["run", "--", "sh", "-c", script])).code, 0);
    let run: Value =
        serde_json::from_str(&seen(user.qwexctl(&["get", "@latest", "-o", "json"])).out).unwrap();
    assert_eq!(run["logs"]["verdict"], "gap", "{run:#}");
    assert_eq!(
        seen(user.qwexctl(&["run", "--", "sh", "-c", "echo one >&2"])).code,
        0
    );
    let run: Value =
        serde_json::from_str(&seen(user.qwexctl(&["get", "@latest", "-o", "json"])).out).unwrap();
    assert_eq!(run["logs"]["verdict"], "complete", "{run:#}");
}

#[test]
fn what_this_backend_has_not_is_refused_with_a_way_out() {
    let user = User::new();
    for flags in [
        ["--image", "python:3"],
        ["--gpu", "1"],
        ["--queue", "q"],
        ["--network", "none"],
        ["--mount", "/data:/data"],
    ] {
        let mut words = vec!["run", "-d"];
        words.extend(flags);
        words.extend(["--", "true"]);
        let seen = seen(user.qwexctl(&words));
        assert_eq!(seen.code, 2, "{flags:?}: {}", seen.err);
    }
}

#[test]
fn a_run_outlives_the_reader_of_its_output() {
    let user = User::new();
    let pipe = format!("{BINARY} run -- yes | head -n 1");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &pipe])
        .env("HOME", user.dir())
        .current_dir(user.dir());
    let output = shell.output().unwrap();
    assert_eq!(output.stdout, b"y\n");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("goes on: qwexctl attach"), "{told}");
    assert_eq!(seen(user.qwexctl(&["cancel", "@latest"])).code, 0);
}

/// How long a command may take to end after it was asked to.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);

#[test]
fn a_cancelled_run_that_still_runs_is_not_removed_under_its_supervisor() {
    let user = User::new();
    let script = "trap '' TERM; touch up; while :; do sleep 0.1; done";
    let id = seen(user.qwexctl(&["run", "-d", "--", "sh", "-c", script])).out;
    let id = id.trim();
    until("it never began", || user.dir().join("up").exists().then_some(()));
    let asked = std::time::Instant::now();
    let mut cancelling = std::process::Command::new(BINARY)
        .args(["cancel", "--wait", id])
        .env_clear()
        .env("HOME", user.dir())
        .current_dir(user.dir())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let run = || -> Value {
        let got = seen(user.qwexctl(&["get", id, "-o", "json"]));
        serde_json::from_str(&got.out).unwrap()
    };
    until("nobody asked it to stop", || {
        let flags = run()["flags"].to_string();
        flags.contains("cancel_requested").then_some(())
    });
    let refused = seen(user.qwexctl(&["rm", "--force", id]));
    if asked.elapsed() > GRACE {
        // A slow machine: it may be over by now, and is removed rightly.
        cancelling.wait().unwrap();
        return;
    }
    assert_eq!(refused.code, 6, "{}", refused.err);
    // What may keep it from ending for good, and what then.
    for words in ["has not ended yet", "state D", "cancel --wait", "ps -eo"] {
        assert!(refused.err.contains(words), "{words}: {}", refused.err);
    }
    assert!(cancelling.wait().unwrap().success());
    assert_eq!(run()["status"], "cancelled");
    assert_eq!(seen(user.qwexctl(&["rm", id])).code, 0);
}

//! Pipelines on this machine: real stages, real processes, whoever is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rexpect::session::spawn_command;
use serde_json::Value;

use crate::support::{BINARY, Seen, User, seen, until};

fn with(file: &str) -> User {
    let user = User::new();
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    user
}

fn run(user: &User, more: &[&str]) -> Seen {
    seen(user.qwexctl(&[&["pipeline", "run"], more].concat()))
}

fn get(user: &User) -> Value {
    let got = seen(user.qwexctl(&["pipeline", "get", "-o", "json"]));
    assert_eq!(got.code, 0, "{}", got.err);
    serde_json::from_str(&got.out).unwrap()
}

fn stage<'v>(pipeline: &'v Value, name: &str) -> &'v Value {
    let stages = pipeline["stages"].as_array().unwrap();
    stages
        .iter()
        .find(|stage| stage["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {pipeline}"))
}

/// `name=status` of every stage, in order.
fn statuses(pipeline: &Value) -> String {
    let stages = pipeline["stages"].as_array().unwrap();
    let each = stages.iter().map(|stage| {
        format!(
            "{}={}",
            stage["name"].as_str().unwrap(),
            stage["status"].as_str().unwrap()
        )
    });
    each.collect::<Vec<_>>().join(" ")
}

fn read(user: &User, file: &str) -> String {
    std::fs::read_to_string(user.dir().join(file)).unwrap_or_default()
}

fn until_over(user: &User) -> Value {
    until("the pipeline never ended", || {
        let pipeline = get(user);
        let status = pipeline["status"].as_str().unwrap().to_owned();
        (!["pending", "running"].contains(&status.as_str())).then_some(pipeline)
    })
}

/// The process that drives the pipeline of this user.
fn driver(user: &User) -> Option<Pid> {
    let is_ours = |pid: &Path| {
        let words = std::fs::read(pid.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("__drive-pipeline")
            && std::fs::read_link(pid.join("cwd")).is_ok_and(|cwd| cwd == user.dir().canonicalize().unwrap())
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pid = all.map(|entry| entry.path()).find(|path| is_ours(path))?;
    Some(Pid::from_raw(pid.file_name()?.to_str()?.parse().ok()?))
}

#[test]
fn stages_run_in_order_and_side_by_side() {
    // Each of b and c waits for the other: they must be there at the same time.
    let user = with(
        "name: demo\nstages:\n  - { name: a, command: 'echo a >> order' }\n\
         \x20 - { name: b, needs: [a], command: 'touch b.is; while [ ! -e c.is ]; do sleep 0.02; done', timeout: 10m }\n\
         \x20 - { name: c, needs: [a], command: 'touch c.is; while [ ! -e b.is ]; do sleep 0.02; done', timeout: 10m }\n\
         \x20 - { name: d, needs: [b, c], command: 'echo d >> order; echo to-out; echo to-err >&2' }\n",
    );
    let ran = run(&user, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(read(&user, "order"), "a\nd\n");
    let pipeline = get(&user);
    assert_eq!(
        statuses(&pipeline),
        "a=succeeded b=succeeded c=succeeded d=succeeded"
    );
    // A stage is an ordinary run.
    let id = stage(&pipeline, "d")["run_id"].as_str().unwrap().to_owned();
    let log = seen(user.qwexctl(&["logs", &id]));
    assert_eq!((log.code, log.out.as_str()), (0, "to-out\n"), "{}", log.err);
    let logs = seen(user.qwexctl(&["pipeline", "logs", "demo", "d"]));
    assert_eq!(logs.out, "d | to-out\nd | to-err\n");
    let listed = seen(user.qwexctl(&["pipeline", "ls"]));
    assert!(
        listed.out.contains("4/4") && listed.out.contains("succeeded"),
        "{}",
        listed.out
    );
    let of_runs = seen(user.qwexctl(&["ps", "-q"]));
    assert_eq!(of_runs.out.lines().count(), 4);
}

#[test]
fn at_most_so_many_at_the_same_time() {
    let user = with(
        "max_parallel: 1\nstages:\n  - name: a\n    matrix: { n: [1, 2, 3] }\n\
         \x20   command: 'mkdir only-one && sleep 0.1 && rmdir only-one'\n",
    );
    let ran = run(&user, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        statuses(&get(&user)),
        "a[n=1]=succeeded a[n=2]=succeeded a[n=3]=succeeded"
    );
}

#[test]
fn a_failure_stops_what_needs_it_and_nothing_else() {
    let user = with(
        "stages:\n  - { name: bad, command: 'echo broken >&2; exit 3' }\n\
         \x20 - { name: after, needs: [bad], command: 'touch never' }\n\
         \x20 - { name: beyond, needs: [after], command: 'touch never' }\n\
         \x20 - { name: mend, needs: [bad], if: failure(), command: 'touch mended' }\n\
         \x20 - { name: always, needs: [after], if: always(), command: 'touch always' }\n\
         \x20 - { name: flaky, command: 'exit 1', allow_failure: true }\n\
         \x20 - { name: fine, needs: [flaky], command: 'touch fine' }\n\
         \x20 - { name: not, if: \"${env.NOT_SET:-} != ''\", command: 'touch never' }\n",
    );
    let ran = run(&user, &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let pipeline = get(&user);
    for (name, status, reason) in [
        ("bad", "failed", "code 3"),
        ("after", "skipped", "bad failed"),
        ("beyond", "skipped", "after skipped"),
        ("mend", "succeeded", ""),
        ("always", "succeeded", ""),
        ("flaky", "failed", ""),
        ("fine", "succeeded", ""),
        ("not", "skipped", "`if` does not hold"),
    ] {
        let stage = stage(&pipeline, name);
        assert_eq!(stage["status"], status, "{name}: {stage}");
        assert!(
            stage["reason"].as_str().unwrap_or_default().contains(reason),
            "{name}: {stage}"
        );
    }
    assert_eq!(stage(&pipeline, "bad")["exit_code"], 3);
    for (file, is_there) in [
        ("never", false),
        ("mended", true),
        ("always", true),
        ("fine", true),
    ] {
        assert_eq!(user.dir().join(file).exists(), is_there, "{file}");
    }
    assert!(ran.err.contains("qwexctl logs"), "{}", ran.err);
    assert!(ran.err.contains("pipeline resume"), "{}", ran.err);
}

#[test]
fn an_allowed_failure_alone_is_a_success() {
    let user = with("stages: [{ name: a, command: 'exit 1', allow_failure: true }]\n");
    let ran = run(&user, &[]);
    assert_eq!(
        (ran.code, get(&user)["status"].as_str()),
        (0, Some("succeeded")),
        "{}",
        ran.err
    );
}

#[test]
fn a_failed_attempt_is_followed_by_another() {
    let user = with(
        "stages:\n  - name: third-time\n    command: 'echo x >> tries; [ $(wc -l < tries) -ge 3 ]'\n\
         \x20   retry: { limit: 5, on: [exit_code], backoff: { initial: 1s } }\n",
    );
    let ran = run(&user, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(read(&user, "tries"), "x\nx\nx\n");
    assert_eq!(stage(&get(&user), "third-time")["attempt"], 3);
}

#[test]
fn a_matrix_variables_and_ids_are_filled_in() {
    let user = with(
        "vars: { who: nobody }\nenv: { GREETING: hello }\nstages:\n  - name: say\n    matrix: { n: [1, 2], loud: [yes] }\n\
         \x20   command: 'echo \"$GREETING ${var.who} ${matrix.n} ${matrix.loud} ${run.id} $QWEX_RUN_ID ${pipeline.id}\" > said.${matrix.n}'\n",
    );
    let ran = run(&user, &["--set", "who=you"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let pipeline = get(&user);
    let id = stage(&pipeline, "say[n=2,loud=yes]")["run_id"].as_str().unwrap();
    let whole = pipeline["id"].as_str().unwrap();
    assert_eq!(
        read(&user, "said.2"),
        format!("hello you 2 yes {id} {id} {whole}\n")
    );
}

const MAKES: &str = "stages:\n  - name: make\n    inputs: [src]\n    outputs: [out/**]\n\
    \x20   command: 'echo ran >> made; mkdir -p out && cp src out/made && ln -sf made out/link && chmod +x out/made'\n\
    \x20 - name: use\n    needs: [make]\n    inputs: []\n    outputs: [used]\n    command: 'echo ran >> uses; cat out/link > used'\n";

#[test]
fn the_same_is_reused_and_its_files_come_back() {
    let user = with(MAKES);
    std::fs::write(user.dir().join("src"), "one").unwrap();
    let planned = seen(user.qwexctl(&["pipeline", "plan"]));
    assert!(!planned.out.contains("reuse"), "{}", planned.out);
    assert_eq!(run(&user, &[]).code, 0);
    std::fs::remove_dir_all(user.dir().join("out")).unwrap();
    std::fs::remove_file(user.dir().join("used")).unwrap();

    let planned = seen(user.qwexctl(&["pipeline", "plan"]));
    assert_eq!(
        planned.out.matches("reuse from run").count(),
        2,
        "{}",
        planned.out
    );
    let again = run(&user, &[]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("reused from run"), "{}", again.err);
    assert_eq!(
        (read(&user, "made"), read(&user, "uses")),
        ("ran\n".into(), "ran\n".into())
    );
    assert_eq!(
        (read(&user, "out/link"), read(&user, "used")),
        ("one".into(), "one".into())
    );

    // Another input: both run again. The same output of `make` for another reason: `use` does not.
    std::fs::write(user.dir().join("src"), "two").unwrap();
    assert_eq!(run(&user, &[]).code, 0);
    assert_eq!(read(&user, "used"), "two");
    assert_eq!(read(&user, "uses"), "ran\nran\n");
    let forced = run(&user, &["--no-cache"]);
    assert_eq!(forced.code, 0);
    assert!(!forced.err.contains("reused"), "{}", forced.err);
    assert_eq!(read(&user, "made"), "ran\nran\nran\n");
}

#[test]
fn what_a_stage_made_is_handed_on_as_it_was_made() {
    let user = with(
        "stages:\n  - { name: make, outputs: [made], command: 'echo good > made' }\n\
         \x20 - { name: spoil, needs: [make], command: 'echo bad > made' }\n\
         \x20 - { name: use, needs: [make, spoil], command: 'cat made > seen' }\n",
    );
    assert_eq!(run(&user, &[]).code, 0);
    assert_eq!(read(&user, "seen"), "good\n");
}

#[test]
fn an_output_that_was_not_made_is_a_failure() {
    let user = with("stages: [{ name: a, command: 'true', outputs: ['*.whl'] }]\n");
    let ran = run(&user, &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no file for its output *.whl"), "{}", ran.err);
}

/// Waits in the middle until a file is there; everything that runs says so.
const SLOW: &str = "stages:\n  - { name: first, command: 'echo first >> ran' }\n\
    \x20 - { name: slow, needs: [first], command: 'echo slow >> ran; touch begun; while [ ! -e go ]; do sleep 0.05; done', timeout: 10m }\n\
    \x20 - { name: last, needs: [slow], command: 'echo last >> ran' }\n";

fn begun(user: &User) {
    until("the slow stage never began", || {
        user.dir().join("begun").exists().then_some(())
    });
}

/// `pipeline run` in the foreground.
fn watching(user: &User) -> Command {
    command(user, &["pipeline", "run"])
}

/// One that can be watched while it works.
fn command(user: &User, words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(words)
        .env_clear()
        .env("HOME", user.dir())
        .env("PATH", std::env::var("PATH").unwrap())
        .env("TERM", "dumb")
        .current_dir(user.dir());
    command
}

#[test]
fn logs_are_followed_to_the_end_of_the_pipeline() {
    let user = with(
        "stages:\n\
         \x20 - { name: first, command: 'echo early; until [ -e go ]; do sleep 0.02; done; echo late', timeout: 10m }\n\
         \x20 - { name: last, needs: [first], command: 'printf open >&2' }\n",
    );
    assert_eq!(run(&user, &["-d"]).code, 0);
    let mut follow = command(&user, &["pipeline", "logs", "--follow"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first | early");
    std::fs::write(user.dir().join("go"), "").unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["first | late", "last  | open"]);
    assert!(follow.wait().unwrap().success());
    let refused = seen(user.qwexctl(&["pipeline", "logs", "-f", "-n", "1"]));
    assert_eq!(refused.code, 2, "{}", refused.err);
}

#[test]
fn g02_the_command_line_killed_the_pipeline_goes_on() {
    let user = with(SLOW);
    let mut watching = watching(&user).stderr(Stdio::null()).spawn().unwrap();
    begun(&user);
    watching.kill().unwrap();
    watching.wait().unwrap();
    std::fs::write(user.dir().join("go"), "").unwrap();
    let pipeline = until_over(&user);
    assert_eq!(
        statuses(&pipeline),
        "first=succeeded slow=succeeded last=succeeded"
    );
    assert_eq!(read(&user, "ran"), "first\nslow\nlast\n");
}

#[test]
fn g02_everything_killed_resume_runs_nothing_twice() {
    let user = with(SLOW);
    assert_eq!(run(&user, &["-d"]).code, 0);
    begun(&user);
    let driver = until("nobody drives", || driver(&user));
    kill(driver, Signal::SIGKILL).unwrap();
    until("the driver is there yet", || {
        seen(user.qwexctl(&["pipeline", "get"]))
            .err
            .contains("nobody drives it")
            .then_some(())
    });
    std::fs::write(user.dir().join("go"), "").unwrap();
    let resumed = seen(user.qwexctl(&["pipeline", "resume"]));
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert_eq!(read(&user, "ran"), "first\nslow\nlast\n");
    assert_eq!(seen(user.qwexctl(&["ps", "-q"])).out.lines().count(), 3);
}

#[test]
fn g02_the_driver_killed_again_and_again_runs_nothing_twice() {
    let user = with(
        "max_parallel: 2\nstages:\n  - name: many\n    matrix: { n: [1, 2, 3, 4, 5, 6, 7, 8] }\n\
         \x20   command: 'echo ${matrix.n} >> ran; sleep 0.1'\n  - { name: last, needs: [many], command: 'echo last >> ran' }\n",
    );
    assert_eq!(run(&user, &["-d"]).code, 0);
    for lines in 1..=6 {
        until("nothing goes on", || {
            (read(&user, "ran").lines().count() >= lines).then_some(())
        });
        let driver = until("nobody drives", || driver(&user));
        kill(driver, Signal::SIGKILL).unwrap();
        let resumed = seen(user.qwexctl(&["pipeline", "resume", "-d"]));
        assert_eq!(resumed.code, 0, "{}", resumed.err);
    }
    assert_eq!(until_over(&user)["status"], "succeeded");
    let ran = read(&user, "ran");
    let mut once: Vec<&str> = ran.lines().collect();
    once.sort_unstable();
    assert_eq!(once, ["1", "2", "3", "4", "5", "6", "7", "8", "last"], "{ran}");
}

#[test]
fn resume_after_mending_keeps_what_succeeded() {
    let user = with(
        "stages:\n  - { name: good, command: 'echo good >> ran' }\n\
         \x20 - { name: bad, needs: [good], command: 'echo bad >> ran; test -e mended' }\n\
         \x20 - { name: last, needs: [bad], command: 'echo last >> ran' }\n",
    );
    assert_eq!(run(&user, &[]).code, 1);
    let before = stage(&get(&user), "good")["run_id"].clone();
    std::fs::write(user.dir().join("mended"), "").unwrap();
    let resumed = seen(user.qwexctl(&["pipeline", "resume", "@last-failed"]));
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert!(resumed.err.contains("good: succeeded: kept"), "{}", resumed.err);
    assert_eq!(read(&user, "ran"), "good\nbad\nbad\nlast\n");
    let pipeline = get(&user);
    assert_eq!(stage(&pipeline, "good")["run_id"], before);
    assert_eq!(
        stage(&pipeline, "bad")["earlier_runs"].as_array().unwrap().len(),
        1
    );
    assert_eq!(pipeline["resumed"], 1);
}

#[test]
fn cancel_stops_what_runs_and_starts_no_more() {
    let user = with(SLOW);
    assert_eq!(run(&user, &["-d"]).code, 0);
    begun(&user);
    let cancelled = seen(user.qwexctl(&["pipeline", "cancel"]));
    assert_eq!(cancelled.code, 0, "{}", cancelled.err);
    let pipeline = until_over(&user);
    assert_eq!(
        statuses(&pipeline),
        "first=succeeded slow=cancelled last=cancelled"
    );
    let id = stage(&pipeline, "slow")["run_id"].as_str().unwrap().to_owned();
    let run = seen(user.qwexctl(&["get", &id, "-o", "json"]));
    let run: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(run["status"], "cancelled");
    // Taken up again it goes on.
    std::fs::write(user.dir().join("go"), "").unwrap();
    let resumed = seen(user.qwexctl(&["pipeline", "resume"]));
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert_eq!(read(&user, "ran"), "first\nslow\nslow\nlast\n");
}

#[test]
fn ctrl_c_leaves_the_pipeline_running() {
    let user = with(SLOW);
    let mut shell = spawn_command(watching(&user), Some(60_000)).unwrap();
    shell.exp_string("slow: running").unwrap();
    begun(&user);
    shell.send_control('c').unwrap();
    shell.exp_string("detached").unwrap();
    shell.exp_string("qwexctl pipeline resume").unwrap();
    shell.exp_eof().unwrap();
    std::fs::write(user.dir().join("go"), "").unwrap();
    assert_eq!(until_over(&user)["status"], "succeeded");
    assert_eq!(read(&user, "ran"), "first\nslow\nlast\n");
}

#[test]
fn what_cannot_run_is_refused_before_anything_does() {
    for (file, more, told) in [
        ("stages: []\n", vec![], "has no stages"),
        (
            "stages: [{ name: a, command: x, nedes: [b] }]\n",
            vec![],
            "did you mean `needs`?",
        ),
        (
            "stages: [{ name: test, command: x }]\n",
            vec!["tset"],
            "did you mean test?",
        ),
        (
            "stages: [{ name: a, command: x }]\n",
            vec!["--backend", "dokcer"],
            "did you mean docker?",
        ),
        (
            "stages: [{ name: a, command: x, ports: ['80:80'] }]\n",
            vec![],
            "the stage a cannot run on the backend local",
        ),
        (
            "stages: [{ name: a, command: x, backend: remote, image: i }]\n",
            vec![],
            "no server is set",
        ),
    ] {
        let user = with(file);
        let ran = run(&user, &more);
        assert!(ran.code != 0 && ran.err.contains(told), "{file}: {}", ran.err);
        assert!(ran.err.contains("fix:"), "{file}: {}", ran.err);
        let listed = seen(user.qwexctl(&["pipeline", "ls", "-q"]));
        assert_eq!(listed.out, "", "{file}");
    }
    let empty = User::new();
    let ran = run(&empty, &[]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("qwexctl init"), "{}", ran.err);
    let none = seen(empty.qwexctl(&["pipeline", "get", "abcd"]));
    assert_eq!(none.code, 3, "{}", none.err);
    assert!(none.err.contains("no pipelines here"), "{}", none.err);
}

#[test]
fn only_what_is_named_and_what_it_needs() {
    let user = with(
        "stages:\n  - { name: a, command: 'echo a >> ran' }\n  - { name: b, needs: [a], command: 'echo b >> ran' }\n\
         \x20 - { name: c, needs: [b], command: 'echo c >> ran' }\n",
    );
    assert_eq!(run(&user, &["b"]).code, 0);
    assert_eq!(read(&user, "ran"), "a\nb\n");
}

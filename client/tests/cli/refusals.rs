//! Every refusal that can be met without a server: its exit code, a sentence that says what, and a way out. And every
//! command's help, which begins with examples.

use serde_json::json;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{Seen, User, problem, seen};

/// A refusal that somebody meets.
struct Met<'a> {
    words: &'a [&'a str],
    code: i32,
    /// Part of what is said, and of the way out.
    what: &'a str,
    fix: &'a str,
}

const fn met<'a>(words: &'a [&'a str], code: i32, what: &'a str, fix: &'a str) -> Met<'a> {
    Met {
        words,
        code,
        what,
        fix,
    }
}

/// In the house's form: `error: what`, then lines below it, one of which is the way out.
fn is_told(met: &Met<'_>, seen: &Seen) {
    let Met {
        words,
        code,
        what,
        fix,
    } = met;
    let err = &seen.err;
    assert_eq!(seen.code, *code, "{words:?}: {err}");
    let head = err.lines().find(|line| line.starts_with("error: "));
    let head = head.unwrap_or_else(|| panic!("{words:?} says no error: {err}"));
    assert!(head.len() > "error: ".len() + 8, "{words:?}: no sentence: {err}");
    assert!(err.contains(what), "{words:?}: not {what:?} in {err}");
    let ways: Vec<&str> = err
        .lines()
        .filter_map(|line| line.trim().split_once("fix: "))
        .map(|(_, way)| way)
        .collect();
    assert!(!ways.is_empty(), "{words:?}: no way out: {err}");
    assert!(
        ways.iter().any(|way| way.contains(fix)),
        "{words:?}: not {fix:?} in {ways:?}"
    );
    assert!(!err.contains("panicked"), "{words:?}: {err}");
}

fn all_are_told(user: &User, all: &[Met<'_>]) {
    for met in all {
        is_told(met, &seen(user.qwexctl(met.words)));
    }
}

const TRUE: [&str; 2] = ["--", "true"];

fn write(user: &User, name: &str, text: &str) {
    let path = user.dir().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// What is typed wrong, part of what is said of it, and of the way out.
const TYPED: &[(&[&str], &str, &str)] = &[
    (&["cancl"], "cancel", "qwexctl --help"),
    (&["run", "echo", "hi"], "echo", "behind `--`"),
    (&["run"], "<CMD>", "qwexctl run --help"),
    (
        &["run", "--nonsense", "--", "true"],
        "--nonsense",
        "qwexctl run --help",
    ),
    (
        &["run", "--name", "a/b", "--", "true"],
        "'/'",
        "qwexctl run --help",
    ),
    (
        &["run", "--timeout", "soon", "--", "true"],
        "length of time",
        "qwexctl run --help",
    ),
    (
        &["run", "--memory", "4gb", "--", "true"],
        "4gb",
        "qwexctl help spec",
    ),
    (
        &["run", "--cpu", "many", "--", "true"],
        "many",
        "qwexctl help spec",
    ),
    (
        &["run", "--cluster", "A B", "--", "true"],
        "A B",
        "qwexctl run --help",
    ),
    (
        &["run", "--id", "nonsense", "--", "true"],
        "nonsense",
        "qwexctl run --help",
    ),
    (
        &["run", "--retry-on", "bad_luck", "--", "true"],
        "bad_luck",
        "qwexctl run --help",
    ),
    (&["run", "--env", "=x", "--", "true"], "variable", "KEY=VALUE"),
    (
        &["run", "--env", "NOT_SET_HERE", "--", "true"],
        "NOT_SET_HERE",
        "NOT_SET_HERE=VALUE",
    ),
    (
        &["run", "--label", "nothing", "--", "true"],
        "KEY=VALUE",
        "qwexctl run --help",
    ),
    (&["ps", "--status", "sleeping"], "sleeping", "qwexctl ps --help"),
    (&["ps", "--since", "yesterday"], "yesterday", "qwexctl ps --help"),
    (&["ps", "-o", "xml"], "xml", "qwexctl ps --help"),
    (
        &["prune"],
        "--older-than <WHEN>|--keep-last <N>",
        "qwexctl prune --help",
    ),
    (&["prune", "--older-than", "long"], "long", "qwexctl prune --help"),
    (
        &["pipeline", "logs", "-f", "-n", "1"],
        "--follow",
        "qwexctl pipeline logs --help",
    ),
    (
        &["pipeline", "run", "--max-parallel", "0"],
        "0",
        "qwexctl pipeline run --help",
    ),
    (&["pipeline", "rm"], "<PIPELINE>", "qwexctl pipeline rm --help"),
    (&["completion", "csh"], "csh", "qwexctl completion --help"),
    (&["help", "nonsense"], "nonsense", "exit-codes"),
    (&["--remote", "get", "x"], "--remote", "leave --remote out"),
    (
        &["--server", "http://127.0.0.1:1", "get", "@newest"],
        "@newest",
        "@latest",
    ),
    (
        &["logs", "--grep", "(", "@latest"],
        "regular expression",
        "backslash",
    ),
];

#[test]
fn what_cannot_be_typed_has_a_way_out() {
    let user = User::new();
    for (words, what, fix) in TYPED {
        is_told(&met(words, 2, what, fix), &seen(user.qwexctl(words)));
    }
    let long = "x".repeat(300);
    let words = ["run", "--name", &long, "--", "true"];
    is_told(
        &met(&words, 2, "300 characters", "qwexctl run --help"),
        &seen(user.qwexctl(&words)),
    );
}

#[test]
fn what_is_not_there_has_a_way_out() {
    let user = User::new();
    all_are_told(
        &user,
        &[
            met(&["get", "0199f2"], 3, "no runs here yet", "qwexctl run -- "),
            met(&["logs", "@latest"], 3, "no runs here yet", "name the server"),
            met(
                &["push", "--all"],
                3,
                "no runs are recorded",
                "change to the directory",
            ),
            met(
                &["rm", "0199f2"],
                3,
                "no runs are recorded",
                "change to the directory",
            ),
            met(
                &["prune", "--keep-last", "1"],
                3,
                "no runs are recorded",
                "change to the directory",
            ),
            met(
                &["push", "0199f2"],
                3,
                "no runs are recorded",
                "change to the directory",
            ),
            met(&["cluster", "ls"], 4, "no server is set", "qwexcloud dev"),
            met(&["ps", "--context", "nowhere"], 3, "nowhere", "qwexctl context"),
            met(&["context", "use", "nowhere"], 3, "nowhere", "qwexctl context ls"),
            met(&["pipeline", "run"], 3, "no qwex.yaml", "qwexctl init"),
            met(
                &["pipeline", "run", "-f", "other.yaml"],
                3,
                "other.yaml",
                "qwexctl init",
            ),
            met(
                &["pipeline", "get"],
                3,
                "no pipelines here",
                "qwexctl pipeline run",
            ),
            met(
                &["pipeline", "rm", "0199f2"],
                3,
                "no pipelines here",
                "qwexctl pipeline run",
            ),
            met(&["validate"], 3, "no qwex.yaml", "qwexctl init"),
        ],
    );
}

#[test]
fn what_is_another_run_has_a_way_out() {
    let user = User::new();
    for _ in 0..2 {
        assert_eq!(seen(user.qwexctl(&["run", "--", "true"])).code, 0);
    }
    let ids = seen(user.qwexctl(&["ps", "-q"])).out;
    let begin = &ids.lines().next().unwrap()[..4];
    let id = ids.lines().next().unwrap();
    all_are_told(
        &user,
        &[
            met(&["get", begin], 6, begin, "type more of the id"),
            met(&["rm", begin], 6, begin, "type more of the id"),
            met(&["rm", "nobody"], 3, "nobody", "qwexctl ps --local"),
            met(&["diff", id, "nobody"], 3, "nobody", "qwexctl ps --local"),
            met(&["get", "nobody"], 3, "nobody", "qwexctl ps --local"),
            met(
                &["run", "-d", "--id", id, "--", "false"],
                6,
                "another spec",
                "leave --id out",
            ),
            met(&["rerun", "--backend", "tape", id], 125, "tape", "local"),
            met(
                &["rerun", "--image", "x", id],
                2,
                "--backend",
                "qwexctl rerun --help",
            ),
            met(
                &["rerun", "--backend", "docker", id],
                125,
                "--image",
                "another backend",
            ),
        ],
    );
    let running = seen(user.qwexctl(&["run", "-d", "--", "sleep", "600"])).out;
    let running = running.trim();
    all_are_told(
        &user,
        &[
            met(&["rm", running], 6, "has not ended", "qwexctl cancel"),
            met(
                &["wait", "--timeout", "100ms", running],
                7,
                "still not there",
                "qwexctl why",
            ),
        ],
    );
    assert_eq!(seen(user.qwexctl(&["cancel", running])).code, 0);
}

const HELP: &str = "qwexctl help spec";

/// A file, what is typed, the exit code, part of what is said, and of the way out.
type OfFile = (
    &'static str,
    &'static [&'static str],
    i32,
    &'static str,
    &'static str,
);

const FILES: &[OfFile] = &[
    ("stages: [\n", &["validate"], 2, "qwex.yaml:", HELP),
    ("stages: []\n", &["pipeline", "run"], 2, "has no stages", HELP),
    (
        "stages: [{ name: a, command: x, nedes: [b] }]\n",
        &["pipeline", "run"],
        2,
        "did you mean `needs`?",
        HELP,
    ),
    (
        "stages: [{ name: a, command: x, needs: [b] }]\n",
        &["pipeline", "run"],
        2,
        "there is no such stage",
        HELP,
    ),
    (
        "stages: [{ name: a, command: 'echo ${var.x}' }]\n",
        &["pipeline", "run"],
        2,
        "--set x=VALUE",
        HELP,
    ),
    (
        "stages: [{ name: a, command: 'echo ${env.NOT_SET_HERE}' }]\n",
        &["pipeline", "plan"],
        2,
        "under `env:` or with --env-file",
        HELP,
    ),
    (
        "stages: [{ name: a, command: x, image: 'two words', backend: docker }]\n",
        &["validate"],
        2,
        "two words",
        HELP,
    ),
    (
        "stages: [{ name: a, command: x, timeout: soon }]\n",
        &["validate"],
        2,
        "soon",
        HELP,
    ),
    (
        "stages: [{ name: test, command: x }]\n",
        &["pipeline", "run", "tset"],
        3,
        "tset",
        "did you mean test?",
    ),
    (
        "stages: [{ name: test, command: x }]\n",
        &["pipeline", "run", "--backend", "dokcer"],
        2,
        "dokcer",
        "did you mean docker?",
    ),
    (
        "stages: [{ name: a, command: x, ports: ['80:80'] }]\n",
        &["pipeline", "run"],
        2,
        "cannot run on the backend local",
        "another backend",
    ),
    (
        "stages: [{ name: a, command: x, backend: remote, image: i }]\n",
        &["pipeline", "run"],
        4,
        "no server is set",
        "qwexcloud dev",
    ),
    (
        "stages: [{ name: a, command: x }]\n",
        &["init"],
        6,
        "is here already",
        "--force",
    ),
];

#[test]
fn what_a_project_file_says_wrong_has_a_way_out() {
    for (file, words, code, what, fix) in FILES {
        let user = User::new();
        write(&user, "qwex.yaml", file);
        is_told(&met(words, *code, what, fix), &seen(user.qwexctl(words)));
    }
}

#[test]
fn what_no_backend_takes_has_a_way_out() {
    let user = User::new();
    write(
        &user,
        ".kube/dead",
        "apiVersion: v1\nkind: Config\ncurrent-context: dead\nclusters: [{ name: dead, cluster: { server: 'https://127.0.0.1:1' } }]\n\
         users: [{ name: me, user: { token: x } }]\ncontexts: [{ name: dead, context: { cluster: dead, user: me } }]\n",
    );
    let rows: &[(&[&str], i32, &str, &str)] = &[
        (&["--backend", "tape"], 2, "tape", "qwexctl run --help"),
        (&["--image", "python:3"], 2, "image", "--backend"),
        (&["--queue", "q"], 2, "queue", "--backend"),
        (
            &["--backend", "docker", "--image", "two words"],
            2,
            "two words",
            "qwexctl help spec",
        ),
        (
            &["--backend", "docker", "--image", "busybox"],
            1,
            "docker does not answer",
            "qwexctl doctor",
        ),
        (
            &["--backend", "podman", "--image", "busybox"],
            1,
            "podman does not answer",
            "qwexctl doctor",
        ),
        (&["--backend", "ssh"], 2, "no host is named", "another backend"),
        (
            &["--backend", "ssh", "--host", "no-such-host.invalid"],
            1,
            "no-such-host.invalid",
            "qwexctl doctor",
        ),
        (
            &["--backend", "k8s", "--image", "busybox"],
            1,
            "unreachable",
            "qwexctl doctor",
        ),
        (
            &[
                "--backend",
                "k8s",
                "--kube-context",
                "other",
                "--image",
                "busybox",
            ],
            3,
            "no context \"other\"",
            "name one that it has: dead",
        ),
        (
            &["--backend", "auto", "--gpu", "64"],
            8,
            "no backend here",
            "qwexctl doctor",
        ),
        (&["--workspace", "not/there"], 2, "not/there", "--no-workspace"),
        (&["--remote"], 4, "no server is set", "qwexcloud dev"),
    ];
    for (flags, code, what, fix) in rows {
        let words = [&["run", "-d"], *flags, &TRUE].concat();
        let mut command = user.qwexctl(&words);
        command
            .env("DOCKER_HOST", "unix:///does/not/exist")
            .env("CONTAINER_HOST", "unix:///does/not/exist")
            .env("XDG_RUNTIME_DIR", user.dir())
            .env("KUBECONFIG", user.dir().join(".kube/dead"));
        is_told(&met(&words, *code, what, fix), &seen(command));
    }
}

#[test]
fn what_is_forbidden_or_set_wrong_has_a_way_out() {
    let run = ["run", "-d", "--", "true"];
    for (config, code, what, fix) in [
        ("policy: { backends: [docker] }\n", 2, "local", "config.yaml"),
        (
            "policy: { backnds: [docker] }\n",
            2,
            "did you mean `backends`?",
            "qwexctl help policy",
        ),
        ("policy: [\n", 2, "config.yaml", "qwexctl help policy"),
    ] {
        let user = User::new();
        write(&user, ".config/qwex/config.yaml", config);
        is_told(&met(&run, code, what, fix), &seen(user.qwexctl(&run)));
    }
    let user = User::new();
    for (name, value, what, fix) in [
        ("QWEX_PROJECT", "a b", "QWEX_PROJECT", "qwexctl project ls"),
        ("QWEX_RETRY_FOR", "long", "QWEX_RETRY_FOR", "30s"),
        ("QWEX_BACKEND", "tape", "tape", "local"),
        (
            "QWEX_TOKEN_FILE",
            "/does/not/exist",
            "/does/not/exist",
            "holds the token",
        ),
    ] {
        let mut command = user.qwexctl(&run);
        command.env(name, value).env("QWEX_SERVER", "http://127.0.0.1:1");
        let seen = seen(command);
        let code = if name == "QWEX_TOKEN_FILE" { 4 } else { 2 };
        is_told(&met(&run, code, what, fix), &seen);
    }
    let gone = ["cluster", "ls"];
    let told = seen(user.at("http://127.0.0.1:1", &gone));
    is_told(&met(&gone, 8, "does not answer", "qwexcloud dev"), &told);
    let told = seen(user.at("nonsense", &gone));
    is_told(&met(&gone, 2, "nonsense", "http://127.0.0.1:8080"), &told);
}

/// Of a directory in which nothing can be written.
#[test]
fn a_place_that_cannot_be_used_has_a_way_out() {
    let user = User::new();
    std::os::unix::fs::symlink("/", user.dir().join(".qwex")).unwrap();
    let words = ["run", "--", "true"];
    is_told(
        &met(&words, 125, ".qwex", "yours to write"),
        &seen(user.qwexctl(&words)),
    );
    let user = User::new();
    assert_eq!(seen(user.qwexctl(&["run", "--", "true"])).code, 0);
    let words = ["logs", "@latest", "--download", "here"];
    is_told(
        &met(&words, 2, "--download does not work", ".qwex/runs"),
        &seen(user.qwexctl(&words)),
    );
}

#[tokio::test]
async fn what_a_server_refuses_has_a_way_out_whatever_it_says() {
    for (status, code, exit, fix) in [
        (422, "invalid_field", 2, "qwexctl cluster ls"),
        (400, "invalid_parameter", 2, "qwexctl help spec"),
        (401, "unauthenticated", 4, "qwexctl auth login"),
        (403, "forbidden", 5, "qwexctl auth status"),
        (404, "not_found", 3, "--project"),
        (409, "in_use", 6, "qwexctl wait"),
        (422, "cluster_check_failed", 1, "rbac.yaml"),
        (500, "internal", 1, "request id"),
        (418, "code_of_the_future", 1, "qwexctl doctor"),
    ] {
        let server = MockServer::start().await;
        let body = problem(status, code, "there is no cluster nowhere");
        Mock::given(wiremock::matchers::any())
            .respond_with(ResponseTemplate::new(status).set_body_json(json!(body)))
            .mount(&server)
            .await;
        let words = ["run", "--remote", "-d", "--cluster", "nowhere", "--", "true"];
        let user = User::new();
        let mut command = user.at(&server.uri(), &words);
        command.env("QWEX_RETRY_FOR", "100ms");
        is_told(
            &met(&words, exit, "there is no cluster nowhere", fix),
            &seen(command),
        );
    }
}

/// Every command that can be typed, by its words.
fn commands(at: &clap::Command, words: &[String], into: &mut Vec<Vec<String>>) {
    for below in at.get_subcommands().filter(|below| !below.is_hide_set()) {
        let words = [words, &[below.get_name().to_owned()]].concat();
        commands(below, &words, into);
        into.push(words);
    }
}

#[test]
fn the_help_of_every_command_begins_with_examples() {
    let mut all = vec![Vec::new()];
    commands(&qwexctl::cli::command(), &[], &mut all);
    assert!(all.len() > 50, "{}", all.len());
    let user = User::new();
    for words in all {
        let mut typed: Vec<&str> = words.iter().map(String::as_str).collect();
        typed.push("--help");
        let help = seen(user.qwexctl(&typed));
        assert_eq!(help.code, 0, "{words:?}: {}", help.err);
        let place = |word: &str| {
            help.out
                .find(word)
                .unwrap_or_else(|| panic!("{words:?}: no {word}: {}", help.out))
        };
        assert!(place("Examples:") < place("Usage:"), "{words:?}: {}", help.out);
        let example = format!("qwexctl {}", words.join(" "));
        let examples = &help.out[place("Examples:")..place("Usage:")];
        assert!(
            examples.contains(example.trim_end()),
            "{words:?}: no example of it: {}",
            help.out
        );
    }
}

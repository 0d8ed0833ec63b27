//! `doctor --fix`: what it mends, that it says so first, and that it does nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::podman::Podman;
use qwex_testbed::require::{Part, must_skip};
use serde_json::{Value, json};
use wiremock::matchers::path_regex;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{Seen, User, keeper_of, seen, until};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// `doctor` as a user whose connections to ssh hosts are nobody else's.
fn doctor(user: &User, more: &[&str]) -> Seen {
    let mut command = user.qwexctl(&[&["doctor"], more].concat());
    command.env("XDG_RUNTIME_DIR", user.dir());
    seen(command)
}

/// The checks by name, of `doctor --json`.
fn checks(user: &User, more: &[&str]) -> Vec<Value> {
    let seen = doctor(user, &[&["--json"], more].concat());
    let parsed: Value =
        serde_json::from_str(&seen.out).unwrap_or_else(|_| panic!("{}{}", seen.out, seen.err));
    parsed["items"]
        .as_array()
        .unwrap_or_else(|| panic!("{parsed}"))
        .clone()
}

fn check<'c>(checks: &'c [Value], name: &str) -> &'c Value {
    checks
        .iter()
        .find(|check| check["check"] == name)
        .unwrap_or_else(|| panic!("{name}: {checks:?}"))
}

#[test]
fn nothing_is_changed_without_fix_and_only_what_is_needed_with_it() {
    let user = User::new();
    let dir = user.dir().join(".config/qwex");
    let before = checks(&user, &[]);
    let missing = check(&before, "config_directory");
    assert_eq!(
        (&missing["verdict"], &missing["mend"]["done"]),
        (&"skipped".into(), &false.into())
    );
    assert!(!dir.exists());
    let fixed = doctor(&user, &["--fix"]);
    assert!(
        fixed.err.contains("qwex: fix: make the directory"),
        "{}",
        fixed.err
    );
    assert_eq!(mode(&dir), 0o700);
    let again = doctor(&user, &["--fix"]);
    assert!(!again.err.contains("qwex: fix:"), "{}", again.err);
}

#[test]
fn files_that_others_may_read_or_write_are_closed() {
    let user = User::new();
    let dir = user.dir().join(".config/qwex");
    fs::create_dir_all(&dir).unwrap();
    let contexts = dir.join("contexts.yaml");
    fs::write(&contexts, "contexts: []\n").unwrap();
    fs::set_permissions(&contexts, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let told = doctor(&user, &[]);
    assert!(
        told.out.contains("`qwexctl doctor --fix` does it: chmod 600"),
        "{}",
        told.out
    );
    let fixed = checks(&user, &["--fix"]);
    assert_eq!(check(&fixed, "context_file")["mend"]["done"], true);
    assert_eq!((mode(&contexts), mode(&dir)), (0o600, 0o755));
}

#[test]
fn the_index_is_made_again_and_what_was_left_is_removed() {
    let user = User::new();
    assert_eq!(seen(user.qwexctl(&["run", "--", "true"])).code, 0);
    let qwex = user.dir().join(".qwex");
    // An index that looks fresh and lacks a run, and files of a writer that is no more.
    fs::write(qwex.join("index"), "").unwrap();
    let later = SystemTime::now() + Duration::from_secs(5);
    fs::File::options()
        .write(true)
        .open(qwex.join("index"))
        .unwrap()
        .set_modified(later)
        .unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    let left = qwex.join(".run.json.999999999.0.tmp");
    let own = qwex.join(format!(".run.json.{}.0.tmp", std::process::id()));
    for path in [&left, &own] {
        fs::write(path, "x").unwrap();
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    assert_eq!(seen(user.qwexctl(&["ps", "-q"])).out, "");
    let fixed = checks(&user, &["--fix"]);
    for name in ["index", "left_files"] {
        assert_eq!(check(&fixed, name)["mend"]["done"], true, "{fixed:?}");
    }
    assert_eq!(seen(user.qwexctl(&["ps", "-q"])).out.lines().count(), 1);
    assert!(!left.exists() && own.exists(), "only what nobody writes any more");
}

#[test]
fn a_run_without_a_keeper_gets_one() {
    let user = User::new();
    // With a retry a run of this machine has a keeper.
    let started = seen(user.qwexctl(&["run", "-d", "--retries", "1", "--", "sleep", "600"]));
    let id = started.out.trim().to_owned();
    assert_eq!(started.code, 0, "{}", started.err);
    let keeper = until("it has no keeper", || keeper_of(&id));
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the keeper never went", || keeper_of(&id).is_none().then_some(()));
    let told = checks(&user, &[]);
    assert!(
        check(&told, "keepers")["mend"]["what"]
            .as_str()
            .unwrap()
            .contains(&id)
    );
    assert!(keeper_of(&id).is_none(), "without --fix nothing is started");
    checks(&user, &["--fix"]);
    until("no keeper came", || keeper_of(&id));
    assert_eq!(seen(user.qwexctl(&["cancel", &id])).code, 0);
}

#[test]
fn says_where_settings_come_from_and_what_to_do_about_each_backend() {
    let user = User::new();
    fs::write(user.dir().join("qwex.yaml"), "backend: ssh\n").unwrap();
    let mut command = user.qwexctl(&["doctor"]);
    command
        .env("DOCKER_HOST", "unix:///does/not/exist")
        .env("PATH", "/does/not/exist");
    let seen = seen(command);
    assert!(seen.out.contains("ssh (project file "), "{}", seen.out);
    for part in [
        "install docker.io",
        "install podman",
        "openssh-client",
        "KUBECONFIG",
    ] {
        assert!(seen.out.contains(part), "{part}\n{}", seen.out);
    }
    assert_eq!(seen.code, 0, "a backend that is not there is no failure");
}

fn skew_of(user: &User, backend: &str, variables: &[(&str, String)]) -> Value {
    let mut command = user.qwexctl(&["doctor", "--json"]);
    command.env("XDG_RUNTIME_DIR", user.dir());
    command.envs(variables.iter().map(|(name, value)| (name, value.as_str())));
    let told: Value = serde_json::from_str(&seen(command).out).unwrap();
    check(told["items"].as_array().unwrap(), backend).clone()
}

#[tokio::test]
async fn the_clock_of_an_engine_is_compared_with_ours() {
    if must_skip(&[Part::Root, Part::Docker, Part::Podman]) {
        return;
    }
    let user = User::new();
    let docker = Dockerd::start().await.unwrap();
    let podman = Podman::start().await.unwrap();
    for (backend, variable, host) in [
        ("backend docker", "DOCKER_HOST", docker.host()),
        ("backend podman", "CONTAINER_HOST", podman.host()),
    ] {
        let told = skew_of(&user, backend, &[(variable, host)]);
        let skew = told["clock_skew_seconds"].as_f64();
        assert!(skew.is_some_and(|skew| skew.abs() < 2.0), "{told}");
    }
}

/// An engine on a machine whose clock is an hour ahead.
#[tokio::test]
async fn an_engine_whose_clock_is_off_is_warned_of() {
    let server = MockServer::start().await;
    let answers = |at: &'static str, body: Value| {
        Mock::given(path_regex(at)).respond_with(ResponseTemplate::new(200).set_body_json(body))
    };
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let info = json!({ "ID": "x", "Name": "far", "SystemTime": later.to_string() });
    let version = json!({ "Version": "20.10.0", "ApiVersion": "1.41" });
    answers("/info$", info).mount(&server).await;
    answers("/version$", version).mount(&server).await;
    let user = User::new();
    let host = server.uri().replace("http://", "tcp://");
    let told = skew_of(&user, "backend docker", &[("DOCKER_HOST", host)]);
    let skew = told["clock_skew_seconds"].as_f64();
    assert!(skew.is_some_and(|skew| (skew - 3600.0).abs() < 10.0), "{told}");
    assert_eq!(told["verdict"], "warning", "{told}");
    assert!(
        told["message"].as_str().unwrap().contains("s behind docker"),
        "{told}"
    );
    assert!(told["fix"].to_string().contains("timedatectl"), "{told}");
}

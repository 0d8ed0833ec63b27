//! Runs and stages on a real sshd, by the name that `config.yaml` gives it.

use qwex_testbed::require::{Part, must_skip};
use qwex_testbed::sshd::Sshd;
use serde_json::Value;

use crate::support::{Seen, User, seen};

/// A user who calls the host `build1` and says what is special about it.
fn user(sshd: &Sshd) -> User {
    let user = User::new();
    let dir = user.dir().join(".config/qwex");
    std::fs::create_dir_all(&dir).unwrap();
    let home = user.dir().display();
    let config = format!(
        "ssh:\n  hosts:\n    build1:\n      address: testbed\n      config_file: {}\n      directory: {home}/remote\n\
         \x20     cache: {home}/cache\n      program: script\n      keep_connection: 3s\n",
        sshd.config().display()
    );
    std::fs::write(dir.join("config.yaml"), config).unwrap();
    user
}

fn qwexctl(user: &User, words: &[&str]) -> Seen {
    let mut command = user.qwexctl(words);
    // Connections are shared in a directory of this user.
    command.env("XDG_RUNTIME_DIR", user.dir());
    seen(command)
}

#[tokio::test]
async fn a_named_host_runs_runs_and_stages_where_its_configuration_says() {
    if must_skip(&[Part::Sshd]) {
        return;
    }
    let sshd = Sshd::start().await.unwrap();
    let user = user(&sshd);
    let file = "stages:\n  - { name: a, backend: ssh, command: 'pwd > where.txt', outputs: [where.txt] }\n\
                \x20 - { name: b, needs: [a], backend: ssh, host: build1, command: 'cat where.txt' }\n";
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    let doctor = qwexctl(&user, &["doctor", "--json"]);
    let checks: Value = serde_json::from_str(&doctor.out).unwrap();
    let all = checks["items"].as_array().unwrap();
    let host = all.iter().find(|check| check["check"] == "backend ssh build1");
    assert!(
        host.unwrap()["message"]
            .as_str()
            .unwrap()
            .contains("/remote/runs"),
        "{host:?}"
    );
    // It is this very machine's clock, over a line.
    let skew = host.unwrap()["clock_skew_seconds"].as_f64();
    assert!(skew.is_some_and(|skew| skew.abs() < 2.0), "{host:?}");
    // The only host needs no name, and what was configured for it is kept with the run.
    let ran = qwexctl(&user, &["run", "--backend", "ssh", "--", "pwd"]);
    assert!(
        ran.code == 0 && ran.out.contains("/remote/runs/"),
        "{}{}",
        ran.out,
        ran.err
    );
    let config = user.dir().join(".config/qwex/config.yaml");
    std::fs::rename(&config, user.dir().join("away")).unwrap();
    let again = qwexctl(&user, &["rerun", "@latest"]);
    assert!(
        again.code == 0 && again.out.contains("/remote/runs/"),
        "{}{}",
        again.out,
        again.err
    );
    std::fs::rename(user.dir().join("away"), &config).unwrap();
    let piped = qwexctl(&user, &["pipeline", "run"]);
    assert_eq!(piped.code, 0, "{}", piped.err);
    let logs = qwexctl(&user, &["pipeline", "logs"]).out;
    assert!(
        logs.starts_with("b | ") && logs.contains("/remote/runs/"),
        "{logs}"
    );
}

//! Runs and stages on a real sshd, by the name that `config.yaml` gives it.

use nix::sys::signal::{Signal, kill};
use qwex_testbed::require::{Part, must_skip};
use qwex_testbed::sshd::Sshd;
use serde_json::Value;

use crate::support::{Seen, User, keeper_of, seen, until};

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

/// The latest one.
fn pipeline(user: &User) -> Value {
    let got = qwexctl(user, &["pipeline", "get", "-o", "json"]);
    serde_json::from_str(&got.out).unwrap()
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
    let alone = qwexctl(&user, &["pipeline", "logs", "b"]);
    assert!(
        alone.code == 3 && alone.err.contains("qwexctl pipeline logs @latest b"),
        "{}",
        alone.err
    );
}

#[tokio::test]
async fn a_stage_whose_host_is_away_says_so_and_goes_on_once_it_is_back() {
    if must_skip(&[Part::Sshd]) {
        return;
    }
    let sshd = Sshd::start().await.unwrap();
    let user = user(&sshd);
    let ssh_config = std::fs::read_to_string(sshd.config()).unwrap();
    let right = format!("Port {}", sshd.addr().port());
    // Where nobody listens.
    std::fs::write(sshd.config(), ssh_config.replace(&right, "Port 1")).unwrap();
    let ran = user.dir().join("ran");
    // However long it takes to mend it here.
    let file = format!(
        "stages:\n  - {{ name: far, backend: ssh, command: 'echo x >> {}', inputs: [],\n\
         \x20     retry: {{ limit: 90, backoff: {{ initial: 1s, max: 1s }}, on: [start_error] }} }}\n",
        ran.display()
    );
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    assert_eq!(qwexctl(&user, &["pipeline", "run", "-d"]).code, 0);
    until("nobody says why the stage waits", || {
        let stage = pipeline(&user)["stages"][0].clone();
        assert_eq!(stage["finished_at"], Value::Null, "{stage}");
        let reason = stage["reason"].as_str().unwrap_or_default();
        (reason.starts_with("waiting: ") && reason.contains("Connection refused")).then_some(())
    });
    std::fs::write(sshd.config(), ssh_config).unwrap();
    let resumed = qwexctl(&user, &["pipeline", "resume"]);
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert_eq!(pipeline(&user)["stages"][0]["reason"], Value::Null);
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "x\n");
}

/// A file stands where a directory of the outputs has to be; its owner takes it away later.
#[tokio::test]
async fn outputs_that_did_not_come_are_brought_when_somebody_asks() {
    if must_skip(&[Part::Sshd]) {
        return;
    }
    let sshd = Sshd::start().await.unwrap();
    let user = user(&sshd);
    let blocker = user.dir().join("out");
    std::fs::write(&blocker, "in the way").unwrap();
    let line = "echo x >> \"$OLDHOME/ran\"; rm -f out; mkdir out; echo 42 > out/model";
    let line = line.replace("$OLDHOME", &user.dir().display().to_string());
    let file = format!(
        "stages:\n  - {{ name: a, backend: ssh, command: '{line}', outputs: [out/model], inputs: [] }}\n\
         \x20 - {{ name: b, needs: [a], command: 'cat out/model' }}\n"
    );
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    // Not yet here is not failed.
    assert_eq!(qwexctl(&user, &["pipeline", "run", "-d"]).code, 0);
    let waiting = until("the stage never waited for its files", || {
        let stage = pipeline(&user)["stages"][0].clone();
        assert_ne!(stage["status"], "failed", "{stage}");
        let reason = stage["reason"].as_str().unwrap_or_default();
        reason.contains("its outputs are not here").then_some(stage)
    });
    let id = waiting["run_id"].as_str().unwrap();
    let told = qwexctl(&user, &["get", id]);
    assert!(
        told.err.contains(&format!("qwexctl outputs {id}")),
        "{}",
        told.err
    );
    // Given up: as after a day, or as whoever answers says for good.
    let kept = user.dir().join(".qwex/runs").join(id).join("outputs.json");
    let keeper = until("nobody brings them", || keeper_of(id));
    kill(keeper, Signal::SIGKILL).unwrap();
    // Whoever looks meanwhile may start another one.
    until("the stage never failed", || {
        if let Some(keeper) = keeper_of(id) {
            kill(keeper, Signal::SIGKILL).ok();
        } else {
            let mut left: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
            if left.as_object_mut().unwrap().remove("is_tried").is_some() {
                std::fs::write(&kept, left.to_string()).unwrap();
            }
        }
        let stage = pipeline(&user)["stages"][0].clone();
        (stage["status"] == "failed").then_some(())
    });
    let in_vain = qwexctl(&user, &["outputs", id]);
    assert!(
        in_vain.code == 8 && in_vain.err.contains("cannot be brought") && in_vain.out.is_empty(),
        "{} {}",
        in_vain.code,
        in_vain.err
    );
    std::fs::remove_file(&blocker).unwrap();
    let brought = qwexctl(&user, &["outputs", id]);
    assert!(
        brought.code == 0 && brought.out == "out/model\n",
        "{}{}",
        brought.out,
        brought.err
    );
    assert_eq!(std::fs::read_to_string(blocker.join("model")).unwrap(), "42\n");
    // The pipeline goes on with them: nothing runs twice.
    let resumed = qwexctl(&user, &["pipeline", "resume"]);
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert_eq!(std::fs::read_to_string(user.dir().join("ran")).unwrap(), "x\n");
    let again = qwexctl(&user, &["outputs", id, "-o", "json"]);
    let again: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(again["paths"], serde_json::json!(["out/model"]));
}

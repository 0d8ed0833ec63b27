//! ssh hosts by the names of `config.yaml`: which one is meant, before anybody is connected to.

use crate::support::{User, seen};

fn with(config: &str) -> User {
    let user = User::new();
    let dir = user.dir().join(".config/qwex");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("config.yaml"), config).unwrap();
    user
}

/// What is said of a run over ssh to a machine that is not there.
fn told(user: &User, more: &[&str]) -> String {
    let mut words = vec!["run", "-d", "--backend", "ssh", "--timeout", "30s"];
    words.extend(more);
    words.extend(["--", "true"]);
    let seen = seen(user.qwexctl(&words));
    assert_ne!(seen.code, 0, "{}", seen.err);
    seen.err
}

#[test]
fn a_configured_name_stands_for_its_address() {
    let one = "ssh:\n  hosts:\n    build1: { address: 'ssh://nobody@127.0.0.1:1', connect_timeout: 2s }\n";
    let user = with(one);
    for more in [&["--host", "build1"][..], &[]] {
        let err = told(&user, more);
        assert!(err.contains("127.0.0.1:1"), "{more:?}: {err}");
    }
    // Any other word is ssh's.
    let other = told(&user, &["--host", "no-such-host.invalid"]);
    assert!(
        other.contains("no-such-host.invalid") && !other.contains("127.0.0.1"),
        "{other}"
    );
    let doctor = seen(user.qwexctl(&["doctor"]));
    assert!(doctor.out.contains("backend ssh build1"), "{}", doctor.out);
    let auto = seen(user.qwexctl(&["run", "--backend", "auto", "--gpu", "64", "--", "true"]));
    assert!(auto.err.contains("ssh"), "{}", auto.err);
}

#[test]
fn several_hosts_need_a_name_or_a_default() {
    let two = "ssh:\n  hosts:\n    a: { address: 'ssh://127.0.0.1:1', connect_timeout: 2s }\n    b: { address: 'ssh://127.0.0.1:2', connect_timeout: 2s }\n";
    let err = told(&with(two), &[]);
    assert!(
        err.contains("several are configured") && err.contains("--host a"),
        "{err}"
    );
    let user = with(&format!("{two}  default: b\n"));
    assert!(told(&user, &[]).contains("127.0.0.1:2"));
    std::fs::write(user.dir().join("qwex.yaml"), "host: a\n").unwrap();
    assert!(told(&user, &[]).contains("127.0.0.1:1"));
    let none = told(&with(""), &[]);
    assert!(none.contains("no host is named"), "{none}");
}

#[test]
fn a_host_of_a_stage_is_for_ssh_and_stands_in_the_record() {
    let user = with("");
    let file = "stages:\n  - { name: a, command: x, host: build1 }\n";
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    let validated = seen(user.qwexctl(&["validate"]));
    assert!(
        validated.code == 2 && validated.err.contains("the backend local has no hosts"),
        "{}",
        validated.err
    );
    let file = "backend: ssh\nhost: '${env.WHERE:-build1}'\nstages:\n  - { name: a, command: x }\n  - { name: b, command: x, backend: local }\n";
    std::fs::write(user.dir().join("qwex.yaml"), file).unwrap();
    assert_eq!(seen(user.qwexctl(&["validate"])).code, 0);
}

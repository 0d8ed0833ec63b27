//! A name that leads to one of several machines that share the home directory, as `login.hpc` does.

use std::fs;
use std::path::PathBuf;

use qwex_core::FailureCode;
use qwex_runner::{Backend, CancelProgress, Handle, Runner, RunnerError, Watcher};
use qwex_runner_ssh::SshBackend;
use qwex_testbed::sshd::Sshd;

use crate::support::{Bench, code, ending, program, script, shell, until};

/// Another machine as a session sees it: another boot id, and another name where one is given.
async fn another(bench: &Bench, name: Option<&str>) -> Option<Sshd> {
    let boot = bench.temp.path().join("boot_id");
    fs::write(&boot, "6ba7b810-9dad-11d1-80b4-00c04fd430c8\n").unwrap();
    let rename = name.map_or_else(String::new, |name| format!("hostname {name} && "));
    let lines = format!(
        "ForceCommand exec unshare --uts --mount sh -c 'mount --bind {} /proc/sys/kernel/random/boot_id && {rename}exec sh \
         -c \"$SSH_ORIGINAL_COMMAND\"'",
        boot.display()
    );
    let sshd = Sshd::start_with(&lines).await.unwrap();
    // Without root there are no such sessions.
    sshd.run("true").await.ok()?;
    Some(sshd)
}

/// The same runs by way of that machine.
fn by_way_of(bench: &Bench, sshd: &Sshd, control: &str) -> SshBackend {
    let mut config = bench.backend.config().clone();
    config.config_file = Some(sshd.config());
    config.control_dir = Some(bench.temp.path().join(control));
    SshBackend::new(config).unwrap()
}

fn is_blind<T: std::fmt::Debug>(answer: Result<T, RunnerError>) {
    let error = answer.unwrap_err();
    assert!(matches!(error, RunnerError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("led to login2"), "{error}");
    assert!(error.to_string().contains("ssh/config"), "{error}");
}

fn gate(bench: &Bench) -> (PathBuf, String) {
    let go = bench.temp.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; exit 7", go.display());
    (go, script)
}

async fn ends_with_seven(backend: &SshBackend, handle: &Handle) {
    let end = until("the end of the run", async || {
        ending(&backend.observe(handle).await.ok()?)
    })
    .await;
    assert_eq!(code(&end), Some((FailureCode::ExitCode, Some(7))));
}

#[tokio::test(flavor = "multi_thread")]
async fn i01_the_next_login_node_neither_loses_nor_removes_a_run_of_the_first() {
    for bench in [program().await, script().await] {
        let (go, script) = gate(&bench);
        let work = shell(&script);
        let handle = bench.submit(&work).await;
        let Some(login2) = another(&bench, Some("login2")).await else {
            return;
        };
        let second = by_way_of(&bench, &login2, "c2");
        is_blind(second.observe(&handle).await);
        is_blind(second.cancel(&handle).await);
        is_blind(second.release(&handle).await);
        is_blind(second.remove(&handle).await);
        assert!(!bench.there(&work).join("cancel.json").exists());
        assert!(!bench.there(&work).join("released").exists());
        // A submit that was repeated by that way is the same run.
        let again = second.submit(&work).await.unwrap();
        assert!(
            again.adopted && again.backend.uid == handle.backend.uid,
            "{again:?}"
        );
        fs::write(go, "").unwrap();
        ends_with_seven(&second, &handle).await;
        second.remove(&handle).await.unwrap();
        assert!(!bench.there(&work).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i01_the_same_machine_with_another_boot_was_started_anew() {
    let bench = script().await;
    let (go, script) = gate(&bench);
    let work = shell(&script);
    let handle = bench.submit(&work).await;
    let Some(anew) = another(&bench, None).await else {
        return;
    };
    let after = by_way_of(&bench, &anew, "c2");
    let end = until("a lost run", async || {
        ending(&after.observe(&handle).await.unwrap())
    })
    .await;
    assert_eq!(code(&end), Some((FailureCode::Lost, None)));
    assert_eq!(after.cancel(&handle).await.unwrap(), CancelProgress::Stopped);
    // A record of an earlier version names no machine and is taken for this one's.
    let other = another(&bench, Some("login2")).await.unwrap();
    let record = bench.there(&work).join("supervisor.json");
    let known = fs::read_to_string(&record).unwrap();
    fs::write(&record, known.replace("\"machine\"", "\"unknown\"")).unwrap();
    let end = ending(&by_way_of(&bench, &other, "c3").observe(&handle).await.unwrap()).unwrap();
    assert_eq!(code(&end), Some((FailureCode::Lost, None)));
    fs::write(&record, known).unwrap();
    fs::write(go, "").unwrap();
    ends_with_seven(&bench.backend, &handle).await;
}

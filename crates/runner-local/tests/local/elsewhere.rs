//! A directory of runs that several machines or containers share: of a run of another one the files are here and its
//! processes are not.

use qwex_core::{Ending, FailureCode};
use qwex_runner::{CancelProgress, RunnerError};

use crate::support::{Bench, embedded_with, ending, shell, skip, supervisor, until, work};

/// Supervises in a container of this name, as far as a process can tell.
fn contained(name: &str) -> Bench {
    let inside = format!("hostname {name} && exec \"$0\" \"$@\"");
    let unshare = ["unshare", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-c"];
    embedded_with(|config| {
        config.shared = true;
        let words = unshare.iter().map(Into::into).chain([inside.into()]);
        config.supervisor = words.chain(supervisor()).collect();
    })
}

fn is_blind<T: std::fmt::Debug>(answer: Result<T, RunnerError>, there: &str) {
    let error = answer.unwrap_err();
    assert!(matches!(error, RunnerError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(there), "{error}");
}

/// A run in a container of this name is `there`, and out of sight until its end comes by the files.
fn is_left_alone(name: &str, there: &str) {
    let bench = contained(name);
    let go = bench.dir().join("go");
    let run = shell(&format!(
        "until [ -e {} ]; do sleep 0.02; done; exit 7",
        go.display()
    ));
    let Ok(submitted) = bench.backend.submit_sync(&run) else {
        return skip("no process can be put into namespaces of its own; run the tests as root");
    };
    let handle = crate::support::handle(&run, &submitted);
    is_blind(bench.backend.observe_sync(&handle), there);
    is_blind(bench.backend.cancel_sync(&handle), there);
    is_blind(bench.backend.release_sync(&handle), there);
    let place = bench.backend.config().root.join(run.object_name());
    assert!(!place.join("cancel.json").exists() && !place.join("released").exists());
    std::fs::write(go, "").unwrap();
    let end = until("the end of the run", || {
        ending(&bench.backend.observe_sync(&handle).ok()?)
    });
    assert!(
        matches!(&end, Ending::Failed { failure } if failure.exit_code == Some(7)),
        "{end:?}"
    );
    bench.backend.release_sync(&handle).unwrap();
}

#[test]
fn g01_a_run_of_another_container_is_neither_lost_nor_ended_from_here() {
    is_left_alone("devbox", "is on devbox");
}

/// As one that shares the network of its machine does.
#[test]
fn g01_a_run_of_a_container_with_the_name_of_this_machine_is_not_lost() {
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    if namespace.as_os_str() != "pid:[4026531836]" {
        eprintln!(
            "SKIPPED: these tests run in a container themselves, which a second one cannot be told from"
        );
        return;
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    is_left_alone(name.trim(), "is in a container on");
}

#[test]
fn g01_another_boot_of_another_machine_is_no_reboot_of_this_one() {
    let bench = embedded_with(|config| config.shared = true);
    let run = work(&["sleep", "300"]);
    let mut handle = bench.submit(&run);
    let record = bench.file(&run, "supervisor.json");
    let path = bench
        .backend
        .config()
        .root
        .join(run.object_name())
        .join("supervisor.json");
    let known: serde_json::Value = serde_json::from_str(&record).unwrap();
    let machine = known["machine"].as_str().unwrap();
    let boot = known["process"].as_str().unwrap().split('/').next().unwrap();
    handle.backend.uid = None;
    let other_boot = record.replace(boot, "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    std::fs::write(&path, other_boot.replace(&format!("\"{machine}\""), "\"login1\"")).unwrap();
    is_blind(bench.backend.observe_sync(&handle), "is on login1");
    is_blind(bench.backend.cancel_sync(&handle), "is on login1");
    let without = other_boot.replace("\"machine\"", "\"unknown\"");
    for text in [other_boot, without] {
        std::fs::write(&path, text).unwrap();
        match bench.wait(&handle) {
            Ending::Failed { failure } => {
                assert_eq!(failure.code, FailureCode::Lost);
                assert!(failure.message.contains("reboot"), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    std::fs::write(&path, record).unwrap();
    until("the end of the cancel", || {
        let progress = bench.backend.cancel_sync(&handle).unwrap();
        (progress == CancelProgress::Stopped).then_some(())
    });
}

#[test]
fn a_server_whose_container_was_made_anew_has_lost_what_ran_in_the_old_one() {
    let bench = contained("before");
    let go = bench.dir().join("go");
    let run = shell(&format!("until [ -e {} ]; do sleep 0.02; done", go.display()));
    let Ok(submitted) = bench.backend.submit_sync(&run) else {
        return skip("no process can be put into namespaces of its own; run the tests as root");
    };
    let handle = crate::support::handle(&run, &submitted);
    let mut config = bench.backend.config().clone();
    config.shared = false;
    let server = qwex_runner_local::LocalBackend::new(config).unwrap();
    let end = ending(&server.observe_sync(&handle).unwrap());
    assert!(
        matches!(&end, Some(Ending::Failed { failure }) if failure.code == FailureCode::Lost),
        "{end:?}"
    );
    // What runs is left to its own end, which needs its files.
    std::fs::write(go, "").unwrap();
    until("the end of the run", || {
        ending(&bench.backend.observe_sync(&handle).ok()?)
    });
}

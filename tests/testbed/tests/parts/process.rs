//! Children end with their handle, and with the test process however it dies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qwex_testbed::process::{Process, Spec};
use qwex_testbed::{require, scratch, wait};

const LIMIT: Duration = Duration::from_secs(30);
/// Set for the copy of this test binary that is killed by the test.
const HOLD: &str = "QWEX_TESTBED_HOLD";

fn sleeper(log: &Path) -> Spec {
    Spec::new("sleep", log).arg("1000")
}

/// Running, and not a zombie that waits for its parent.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    !stat.rsplit(") ").next().unwrap().starts_with(['Z', 'X'])
}

pub async fn gone(pid: u32) {
    wait::until(LIMIT, "the process to be gone", || async {
        (!is_alive(pid)).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_dropped_child_is_gone() {
    let dir = scratch::dir("process").unwrap();
    let process = sleeper(&dir.join("sleep.log")).start().unwrap();
    let pid = process.pid();
    assert!(is_alive(pid));
    drop(process);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_child_outlives_the_thread_that_asked_for_it() {
    let log = scratch::dir("process").unwrap().join("sleep.log");
    let process = std::thread::spawn(move || sleeper(&log).start().unwrap())
        .join()
        .unwrap();
    // Were the child bound to the ended thread, the kernel would have killed it by now or within this call.
    let ended = wait::until(
        Duration::from_millis(200),
        "an end that must not come",
        || async { process.exit() },
    );
    assert!(ended.await.is_err());
}

#[tokio::test]
async fn a_failing_program_tells_its_log() {
    let log = scratch::dir("process").unwrap().join("sh.log");
    let error = Spec::new("sh", log)
        .args(["-c", "echo no such luck; exit 3"])
        .run(LIMIT)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no such luck"), "{error}");
    assert!(error.to_string().contains('3'), "{error}");
}

#[tokio::test]
async fn a_part_that_dies_early_is_not_awaited_to_the_limit() {
    let log = scratch::dir("process").unwrap().join("sh.log");
    let process = Spec::new("sh", log)
        .args(["-c", "echo broken config"])
        .start()
        .unwrap();
    let error = process.ready(LIMIT, || async { None::<()> }).await.unwrap_err();
    assert!(error.to_string().contains("broken config"), "{error}");
}

#[tokio::test]
async fn a_namespaced_child_takes_its_strays_along() {
    require!(Root);
    let dir = scratch::dir("process").unwrap();
    let seconds = format!("{}.5", 900_000 + std::process::id());
    // The shell that asks for the stray has the number in its own line, so it must end.
    let script = format!("setsid -f sleep {seconds}; echo ready");
    let keeps = format!("sh -c '{script}'; exec sleep 1000");
    let process = Spec::new("sh", dir.join("sh.log"))
        .args(["-c", &keeps])
        .namespaced()
        .start()
        .unwrap();
    process
        .ready(LIMIT, || async {
            process.log_tail().contains("ready").then_some(())
        })
        .await
        .unwrap();
    let is_stray = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .unwrap()
            .starts_with(b"sleep")
    };
    let strays = || std::future::ready(processes_with(&seconds).into_iter().find(is_stray));
    let stray = wait::until(LIMIT, "the stray", strays).await.unwrap();
    drop(process);
    gone(stray).await;
}

/// The processes that have this word anywhere in their command line and are not this one.
pub fn processes_with(word: &str) -> Vec<u32> {
    let matches = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_alive(*pid) && String::from_utf8_lossy(&line).contains(word)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() && matches(pid))
        .collect()
}

#[tokio::test]
async fn a_killed_test_process_leaves_nothing() {
    let dir = scratch::dir("killed").unwrap();
    let log = dir.join("copy.log");
    let test = "process::holds_a_child_until_killed";
    let copy = Spec::new(std::env::current_exe().unwrap(), &log).args([test, "--exact", "--nocapture"]);
    let copy: Process = copy.env(HOLD, &dir).start().unwrap();
    let told = dir.join("held");
    let held = copy
        .ready(LIMIT, || async { std::fs::read_to_string(&told).ok() })
        .await
        .unwrap();
    let (pid, root) = held.split_once(' ').unwrap();
    let (pid, root): (u32, PathBuf) = (pid.parse().unwrap(), root.into());
    assert!(is_alive(pid) && root.exists());

    kill(Pid::from_raw(i32::try_from(copy.pid()).unwrap()), Signal::SIGKILL).unwrap();

    gone(pid).await;
    wait::until(LIMIT, "the root to be removed", || async {
        (!root.exists()).then_some(())
    })
    .await
    .unwrap();
}

/// No test by itself: the body of the copy that `a_killed_test_process_leaves_nothing` kills.
#[tokio::test]
async fn holds_a_child_until_killed() {
    let Some(dir) = std::env::var_os(HOLD).map(PathBuf::from) else {
        return;
    };
    let log = scratch::dir("held").unwrap().join("sleep.log");
    let mut process = sleeper(&log).start().unwrap();
    let text = format!("{} {}", process.pid(), scratch::root().unwrap().display());
    std::fs::write(dir.join("held.new"), text).unwrap();
    std::fs::rename(dir.join("held.new"), dir.join("held")).unwrap();
    process.wait(LIMIT * 2).await.unwrap();
}

//! A supervisor that is started before its work is there: it takes that work and no other, and without a word it leaves
//! no trace.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qwex_core::Ending;
use qwex_runner::{Key, Work};
use qwex_runner_local::Waiting;

use crate::support::{Bench, handle, laptop, shell, until};

/// Supervisors of this work that have not ended.
fn waiting_for(bench: &Bench, work: &Work) -> Vec<Pid> {
    let config = bench.backend.config();
    let dir = config.layout.path(&config.root, Key::of_work(work));
    let dir = dir.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.contains(dir))
        })
        .map(Pid::from_raw)
        .collect()
}

fn begun(bench: &Bench, work: &Work) -> (Waiting, Pid) {
    let waiting = bench.backend.start_waiting(Key::of_work(work)).unwrap();
    let pid = until("the supervisor", || waiting_for(bench, work).first().copied());
    (waiting, pid)
}

#[test]
fn it_supervises_the_work_that_it_waited_for() {
    let bench = laptop();
    let run = shell("kill -0 $PPID && echo $PPID > parent; exit 3");
    let (waiting, pid) = begun(&bench, &run);
    let submitted = bench.backend.submit_to(Some(waiting), &run, || Ok(())).unwrap();
    let ending = bench.wait(&handle(&run, &submitted));
    assert!(matches!(ending, Ending::Failed { .. }), "{ending:?}");
    let parent = std::fs::read_to_string(bench.dir().join("parent")).unwrap();
    assert_eq!(parent.trim(), pid.to_string());
}

#[test]
fn without_a_word_it_ends_and_leaves_nothing() {
    let bench = laptop();
    let run = shell("true");
    let (waiting, pid) = begun(&bench, &run);
    drop(waiting);
    until("its end", || {
        (!waiting_for(&bench, &run).contains(&pid)).then_some(())
    });
    let root = &bench.backend.config().root;
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
}

#[test]
fn one_that_is_gone_or_waits_for_other_work_is_replaced() {
    let bench = laptop();
    let other = shell("true");
    for lost in [true, false] {
        let run = shell("echo once >> witness");
        let (waiting, pid) = begun(&bench, if lost { &run } else { &other });
        if lost {
            kill(pid, Signal::SIGKILL).unwrap();
            until("its end", || waiting_for(&bench, &run).is_empty().then_some(()));
        }
        let submitted = bench.backend.submit_to(Some(waiting), &run, || Ok(())).unwrap();
        let ending = bench.wait(&handle(&run, &submitted));
        assert!(matches!(ending, Ending::Succeeded { .. }), "{ending:?}");
    }
    let witness = std::fs::read_to_string(bench.dir().join("witness")).unwrap();
    assert_eq!(witness, "once\nonce\n");
}

#[test]
fn nothing_starts_if_what_lies_beside_the_work_cannot_be_kept() {
    let bench = laptop();
    let run = shell("touch witness");
    let (waiting, _) = begun(&bench, &run);
    let refused = bench
        .backend
        .submit_to(Some(waiting), &run, || Err(io::Error::other("a broken disk")));
    assert!(refused.unwrap_err().to_string().contains("a broken disk"));
    until("its end", || waiting_for(&bench, &run).is_empty().then_some(()));
    assert!(!bench.dir().join("witness").exists());
    // It can be submitted again.
    bench.run(&run);
    assert!(bench.dir().join("witness").exists());
}

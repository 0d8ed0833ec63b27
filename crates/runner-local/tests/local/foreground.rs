//! What `qwexctl run -- CMD` is made of: the run store, a submit, a follow, the record of the end.

use std::time::{Duration, Instant};

use qwex_core::{Fact, JobSpec, RunState, RunStatus};
use qwex_runner::Store;
use qwex_runner_local::{LocalBackend, LocalConfig};

use crate::support::{handle, laptop, run_of, shell, supervisor, work};

#[test]
fn a_run_leaves_its_record_beside_its_logs() {
    let project = tempfile::tempdir().unwrap();
    let store = Store::open(project.path()).unwrap();
    let config = LocalConfig::laptop(store.path(), supervisor(), project.path().to_owned());
    let backend = LocalBackend::new(config).unwrap();
    let work = shell("echo out; echo err >&2; pwd; exit 3");
    let journal = store.create(&run_of(&work)).unwrap();
    let submitted = backend.submit_sync(&work).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut follow = backend.follow_sync(&handle(&work, &submitted));
    let seen = follow.to_the_end(&mut out, &mut err).unwrap();
    let run = journal.apply(&seen).unwrap().run;
    assert_eq!((run.status, run.exit_code), (RunStatus::Failed, Some(3)));
    let uid = run.backend.and_then(|backend| backend.uid);
    assert_eq!(uid, submitted.backend.uid);
    let shown = format!("out\n{}\n", project.path().display());
    assert_eq!(String::from_utf8(out).unwrap(), shown);
    assert_eq!(err, b"err\n");
    let stored = std::fs::read_to_string(store.run_path(work.run_id).join("stdout.log")).unwrap();
    assert_eq!(stored, shown);
    store.remove(work.run_id).unwrap();
    assert!(!store.run_path(work.run_id).exists());
}

#[test]
fn the_end_is_noticed_at_once_and_output_comes_as_it_is_written() {
    let bench = laptop();
    let work = shell("echo first; read line < go; exit 0");
    let fifo = bench.backend.config().working_dir.clone().unwrap().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let handle = bench.submit(&work);
    let mut follow = bench.backend.follow_sync(&handle);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while out.is_empty() {
        let followed = follow.step(Duration::from_secs(5), &mut out, &mut err).unwrap();
        assert!(!followed.over);
    }
    let nothing_new = Instant::now();
    loop {
        let followed = follow
            .step(Duration::from_millis(30), &mut out, &mut err)
            .unwrap();
        if followed.observations.is_empty() && followed.bytes == 0 {
            break;
        }
        assert!(nothing_new.elapsed() < Duration::from_secs(10));
    }
    std::fs::write(&fifo, "go\n").unwrap();
    let rest = follow.to_the_end(&mut out, &mut err).unwrap();
    assert!(matches!(rest.last().unwrap().fact, Fact::Ended { .. }));
    assert_eq!(out, b"first\n");
}

#[test]
fn a_run_that_ended_long_ago_is_followed_to_its_end_too() {
    let bench = laptop();
    let work = work(&["echo", "late"]);
    let handle = bench.submit(&work);
    bench.wait(&handle);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let seen = bench
        .backend
        .follow_sync(&handle)
        .to_the_end(&mut out, &mut err)
        .unwrap();
    let spec = JobSpec::default();
    let state = RunState::accepted(jiff::Timestamp::now(), spec.retry);
    let end = qwex_runner::conformance::fold(state, &seen);
    assert_eq!(
        (end.status, out.as_slice()),
        (RunStatus::Succeeded, b"late\n".as_slice())
    );
}

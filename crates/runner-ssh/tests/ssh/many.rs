//! Many runs and many callers at once, over the ten sessions that a host allows a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use futures::StreamExt;
use qwex_core::{Ending, Fact, RunId};
use qwex_runner::{Backend, Runner, RunnerError, Sighting, Watcher, Work};
use qwex_testbed::sshd::Sshd;

use crate::support::{Bench, bench_over, code, ending, in_copy_of, program, script, shell, until};

const MANY: usize = 200;

/// Work that writes down that it was started, with an exit code of its own.
fn numbered(bench: &Bench, count: usize) -> Vec<(Work, i32)> {
    let starts = bench.temp.path().join("starts");
    let make = |number| {
        let exit = i32::try_from(number % 7).unwrap();
        let script = format!("echo $QWEX_RUN_ID >> {}; exit {exit}", starts.display());
        (shell(&script), exit)
    };
    (0..count).map(make).collect()
}

fn assert_started_once(bench: &Bench, works: &[(Work, i32)]) {
    let text = fs::read_to_string(bench.temp.path().join("starts")).unwrap();
    let started: BTreeSet<&str> = text.lines().collect();
    assert_eq!(text.lines().count(), works.len());
    assert!(
        works
            .iter()
            .all(|(work, _)| started.contains(work.run_id.to_string().as_str()))
    );
}

fn exit_code(ending: &Ending) -> Option<i32> {
    match ending {
        Ending::Succeeded { .. } => Some(0),
        Ending::Failed { .. } | Ending::Stopped { .. } => code(ending)?.1,
    }
}

async fn two_hundred(bench: Bench) {
    let works = numbered(&bench, MANY);
    let mut watch = bench.backend.watch(None).await.unwrap();
    let submits = works.iter().map(|(work, _)| bench.submit(work));
    let all = async {
        let mut ends: BTreeMap<RunId, Ending> = BTreeMap::new();
        while ends.len() < works.len() {
            let sighting = watch.next().await.unwrap().unwrap();
            if let Sighting::Seen(seen) = sighting
                && let Fact::Ended { ending, .. } = seen.fact
            {
                let told = ends.insert(seen.run_id, ending);
                assert!(told.is_none(), "{} ended twice", seen.run_id);
            }
        }
        ends
    };
    let limit = crate::support::LIMIT * 2;
    let (handles, ends) = tokio::join!(
        futures::future::join_all(submits),
        tokio::time::timeout(limit, all)
    );
    let ends = ends.unwrap_or_else(|_| panic!("waited {limit:?} for all ends"));
    for (work, exit) in &works {
        assert_eq!(exit_code(&ends[&work.run_id]), Some(*exit), "{ends:?}");
    }
    assert_started_once(&bench, &works);
    let removes = handles.iter().map(|handle| bench.backend.remove(handle));
    for removed in futures::future::join_all(removes).await {
        removed.unwrap();
    }
    let runs = bench.there(&works[0].0).parent().unwrap().to_owned();
    until("nothing left", async || {
        (fs::read_dir(&runs).unwrap().count() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_by_the_program() {
    two_hundred(program().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_by_the_script() {
    two_hundred(script().await).await;
}

/// Where it takes very long to make a connection, a caller is told that all are taken.
fn unless_crowded<T>(answer: Result<T, RunnerError>) -> Option<T> {
    match answer {
        Err(RunnerError::Throttled { .. }) => None,
        answer => Some(answer.unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_callers_share_a_host_that_allows_ten_sessions() {
    let sshd = Sshd::start_with("MaxSessions 10\nMaxStartups 10:30:100")
        .await
        .unwrap();
    let bench = bench_over(sshd.config(), |_| {});
    let works = numbered(&bench, 40);
    let runs = works.iter().map(async |(work, exit)| {
        let backend = bench.anew();
        let submitted = until("a submit", async || unless_crowded(backend.submit(work).await)).await;
        let handle = crate::support::handle(work, &submitted);
        let end = until("the end of the run", async || {
            ending(&unless_crowded(backend.observe(&handle).await)?)
        })
        .await;
        assert_eq!(exit_code(&end), Some(*exit));
        // Held on to, so that nobody's session is given back before all have ended.
        backend
    });
    let all = futures::future::join_all(runs).await;
    assert_eq!(all.len(), works.len());
    assert_started_once(&bench, &works);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_says_something_first_does_no_harm() {
    let sshd = Sshd::start_with("ForceCommand echo welcome; echo 'data 5'; sh -c \"$SSH_ORIGINAL_COMMAND\"")
        .await
        .unwrap();
    let bench = bench_over(sshd.config(), |_| {});
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("in"), "x").unwrap();
    let handle = bench.succeed(&in_copy_of(here.path(), "cp in out")).await;
    let brought = bench
        .backend
        .collect(&handle, here.path(), &["out".to_owned()])
        .await
        .unwrap();
    assert_eq!(brought.len(), 1);
    assert_eq!(fs::read_to_string(here.path().join("out")).unwrap(), "x");
}

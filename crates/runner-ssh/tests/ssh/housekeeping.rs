//! What stays on a host, for how long, and what goes.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use qwex_core::Ending;
use qwex_runner::{Backend, Handle, Runner, RunnerError, Work};

use crate::support::{Bench, bench_with, by_program, program, script, shell, until};

/// Makes a file or directory look as if it was written that many days ago.
fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    File::open(path).unwrap().set_modified(then).unwrap();
}

async fn ended(bench: &Bench) -> (Work, Handle) {
    let work = shell("echo out");
    let handle = bench.submit(&work).await;
    bench.wait(&handle).await;
    (work, handle)
}

/// The next sweep is a day after the last one.
fn tomorrow(bench: &Bench) {
    age(&Path::new(&bench.backend.config().cache_dir).join("swept"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn released_runs_stay_for_their_time_and_others_for_ever() {
    let bench = bench_with(|config| config.retention = Duration::from_secs(2 * 24 * 3600)).await;
    let (old, old_handle) = ended(&bench).await;
    let (young, young_handle) = ended(&bench).await;
    let (kept, _) = ended(&bench).await;
    let (last, last_handle) = ended(&bench).await;
    bench.backend.release(&old_handle).await.unwrap();
    bench.backend.release(&young_handle).await.unwrap();
    for work in [&old, &young, &kept] {
        assert!(bench.there(work).exists());
    }
    // Released is not removed: the result can be asked for as before.
    assert!(matches!(bench.wait(&old_handle).await, Ending::Succeeded { .. }));
    age(&bench.there(&old).join("released"), 4);
    age(&bench.there(&young).join("released"), 1);
    for file in ["end.json", "work.json"] {
        age(&bench.there(&kept).join(file), 400);
    }
    let runs = bench.there(&old).parent().unwrap().to_owned();
    let half = runs.join(".new-of-somebody-who-died");
    fs::create_dir(&half).unwrap();
    age(&half, 3);

    // Swept once a day, not with each release.
    bench.backend.release(&young_handle).await.unwrap();
    assert!(bench.there(&old).exists());
    tomorrow(&bench);
    bench.backend.release(&last_handle).await.unwrap();
    until("the old one gone", async || {
        (!bench.there(&old).exists() && !half.exists()).then_some(())
    })
    .await;
    for work in [&young, &kept, &last] {
        assert!(bench.there(work).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_used_stays_and_others_go() {
    let bench = program().await;
    let cache = Path::new(&bench.backend.config().cache_dir).to_owned();
    let (_, handle) = ended(&bench).await;
    let own = fs::read_dir(cache.join("supervisor"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let other = cache.join("supervisor").join("0".repeat(64));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("ok"), "").unwrap();
    for ok in [own.join("ok"), other.join("ok")] {
        age(&ok, 40);
    }
    ended(&bench).await;
    bench.backend.release(&handle).await.unwrap();
    until("the other supervisor gone", async || {
        (!other.exists()).then_some(())
    })
    .await;
    assert!(own.join("qwex").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_was_removed_is_brought_again() {
    let bench = program().await;
    ended(&bench).await;
    fs::remove_dir_all(Path::new(&bench.backend.config().cache_dir)).unwrap();
    let work = shell("exit 0");
    let handle = bench.submit_at_last(&work).await;
    let ending = bench.wait(&handle).await;
    assert!(matches!(ending, Ending::Succeeded { .. }), "{ending:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_ended_is_neither_released_nor_removed() {
    for bench in [script().await, bench_with(by_program).await] {
        let work = shell("sleep 300");
        let handle = bench.submit(&work).await;
        for answer in [
            bench.backend.release(&handle).await,
            bench.backend.remove(&handle).await,
        ] {
            assert!(matches!(answer, Err(RunnerError::Failed { .. })), "{answer:?}");
        }
        assert!(bench.there(&work).exists());
        bench.backend.cancel(&handle).await.unwrap();
        let ending = bench.wait(&handle).await;
        assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
        bench.backend.remove(&handle).await.unwrap();
        assert!(!bench.there(&work).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_told_by_the_word_that_sets_it() {
    let bench = bench_with(|config| config.remote_dir = "/dev/null/there".to_owned()).await;
    let error = bench.backend.probe().await.unwrap_err().to_string();
    assert!(error.contains("/dev/null/there/runs"), "{error}");
    assert!(error.contains("the directory of this host"), "{error}");
}

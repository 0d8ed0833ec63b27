//! The engine or its helper is killed while runs go on: an end nobody saw is never a success.

use anyhow::Result;
use qwex_core::{FailureCode, RunState, RunStatus};
use qwex_runner::Watcher as _;
use qwex_runner::backend::Backend as _;
use qwex_runner::conformance::Submission;
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::{require, wait};

use crate::support::{Bench, LIMIT, Which, code, podman, until_state, wait_for_end};

struct Runs {
    long: Submission,
    ends_well: Submission,
    fails: Submission,
}

/// Runs of which two end while dockerd is dead.
async fn around_a_crash(bench: &Bench, docker: &Dockerd) -> Result<Runs> {
    let marks = tempfile::tempdir()?;
    let marked = |name: &str, code: u8| {
        let work = bench.shell(&format!(
            "until [ -e go ]; do sleep 0.05; done; touch {name}; exit {code}"
        ));
        crate::support::in_workspace(work, marks.path())
    };
    let long = bench.submit(bench.work(&["sleep", "600"])).await?;
    let ends_well = bench.submit(marked("well", 0)).await?;
    let fails = bench.submit(marked("failed", 3)).await?;
    for submission in [&long, &ends_well, &fails] {
        until_state(&bench.backend, submission, "a start", |state| {
            state.started_at.is_some()
        })
        .await;
    }
    docker.crash().await?;
    let blind = bench.backend.observe(&long.handle).await.unwrap_err();
    assert!(
        blind.is_blind(),
        "a dead engine says nothing about a run: {blind}"
    );
    std::fs::write(marks.path().join("go"), "")?;
    for name in ["well", "failed"] {
        let path = marks.path().join(name);
        wait::until(LIMIT, name, || async { path.exists().then_some(()) }).await?;
    }
    docker.come_back().await?;
    Ok(Runs {
        long,
        ends_well,
        fails,
    })
}

/// Either the engine knows when it ended, after it began, or nobody knows how.
fn is_honest(end: &RunState, wanted: i32) {
    match end.status {
        RunStatus::Succeeded => {
            assert_eq!(wanted, 0, "{end:?}");
            assert!(end.started_at < end.finished_at, "{end:?}");
        }
        RunStatus::Failed => {
            let known = [FailureCode::Lost, FailureCode::ExitCode];
            assert!(code(end).is_some_and(|code| known.contains(&code)), "{end:?}");
        }
        RunStatus::Pending | RunStatus::Running | RunStatus::Cancelled => panic!("{end:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h02_dockerd_killed_is_never_success() -> Result<()> {
    require!(Root, Docker);
    let docker = Dockerd::start().await?;
    let bench = Which::Docker.bench_at(&docker.host(), docker.load_busybox().await?);
    let runs = around_a_crash(&bench, &docker).await?;
    // Without live-restore dockerd ends what it finds.
    let long = wait_for_end(&bench.backend, &runs.long).await?;
    assert_eq!(long.status, RunStatus::Failed, "{long:?}");
    is_honest(&long, 1);
    is_honest(&wait_for_end(&bench.backend, &runs.ends_well).await?, 0);
    is_honest(&wait_for_end(&bench.backend, &runs.fails).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h02_with_live_restore_runs_go_on() -> Result<()> {
    require!(Root, Docker);
    let docker = Dockerd::start_with_live_restore().await?;
    let bench = Which::Docker.bench_at(&docker.host(), docker.load_busybox().await?);
    let runs = around_a_crash(&bench, &docker).await?;
    is_honest(&wait_for_end(&bench.backend, &runs.ends_well).await?, 0);
    is_honest(&wait_for_end(&bench.backend, &runs.fails).await?, 3);
    let long = until_state(&bench.backend, &runs.long, "the long run", |_| true).await;
    assert_eq!(long.status, RunStatus::Running, "{long:?}");
    crate::support::cancel(&bench.backend, &runs.long.handle).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h02_a_watch_outlives_dockerd() -> Result<()> {
    require!(Root, Docker);
    let docker = Dockerd::start_with_live_restore().await?;
    let bench = Which::Docker.bench_at(&docker.host(), docker.load_busybox().await?);
    let submission = bench.submit(bench.shell("sleep 4; exit 3")).await?;
    let waiting = tokio::spawn({
        let backend = bench.another();
        let (handle, state) = (submission.handle.clone(), submission.state());
        async move { qwex_runner::wait(&backend, &handle, state).await }
    });
    until_state(&bench.backend, &submission, "a start", |state| {
        state.started_at.is_some()
    })
    .await;
    docker.crash().await?;
    docker.come_back().await?;
    let end = tokio::time::timeout(LIMIT, waiting).await???;
    is_honest(&end, 3);
    assert_ne!(end.status, RunStatus::Succeeded);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h02_a_container_whose_monitor_was_killed_is_lost_on_podman() -> Result<()> {
    require!(Root, Podman);
    let bench = Which::Podman.bench().await;
    let submission = bench.submit(bench.work(&["sleep", "600"])).await?;
    until_state(&bench.backend, &submission, "a start", |state| {
        state.started_at.is_some()
    })
    .await;
    podman()
        .await
        .kill_with_its_monitor(&submission.handle.backend.object)
        .await?;
    let end = wait_for_end(&bench.backend, &submission).await?;
    assert_eq!(end.status, RunStatus::Failed, "{end:?}");
    assert_eq!(code(&end), Some(FailureCode::Lost), "{end:?}");
    crate::support::cancel(&bench.backend, &submission.handle).await;
    bench.backend.remove(&submission.handle).await?;
    let left = podman()
        .await
        .podman(&["ps", "-a", "--format", "{{.Names}}"])
        .await?;
    assert!(!left.contains(&submission.handle.backend.object), "{left}");
    Ok(())
}

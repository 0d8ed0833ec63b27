//! The engine or its helper is killed while runs go on: an end nobody saw is never a success.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use qwex_core::{FailureCode, RunState, RunStatus};
use qwex_runner::backend::Backend as _;
use qwex_runner::conformance::Submission;
use qwex_runner::{LogItem, LogPosition, LogSource, Watcher as _};
use qwex_runner_container::ContainerBackend;
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

/// All of a log as somebody reads it who does not give up, and what was told to be missing.
async fn read_patiently(backend: ContainerBackend, source: LogSource) -> Result<(Vec<u8>, Vec<String>)> {
    let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
    let mut from = LogPosition::default();
    loop {
        let Ok(mut items) = backend.read_log(&source, from.clone(), true).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while let Some(Ok(item)) = items.next().await {
            match item {
                LogItem::Chunk(chunk) => {
                    bytes.extend_from_slice(&chunk.bytes);
                    from = chunk.position;
                }
                LogItem::Gap { message } => gaps.push(message),
                LogItem::End => return Ok((bytes, gaps)),
            }
        }
    }
}

/// dockerd reads nothing any more of a command that ended while it was dead, and loses the begin of a line that it had read.
#[tokio::test(flavor = "multi_thread")]
async fn h02_what_a_killed_dockerd_lost_of_a_log_is_a_gap() -> Result<()> {
    require!(Root, Docker);
    let docker = Dockerd::start_with_live_restore().await?;
    let bench = Which::Docker.bench_at(&docker.host(), docker.load_busybox().await?);
    let marks = tempfile::tempdir()?;
    let until = |mark: &str| format!("until [ -e {mark} ]; do sleep 0.05; done");
    let script = |end: &str| {
        let script = format!(
            "printf 'one\\ntw'; {}; printf 'o\\nthree\\n'; {end}",
            until("dead")
        );
        crate::support::in_workspace(bench.shell(&script), marks.path())
    };
    let ends = bench.submit(script("touch ended; exit 3")).await?;
    let goes_on = bench
        .submit(script(&format!("{}; echo four; exit 3", until("back"))))
        .await?;
    let quiet = bench.submit(bench.shell("echo all; exit 3")).await?;
    let mut readers = Vec::new();
    for submission in [&ends, &goes_on, &quiet] {
        let listed = || async {
            let sources = bench.backend.list_logs(&submission.handle).await.ok()?;
            sources.into_iter().find(|source| source.stream == "stdout")
        };
        let source = wait::until(LIMIT, "the log", listed).await?;
        readers.push(tokio::spawn(read_patiently(bench.backend.clone(), source)));
    }
    let all = readers.pop().expect("three were begun").await??;
    assert_eq!(all, (b"all\n".to_vec(), Vec::new()), "it ended before");
    for submission in [&ends, &goes_on] {
        let said = || async {
            let known = docker
                .docker(&["logs", &submission.handle.backend.object])
                .await
                .ok()?;
            known.contains("one").then_some(())
        };
        wait::until(LIMIT, "the first line", said).await?;
    }
    docker.crash().await?;
    std::fs::write(marks.path().join("dead"), "")?;
    let ended = marks.path().join("ended");
    wait::until(LIMIT, "the end of the first", || async {
        ended.exists().then_some(())
    })
    .await?;
    docker.come_back().await?;
    std::fs::write(marks.path().join("back"), "")?;
    for (reader, submission) in readers.into_iter().zip([&ends, &goes_on]) {
        let (bytes, gaps) = tokio::time::timeout(LIMIT, reader).await???;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.starts_with("one\n"), "{text}");
        assert_ne!(text, "one\ntwo\nthree\n", "dockerd loses nothing any more");
        assert_eq!(gaps.len(), 1, "{text} {gaps:?}");
        is_honest(&wait_for_end(&bench.backend, submission).await?, 3);
    }
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

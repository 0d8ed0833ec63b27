//! Stops at every moment of an attempt, and an engine that is not the one it was: what was asked holds, and nothing is said
//! of what nobody saw.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use qwex_core::{FailureCode, RunState, RunStatus, Span};
use qwex_runner::backend::Backend as _;
use qwex_runner::conformance::{Submission, fold};
use qwex_runner::{CancelProgress, Runner as _, RunnerError, Sighting, Watcher as _};
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::podman::Podman;
use qwex_testbed::{require, wait};

use crate::fake_engine::LossyProxy;
use crate::support::{
    BOTH, Bench, LIMIT, Which, cancel, code, handle_of, in_workspace, state, until_state, wait_for_end,
};

async fn end_after_cancel(bench: &Bench, submission: &Submission) -> Result<RunState> {
    let asked = fold(submission.state(), &[submission.cancel_request()]);
    let wait = qwex_runner::wait(&bench.backend, &submission.handle, asked);
    Ok(tokio::time::timeout(LIMIT, wait).await??)
}

/// Made, and its start never arrived at the engine.
#[tokio::test(flavor = "multi_thread")]
async fn a12_a_cancel_between_create_and_start_starts_nothing() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let mut bench = which.bench().await;
        let proxy = LossyProxy::swallowing(&which.address().await, "/start")?;
        bench.config.address = Some(proxy.host());
        bench.backend = bench.another();
        let dir = tempfile::tempdir()?;
        let work = in_workspace(bench.shell("touch started"), dir.path());
        let lost = bench.backend.submit(&work).await.unwrap_err();
        assert!(lost.is_retryable(), "{which:?}: {lost}");
        let name = work.object_name();
        let made = which.client(&["ps", "-a", "--format", "{{.Names}}"]).await?;
        assert!(made.contains(&name), "{which:?}: {made}");

        let handle = handle_of(&bench.backend, &work);
        assert_eq!(bench.backend.cancel(&handle).await?, CancelProgress::Stopped);
        let left = which.client(&["ps", "-a", "--format", "{{.Names}}"]).await?;
        assert!(!left.contains(&name), "{which:?}: {left}");
        let again = bench.submit(work).await?;
        assert_eq!(
            end_after_cancel(&bench, &again).await?.status,
            RunStatus::Cancelled
        );
        assert!(!dir.path().join("started").exists(), "{which:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a13_a_cancel_before_the_submit_holds_and_one_after_the_end_changes_nothing() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let work = bench.work(&["true"]);
        let handle = handle_of(&bench.backend, &work);
        for backend in [&bench.backend, &bench.another()] {
            assert_eq!(backend.cancel(&handle).await?, CancelProgress::Stopped);
        }
        let name = work.object_name();
        let late = bench.submit(work).await?;
        assert_eq!(
            end_after_cancel(&bench, &late).await?.status,
            RunStatus::Cancelled
        );
        let made = which.client(&["ps", "-a", "--format", "{{.Names}}"]).await?;
        assert!(!made.contains(&name), "{which:?}: {made}");

        let (over, end) = bench.run(bench.shell("exit 3")).await?;
        for _ in 0..2 {
            assert_eq!(bench.backend.cancel(&over.handle).await?, CancelProgress::Stopped);
        }
        let after = state(&bench.backend, &over).await?;
        assert_eq!(
            (after.status, after.exit_code),
            (end.status, Some(3)),
            "{which:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_a_timeout_is_told_only_when_nothing_runs_any_more() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let mut work = bench.shell("trap '' TERM; while true; do sleep 0.1; done");
        work.spec.timeout = Some(Span::from_secs(1));
        let submission = bench.submit(work).await?;
        let end = until_state(&bench.backend, &submission, "the end", RunState::is_terminal).await;
        assert_eq!(code(&end), Some(FailureCode::Timeout), "{which:?} {end:?}");
        let name = &submission.handle.backend.object;
        let running = which
            .client(&["inspect", "-f", "{{.State.Running}}", name])
            .await?;
        assert_eq!(running.trim(), "false", "{which:?}");
    }
    Ok(())
}

/// `DOCKER_HOST` was changed in the middle of a run.
#[tokio::test(flavor = "multi_thread")]
async fn a15_another_engine_says_nothing_about_a_run() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let (docker, podman);
        let other = match which {
            Which::Docker => {
                docker = Dockerd::start().await?;
                docker.host()
            }
            Which::Podman => {
                podman = Podman::start().await?;
                podman.host()
            }
        };
        let bench = which.bench().await;
        let submission = bench.submit(bench.work(&["sleep", "600"])).await?;
        let mut config = bench.config.clone();
        config.address = Some(other);
        let astray = qwex_runner_container::ContainerBackend::open(config)?;
        let handle = &submission.handle;
        let told: Vec<RunnerError> = vec![
            astray.observe(handle).await.unwrap_err(),
            astray.cancel(handle).await.unwrap_err(),
            astray.submit(&submission.work).await.unwrap_err(),
            astray.remove(handle).await.unwrap_err(),
        ];
        for error in told {
            assert!(
                error.is_blind() && error.to_string().contains("_HOST"),
                "{which:?}: {error}"
            );
        }
        let mut watch = astray.watch(None).await?;
        loop {
            match watch.next().await {
                Some(Ok(Sighting::Listed(objects))) => {
                    assert_eq!(objects, [], "{which:?}");
                    break;
                }
                Some(Ok(Sighting::Seen(seen))) => panic!("{which:?}: {seen:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => panic!("{which:?}: the watch ended"),
            }
        }
        let running = until_state(&bench.backend, &submission, "a start", |state| {
            state.started_at.is_some()
        });
        assert_eq!(running.await.status, RunStatus::Running, "{which:?}");
        cancel(&bench.backend, handle).await;
    }
    Ok(())
}

/// As A14, where the deadline passes while the command is frozen: it feels no signal until it is thawed.
#[tokio::test(flavor = "multi_thread")]
async fn a14_a_paused_container_is_stopped_as_well() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let submission = bench.submit(bench.work(&["sleep", "600"])).await?;
        let name = submission.handle.backend.object.clone();
        wait::until_ok(LIMIT, "the pause", || async {
            which.client(&["pause", &name]).await
        })
        .await?;
        let paused = state(&bench.backend, &submission).await?;
        assert_eq!(paused.status, RunStatus::Running, "{which:?}");
        let begun = std::time::Instant::now();
        cancel(&bench.backend, &submission.handle).await;
        assert!(begun.elapsed() < LIMIT - Duration::from_secs(1));
        let end = end_after_cancel(&bench, &submission).await?;
        assert_eq!(end.status, RunStatus::Cancelled, "{which:?} {end:?}");
        assert_eq!(
            wait_for_end(&bench.backend, &submission).await?.exit_code,
            end.exit_code
        );
    }
    Ok(())
}

//! podman answers 500 about a container whose command ends in the middle of its inspect: the question is asked again, and only
//! an engine that goes on saying so is told as failing.

use std::sync::atomic::Ordering;

use anyhow::Result;
use futures::StreamExt as _;
use qwex_core::RunStatus;
use qwex_runner::backend::Backend as _;
use qwex_runner::{RunnerError, Watcher as _};
use qwex_testbed::require;

use crate::fake_engine::LossyProxy;
use crate::support::{BOTH, Bench, Which, cancel, log, wait_for_end};

/// More than one, and fewer than are patiently asked.
const TWICE: usize = 2;
const ALWAYS: usize = usize::MAX;

/// A backend whose engine answers so many requests that have `words` in this way.
async fn racing(which: Which, words: &'static str, requests: usize) -> Result<(LossyProxy, Bench)> {
    let image = which.bench().await.image;
    let engine = LossyProxy::racing(&which.address().await, words, requests)?;
    let bench = which.bench_at(&engine.host(), &image);
    Ok((engine, bench))
}

#[tokio::test(flavor = "multi_thread")]
async fn h02_no_question_fails_because_a_container_ends_just_then() -> Result<()> {
    require!(Root, Docker, Podman);
    let reads = [
        "/json",
        "/containers/json",
        "/images/",
        "/info",
        "/version",
        "/logs?",
    ];
    let cases = BOTH.iter().flat_map(|which| reads.map(|words| (*which, words)));
    // podman's logs are read from its own file.
    let cases = cases.filter(|(which, words)| *which == Which::Docker || *words != "/logs?");
    let runs = cases.map(|(which, words)| async move {
        let (engine, bench) = racing(which, words, TWICE).await?;
        let (submission, end) = bench.run(bench.shell("echo said; exit 3")).await?;
        assert_eq!(end.exit_code, Some(3), "{which:?} {words} {end:?}");
        let said = log(&bench.backend, &submission.handle, "stdout").await?;
        assert_eq!(said, b"said\n", "{which:?} {words}");
        assert_eq!(bench.backend.list_logs(&submission.handle).await?.len(), 2);
        let details = bench.backend.details(&submission.handle).await?;
        assert!(details.image_digest.is_some(), "{which:?} {words}");
        bench.backend.probe().await?;
        bench.backend.remove(&submission.handle).await?;
        let met = engine.lost.load(Ordering::SeqCst);
        assert!(met > TWICE, "{which:?} {words}: asked {met} times");
        anyhow::Ok(())
    });
    futures::future::try_join_all(runs).await?;
    Ok(())
}

/// A signal finds a command that has just ended, a removal a container that is cleared away just then.
#[tokio::test(flavor = "multi_thread")]
async fn h02_a_cancel_and_a_removal_meet_a_container_that_ends_just_then() -> Result<()> {
    require!(Root, Podman);
    for words in ["POST /containers/", "DELETE /containers/"] {
        let image = Which::Podman.bench().await.image;
        let direct = Which::Podman.bench_at(&Which::Podman.address().await, &image);
        let submission = direct.submit(direct.work(&["sleep", "1000"])).await?;
        let engine = LossyProxy::racing(&Which::Podman.address().await, words, TWICE)?;
        let mut config = direct.config.clone();
        config.address = Some(engine.host());
        let racing = qwex_runner_container::ContainerBackend::open(config)?;
        cancel(&racing, &submission.handle).await;
        let asked = qwex_runner::conformance::fold(submission.state(), &[submission.cancel_request()]);
        let end = qwex_runner::wait(&direct.backend, &submission.handle, asked).await?;
        assert_eq!(end.status, RunStatus::Cancelled, "{words} {end:?}");
        racing.remove(&submission.handle).await?;
        assert!(engine.lost.load(Ordering::SeqCst) > TWICE, "{words}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h02_an_engine_that_goes_on_failing_is_told() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let direct = which.bench().await;
        let (submission, _) = direct.run(direct.shell("echo said")).await?;
        let source = direct.backend.list_logs(&submission.handle).await?.swap_remove(0);
        let (engine, _) = racing(which, "/containers/", ALWAYS).await?;
        let mut config = direct.config.clone();
        config.address = Some(engine.host());
        let failing = qwex_runner_container::ContainerBackend::open(config)?;
        let told = [
            failing.observe(&submission.handle).await.err(),
            failing.list_logs(&submission.handle).await.err(),
            failing.details(&submission.handle).await.err(),
            failing.read_log(&source, Default::default(), true).await.err(),
            failing.watch(None).await?.next().await.and_then(Result::err),
            failing.remove(&submission.handle).await.err(),
        ];
        for (question, error) in told.into_iter().enumerate() {
            let is_told = matches!(&error, Some(RunnerError::Failed { message }) if message.contains("no such process"));
            assert!(is_told, "{which:?} {question} {error:?}");
        }
        let end = wait_for_end(&direct.backend, &submission).await?;
        assert_eq!(end.status, RunStatus::Succeeded, "{end:?}");
    }
    Ok(())
}

//! Images from a registry that refuses, limits and dawdles: each failure is told with its cause, submit never waits, a
//! cancel does not either, and a pull outlives who began it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use qwex_core::{FailureCode, PendingCode, RunState, RunStatus};
use qwex_runner::Backend;
use qwex_runner_container::ContainerBackend;
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::podman::Podman;
use qwex_testbed::{require, wait};

use crate::fake_engine::LossyProxy;
use crate::registry::{LOGIN, Registry};
use crate::support::{BOTH, Bench, LIMIT, Which, cancel, code, failure, submit, until_state, wait_for_end};

/// An engine that has no image yet; it lives as long as this.
type Empty = Box<dyn std::any::Any + Send>;

impl Which {
    async fn empty(self) -> Result<(Empty, Bench)> {
        Ok(match self {
            Self::Docker => {
                let engine = Dockerd::start().await?;
                let bench = self.bench_at(&engine.host(), "none");
                (Box::new(engine) as Empty, bench)
            }
            Self::Podman => {
                let engine = Podman::start().await?;
                let bench = self.bench_at(&engine.host(), "none");
                (Box::new(engine) as Empty, bench)
            }
        })
    }
}

fn waits_for_image(state: &RunState) -> bool {
    state
        .pending
        .as_ref()
        .is_some_and(|pending| pending.code == PendingCode::Image)
}

async fn fails_with(bench: &Bench, image: String, wanted: &str) -> Result<()> {
    let mut work = bench.work(&["true"]);
    work.spec.image = Some(image.clone());
    let begun = Instant::now();
    let submission = bench.submit(work).await?;
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "submit does not wait for a pull"
    );
    let end = wait_for_end(&bench.backend, &submission).await?;
    assert_eq!(code(&end), Some(FailureCode::Image), "{end:?}");
    let message = &failure(&end).message;
    assert!(message.contains(wanted) && message.contains(&image), "{message}");
    let other = bench.another();
    let seen = wait_for_end(&other, &submission).await?;
    assert_eq!(failure(&seen).message, *message, "any process knows why");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h04_every_failed_pull_says_why() -> Result<()> {
    require!(Root, Docker, Podman);
    let registry = Registry::start().await?;
    for which in BOTH {
        let bench = which.bench().await;
        fails_with(&bench, registry.image("absent"), "no such image").await?;
        fails_with(&bench, registry.image("private"), "log in with").await?;
        fails_with(&bench, registry.image("limited"), "slow down").await?;
        fails_with(&bench, "127.0.0.1:1/absent:1".to_owned(), "cannot be reached").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h04_a_slow_pull_can_be_cancelled_and_an_interrupted_one_goes_on() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let registry = Registry::start().await?;
        let (_engine, mut bench) = which.empty().await?;
        bench.image = registry.image("slow");
        let dawdles = || async { (registry.layer_reads() > 0).then_some(()) };

        let submission = bench.submit(bench.work(&["true"])).await?;
        wait::until(LIMIT, "the layer to be read", dawdles).await?;
        until_state(&bench.backend, &submission, "the image", waits_for_image).await;
        let other = bench.another();
        let state = until_state(
            &other,
            &submission,
            "the image, seen by another process",
            waits_for_image,
        )
        .await;
        assert!(state.pending.unwrap().message.contains("pulling"));
        cancel(&other, &submission.handle).await;
        let asked = qwex_runner::conformance::fold(submission.state(), &[submission.cancel_request()]);
        let end = qwex_runner::wait(&bench.backend, &submission.handle, asked).await?;
        assert_eq!(end.status, RunStatus::Cancelled);

        // The process that began the pull dies: its tasks end with its runtime.
        let work = bench.shell("echo pulled");
        let begun = dies_during_the_pull(&bench, work.clone())?;
        let left = until_state(&bench.backend, &begun, "the interrupted pull", |state| {
            state
                .pending
                .as_ref()
                .is_some_and(|pending| pending.message.contains("interrupted"))
        });
        assert!(waits_for_image(&left.await));
        registry.open();
        bench.backend.resume(&work, &begun.handle).await?;
        let end = wait_for_end(&bench.backend, &begun).await?;
        assert_eq!(end.status, RunStatus::Succeeded, "{which:?} {end:?}");
    }
    Ok(())
}

/// Nobody else goes on for as long as the process that submitted lives.
#[tokio::test(flavor = "multi_thread")]
async fn h04_a_pull_that_an_engine_cut_by_its_own_end_goes_on_by_itself() -> Result<()> {
    require!(Root, Docker);
    let registry = Registry::start().await?;
    let docker = Dockerd::start().await?;
    let mut bench = Which::Docker.bench_at(&docker.host(), "none");
    bench.image = registry.image("slow");
    let submission = bench.submit(bench.work(&["true"])).await?;
    let dawdles = || async { (registry.layer_reads() > 0).then_some(()) };
    wait::until(LIMIT, "the layer to be read", dawdles).await?;
    docker.crash().await?;
    docker.come_back().await?;
    registry.open();
    let end = wait_for_end(&bench.backend, &submission).await?;
    assert_eq!(end.status, RunStatus::Succeeded, "{end:?}");
    Ok(())
}

/// Another process may be at it, or a reader may look just then whether one is and be slow about it.
#[tokio::test(flavor = "multi_thread")]
async fn h04_a_pull_that_finds_another_one_at_it_goes_on_where_that_ends() -> Result<()> {
    require!(Root, Docker);
    let registry = Registry::start().await?;
    let (_engine, mut bench) = Which::Docker.empty().await?;
    bench.image = registry.image("slow");
    registry.open();
    let work = bench.work(&["true"]);
    let path = bench.state.path().join(format!("{}.pull", work.object_name()));
    let another = std::fs::File::create(path)?;
    another.lock()?;
    let submission = bench.submit(work).await?;
    let begun = Instant::now();
    let a_while = || async { (begun.elapsed() > Duration::from_secs(1)).then_some(()) };
    wait::until(LIMIT, "a while", a_while).await?;
    assert_eq!(registry.layer_reads(), 0, "one pulls at a time");
    drop(another);
    let end = wait_for_end(&bench.backend, &submission).await?;
    assert_eq!(end.status, RunStatus::Succeeded, "{end:?}");
    Ok(())
}

/// The other process waits for the right to pull, and goes on wherever the first one died; asked often, it does so once.
#[tokio::test(flavor = "multi_thread")]
async fn h04_who_waits_for_a_pull_starts_what_its_puller_made_and_did_not_start() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let registry = Registry::start().await?;
        let (_engine, mut bench) = which.empty().await?;
        bench.image = registry.image("slow");
        let work = bench.shell("echo pulled");
        let address = bench.config.address.clone().expect("the engine has one");
        let engine = LossyProxy::holding(&address, "/start")?;
        let mut config = bench.config.clone();
        config.address = Some(engine.host());
        let first = ContainerBackend::open(config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let begun = {
            let work = work.clone();
            runtime.spawn(async move { submit(&first, work).await }).await??
        };
        let dawdles = || async { (registry.layer_reads() > 0).then_some(()) };
        wait::until(LIMIT, "the layer to be read", dawdles).await?;
        for _ in 0..3 {
            bench.backend.resume(&work, &begun.handle).await?;
        }
        registry.open();
        let is_made = || async { (engine.lost.load(Ordering::SeqCst) > 0).then_some(()) };
        wait::until(LIMIT, "the container to be made", is_made).await?;
        runtime.shutdown_background();
        let end = wait_for_end(&bench.backend, &begun).await?;
        assert_eq!(end.status, RunStatus::Succeeded, "{which:?} {end:?}");
    }
    Ok(())
}

/// An engine that says nothing to the start of what it made may not have started it.
#[tokio::test(flavor = "multi_thread")]
async fn h04_a_start_behind_a_pull_that_finds_no_answer_is_tried_again() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let registry = Registry::start().await?;
        let (_engine, mut bench) = which.empty().await?;
        bench.image = registry.image("public");
        let address = bench.config.address.clone().expect("the engine has one");
        let engine = LossyProxy::swallowing(&address, "/start")?;
        bench.config.address = Some(engine.host());
        bench.backend = bench.another();
        let (_, end) = bench.run(bench.shell("exit 3")).await?;
        assert_eq!(end.exit_code, Some(3), "{which:?} {end:?}");
        assert!(engine.lost.load(Ordering::SeqCst) > 0, "{which:?}");
    }
    Ok(())
}

/// Submits in a runtime that is dropped afterwards.
fn dies_during_the_pull(
    bench: &Bench,
    work: qwex_runner::Work,
) -> Result<qwex_runner::conformance::Submission> {
    let backend = bench.another();
    std::thread::scope(|scope| {
        let died = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let submitted = runtime.block_on(submit(&backend, work));
            runtime.shutdown_timeout(Duration::from_secs(5));
            submitted
        });
        died.join().expect("the submitting thread does not panic")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn h04_a_pulled_image_runs_and_its_digest_is_known() -> Result<()> {
    require!(Root, Docker, Podman);
    use qwex_runner::backend::Backend as _;
    for which in BOTH {
        let registry = Registry::start().await?;
        let (_engine, mut bench) = which.empty().await?;
        bench.image = registry.image("public");
        let (submission, end) = bench.run(bench.shell("exit 3")).await?;
        assert_eq!(end.exit_code, Some(3), "{end:?}");
        let digest = bench
            .backend
            .details(&submission.handle)
            .await?
            .image_digest
            .unwrap();
        assert!(digest.contains("public@sha256:"), "{digest}");
        let mut always = bench.work(&["true"]);
        always.spec.pull_policy = Some(qwex_core::spec::PullPolicy::Always);
        assert_eq!(bench.run(always).await?.1.status, RunStatus::Succeeded);
    }
    Ok(())
}

/// The login comes from the user's own file, and stays there.
#[tokio::test(flavor = "multi_thread")]
async fn h04_a_private_image_is_pulled_with_the_users_own_login() -> Result<()> {
    require!(Root, Docker, Podman);
    let registry = Registry::start_private().await?;
    for which in BOTH {
        let (_engine, mut bench) = which.empty().await?;
        fails_with(&bench, registry.image("app"), "log in with").await?;
        let logins = tempfile::tempdir()?;
        let login = serde_json::json!({ "auths": { registry.addr.to_string(): { "auth": LOGIN } } });
        std::fs::write(logins.path().join("config.json"), login.to_string())?;
        bench.config.docker_config = Some(logins.path().to_owned());
        bench.backend = bench.another();
        bench.image = registry.image("app");
        let submission = bench.submit(bench.shell("exit 3")).await?;
        let end = wait_for_end(&bench.backend, &submission).await?;
        assert_eq!(end.exit_code, Some(3), "{which:?} {end:?}");
        for file in std::fs::read_dir(bench.state.path())? {
            let text = std::fs::read_to_string(file?.path())?;
            assert!(!text.contains(LOGIN) && !text.contains("password"), "{text}");
        }
    }
    Ok(())
}

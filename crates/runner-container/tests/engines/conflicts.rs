//! One container per attempt, whatever happens around its creation.

use std::sync::atomic::Ordering;

use anyhow::Result;
use qwex_core::{FailureCode, RunStatus};
use qwex_runner::{Runner as _, RunnerError};
use qwex_testbed::require;

use crate::fake_engine::LossyProxy;
use crate::support::{BOTH, cancel, code, handle_of, in_workspace, until_state, wait_for_end};

#[tokio::test(flavor = "multi_thread")]
async fn h03_a_lost_answer_makes_no_second_container() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        for words in ["/containers/create", "/start"] {
            let mut bench = which.bench().await;
            let proxy = LossyProxy::before(&which.address().await, words)?;
            bench.config.address = Some(proxy.host());
            bench.backend = bench.another();
            let dir = tempfile::tempdir()?;
            let work = in_workspace(bench.shell("echo once >> starts"), dir.path());
            let submitted = match bench.submit(work.clone()).await {
                Ok(submitted) => submitted,
                Err(error) => {
                    let error = error.downcast::<RunnerError>()?;
                    assert!(error.is_retryable(), "{which:?} {words}: {error}");
                    bench.submit(work.clone()).await?
                }
            };
            assert_eq!(proxy.lost.load(Ordering::SeqCst).min(1), 1, "an answer was lost");
            let end = wait_for_end(&bench.backend, &submitted).await?;
            assert_eq!(end.status, RunStatus::Succeeded, "{which:?} {words}: {end:?}");
            assert_eq!(
                std::fs::read_to_string(dir.path().join("starts"))?,
                "once\n",
                "{which:?} {words}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h03_a_strangers_container_is_left_alone() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let work = bench.work(&["true"]);
        let name = work.object_name();
        which
            .client(&["run", "-d", "--name", &name, &bench.image, "sleep", "600"])
            .await?;
        let refused = bench.backend.submit(&work).await.unwrap_err();
        assert!(matches!(refused, RunnerError::NameConflict { .. }), "{refused}");
        cancel(&bench.backend, &handle_of(&bench.backend, &work)).await;
        let running = which
            .client(&["inspect", "-f", "{{.State.Running}}", &name])
            .await?;
        assert_eq!(running.trim(), "true", "{which:?}: a cancel does not touch it");
        which.client(&["rm", "-f", &name]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h03_a_name_that_is_being_freed_is_waited_for() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let work = bench.shell("exit 3");
        let name = work.object_name();
        // A container of that name comes and goes while we submit: conflict or success, and in the end success.
        let comes_and_goes = async {
            for _ in 0..3 {
                if which
                    .client(&["create", "--name", &name, &bench.image, "true"])
                    .await
                    .is_err()
                {
                    break;
                }
                which.client(&["rm", "-f", &name]).await.unwrap();
            }
        };
        let submits = async {
            loop {
                match bench.submit(work.clone()).await {
                    Ok(submission) => return submission,
                    Err(error) => {
                        let error = error.downcast::<RunnerError>().unwrap();
                        let fits = matches!(error, RunnerError::NameConflict { .. }) || error.is_retryable();
                        assert!(fits, "{which:?}: {error}");
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let ((), submission) = tokio::join!(comes_and_goes, submits);
        let end = wait_for_end(&bench.backend, &submission).await?;
        assert_eq!(end.exit_code, Some(3), "{which:?}");
    }
    Ok(())
}

/// A name is never used again: the attempt's command may have run.
#[tokio::test(flavor = "multi_thread")]
async fn h03_a_container_that_somebody_removed_is_not_made_again() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let submission = bench.submit(bench.work(&["sleep", "600"])).await?;
        until_state(&bench.backend, &submission, "a start", |state| {
            state.started_at.is_some()
        })
        .await;
        which
            .client(&["rm", "-f", &submission.handle.backend.object])
            .await?;
        let again = bench.backend.submit(&submission.work).await?;
        assert!(again.adopted);
        let end = wait_for_end(&bench.backend, &submission).await?;
        assert_eq!(
            code(&end),
            Some(FailureCode::DeletedExternally),
            "{which:?} {end:?}"
        );
        let left = which.client(&["ps", "-a", "--format", "{{.Names}}"]).await?;
        assert!(!left.contains(&submission.handle.backend.object), "{left}");
    }
    Ok(())
}

/// Who lost the state directory, or never had it, finds the container by its name and knows it by its labels.
#[tokio::test(flavor = "multi_thread")]
async fn h03_a_container_of_the_same_run_and_spec_is_adopted() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let first = which.bench().await;
        let dir = tempfile::tempdir()?;
        let work = in_workspace(first.shell("echo once >> starts; exit 3"), dir.path());
        let (submission, _) = first.run(work.clone()).await?;

        let second = which.bench().await;
        let mut other = work.clone();
        other.spec.command = vec!["true".to_owned()];
        let refused = second.backend.submit(&other).await.unwrap_err();
        assert!(matches!(refused, RunnerError::NameConflict { .. }), "{refused}");

        let found = second.backend.submit(&work).await?;
        assert!(found.adopted, "{which:?}");
        assert_eq!(found.backend, submission.handle.backend, "{which:?}");
        let end = wait_for_end(&second.backend, &submission).await?;
        assert_eq!(end.exit_code, Some(3), "{which:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join("starts"))?, "once\n");
    }
    Ok(())
}

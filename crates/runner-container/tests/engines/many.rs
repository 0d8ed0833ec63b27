//! Many short runs, one after another's heels: no end is missed and none is mixed up.

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use qwex_core::RunStatus;
use qwex_runner::backend::Backend as _;
use qwex_testbed::require;

use crate::support::{Which, log, wait_for_end};

/// Runs that are under way at the same time.
const AT_ONCE: usize = 8;

async fn every_end_is_right(which: Which, runs: u32) -> Result<()> {
    let bench = &which.bench().await;
    let run = |number: u32| async move {
        let exit = number % 4;
        let work = match exit {
            0 => bench.work(&["true"]),
            _ => bench.shell(&format!("echo {number}; exit {exit}")),
        };
        let submission = bench.submit(work).await?;
        let mut config = bench.config.clone();
        config.only = Some(submission.work.run_id);
        let keeper = qwex_runner_container::ContainerBackend::open(config)?;
        let end = wait_for_end(&keeper, &submission).await?;
        assert_eq!(end.exit_code, i32::try_from(exit).ok(), "run {number}: {end:?}");
        assert_eq!(
            end.status == RunStatus::Succeeded,
            exit == 0,
            "run {number}: {end:?}"
        );
        let said = log(&keeper, &submission.handle, "stdout").await?;
        let wanted = if exit == 0 {
            String::new()
        } else {
            format!("{number}\n")
        };
        assert_eq!(String::from_utf8_lossy(&said), wanted);
        keeper.remove(&submission.handle).await?;
        anyhow::Ok(())
    };
    stream::iter(0..runs)
        .map(run)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let left = which.client(&["ps", "-a", "--format", "{{.Names}}"]).await?;
    let records = std::fs::read_dir(bench.state.path())?.count();
    assert_eq!(records, 0, "records are left; containers: {left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn h01_every_one_of_200_short_runs_ends_as_it_did_on_docker() -> Result<()> {
    require!(Root, Docker);
    every_end_is_right(Which::Docker, 200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn h01_every_one_of_60_short_runs_ends_as_it_did_on_podman() -> Result<()> {
    require!(Root, Podman);
    every_end_is_right(Which::Podman, 60).await
}

//! What a container used is told after its end, by whoever watched it, from files of this machine or from the engine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qwex_core::{RunStatus, Usage};
use qwex_runner::backend::Backend as _;
use qwex_runner::{Runner as _, Work};
use qwex_runner_container::ContainerBackend;
use qwex_testbed::{require, wait};
use tokio::net::{TcpListener, UnixStream};

use crate::support::{BOTH, Bench, LIMIT, Which, submit, wait_for_end};

/// What the shell keeps in its memory.
const KEPT: u64 = 24 << 20;

/// Holds memory and turns until a file appears, then ends.
fn busy(bench: &Bench, dir: &std::path::Path) -> Work {
    let script = format!("x=$(head -c {KEPT} /dev/zero | tr '\\0' x); while [ ! -e stop ]; do :; done");
    crate::support::in_workspace(bench.shell(&script), dir)
}

/// Runs it until the one who watches has measured it with its memory full.
async fn used(bench: &Bench, watching: &ContainerBackend) -> Result<Option<Usage>> {
    let dir = tempfile::tempdir()?;
    let submission = submit(&bench.backend, busy(bench, dir.path())).await?;
    let ending = async {
        let measured = || async {
            let details = watching.details(&submission.handle).await;
            let usage = details.map_err(|error| error.to_string())?.usage;
            let is_full = usage.as_ref().and_then(|usage| usage.max_memory_bytes) >= Some(KEPT);
            is_full.then_some(()).ok_or_else(|| format!("{usage:?}"))
        };
        wait::until_ok(LIMIT, "the container to be measured", measured).await?;
        std::fs::write(dir.path().join("stop"), "")?;
        anyhow::Ok(())
    };
    let (end, ended) = tokio::join!(wait_for_end(watching, &submission), ending);
    ended?;
    ensure!(end?.status == RunStatus::Succeeded);
    Ok(watching.details(&submission.handle).await?.usage)
}

fn is_that_of_busy(usage: &Usage, at_least: Duration) -> Result<()> {
    let (cpu, memory) = (usage.cpu_ms, usage.max_memory_bytes);
    let least = u64::try_from(at_least.as_millis())?;
    ensure!(
        cpu.is_some_and(|cpu| (least..600_000).contains(&cpu)),
        "{usage:?}"
    );
    ensure!(
        memory.is_some_and(|memory| (KEPT..16 * KEPT).contains(&memory)),
        "{usage:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_used_is_told_by_whoever_watched_it() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let usage = used(&bench, &bench.backend).await?;
        is_that_of_busy(&usage.context("not told")?, Duration::from_millis(50))?;
        // The one who submitted is of no use to the one who watches.
        let keeper = bench.another();
        let usage = used(&bench, &keeper).await?;
        is_that_of_busy(
            &usage.context("not told by a new keeper")?,
            Duration::from_millis(50),
        )?;
    }
    Ok(())
}

/// An engine of another machine, by all that can be told from here.
async fn far_away(which: Which) -> Result<String> {
    let socket = which.address().await.trim_start_matches("unix://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("tcp://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(mut far) = UnixStream::connect(socket).await {
                    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
                }
            });
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_another_machine_is_asked() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let near = which.bench().await;
        let far = which.bench_at(&far_away(which).await?, &near.image);
        let script = format!(
            "x=$(head -c {KEPT} /dev/zero | tr '\\0' x); i=$(date +%s); while [ $(date +%s) -lt $((i+5)) ]; do :; done"
        );
        let (submission, end) = far.run(far.shell(&script)).await?;
        ensure!(end.status == RunStatus::Succeeded, "{which:?} {end:?}");
        let usage = far.backend.details(&submission.handle).await?.usage;
        is_that_of_busy(&usage.context("not told")?, Duration::from_millis(50))?;
        far.backend.release(&submission.handle).await?;
        ensure!(far.backend.details(&submission.handle).await?.usage.is_none());
    }
    Ok(())
}

/// Without a sample nothing is made up, and a part is not told alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_measured_is_not_told() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        let bench = which.bench().await;
        let (submission, _) = bench.run(bench.work(&["true"])).await?;
        let late = bench.another().details(&submission.handle).await?;
        ensure!(late.usage.is_none() && late.image_digest.is_some(), "{late:?}");
        if let Some(usage) = bench.backend.details(&submission.handle).await?.usage {
            ensure!(
                usage.cpu_ms.is_some() && usage.max_memory_bytes.is_some(),
                "{usage:?}"
            );
        }
    }
    Ok(())
}

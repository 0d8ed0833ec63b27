//! An engine whose clock is minutes ahead or behind ends no run early or late, and tells no cancel as a timeout.

use anyhow::Result;
use jiff::SignedDuration;
use qwex_core::{FailureCode, RunStatus, Span};
use qwex_runner::backend::Backend as _;
use qwex_runner::conformance::fold;
use qwex_testbed::require;

use crate::skewed_engine::SkewedEngine;
use crate::support::{BOTH, Bench, LIMIT, Which, cancel, code, submit, until_state, wait_for_end};

/// More than any test waits.
const MINUTES: [i64; 2] = [-30, 30];
const TIMEOUT: i64 = 3;

async fn skewed(which: Which, minutes: i64) -> Result<(SkewedEngine, Bench)> {
    let image = which.bench().await.image;
    let engine = SkewedEngine::start(&which.address().await, minutes)?;
    let bench = which.bench_at(&engine.host(), &image);
    let skew = bench
        .backend
        .probe()
        .await?
        .skew
        .expect("an engine tells the time");
    let left = skew.ahead - SignedDuration::from_mins(minutes);
    assert!(left.abs() < SignedDuration::from_mins(5), "{skew:?}");
    Ok((engine, bench))
}

/// The one who submitted is gone, and whoever watches only looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_comes_in_time_whatever_the_engine_s_clock_says() -> Result<()> {
    require!(Root, Docker, Podman);
    let cases = BOTH
        .iter()
        .flat_map(|which| MINUTES.map(|minutes| (*which, minutes)));
    let runs = cases.map(|(which, minutes)| async move {
        let (_engine, bench) = skewed(which, minutes).await?;
        let mut work = bench.work(&["sleep", "1000"]);
        work.spec.timeout = Some(Span::from_secs(TIMEOUT.unsigned_abs()));
        let client = bench.another();
        let submission = submit(&client, work).await?;
        drop(client);
        let end = wait_for_end(&bench.backend, &submission).await?;
        assert_eq!(
            code(&end),
            Some(FailureCode::Timeout),
            "{which:?} {minutes} {end:?}"
        );
        let (from, to) = (end.started_at.unwrap(), end.finished_at.unwrap());
        let ran = to.duration_since(from);
        assert!(
            ran >= SignedDuration::from_secs(TIMEOUT),
            "{which:?} {minutes} {end:?}"
        );
        anyhow::Ok(())
    });
    futures::future::try_join_all(runs).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_before_the_timeout_is_a_cancel_whatever_the_engine_s_clock_says() -> Result<()> {
    require!(Root, Docker, Podman);
    for which in BOTH {
        for minutes in MINUTES {
            let (_engine, bench) = skewed(which, minutes).await?;
            let mut work = bench.work(&["sleep", "1000"]);
            work.spec.timeout = Some(Span::from_secs(2 * LIMIT.as_secs()));
            let submission = bench.submit(work).await?;
            until_state(&bench.backend, &submission, "a start", |state| {
                state.started_at.is_some()
            })
            .await;
            cancel(&bench.backend, &submission.handle).await;
            let asked = fold(submission.state(), &[submission.cancel_request()]);
            let end = qwex_runner::wait(&bench.backend, &submission.handle, asked).await?;
            assert_eq!(end.status, RunStatus::Cancelled, "{which:?} {minutes} {end:?}");
        }
    }
    Ok(())
}

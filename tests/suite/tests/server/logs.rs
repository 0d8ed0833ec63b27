//! Logs under faults: pods that go at any moment, runs that are over before anyone looks.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::AsyncReadExt;
use futures::future::try_join_all;
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};
use qwex_core::{LogVerdict, Run, RunStatus};
use qwex_suite::{Api, Server};
use qwex_testbed::{require, wait};

use crate::support::{Bed, LIMIT, shell};

/// Lines of a run of D01; written slowly enough to be deleted in between.
const LINES: usize = 200;

fn expected() -> String {
    (0..LINES).map(|line| format!("line {line}\n")).collect()
}

/// What the container wrote, as another reader of the kubelet saw it: a lower bound of the truth.
async fn witness(bed: &Bed, pod: &str) -> Vec<u8> {
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut seen = Vec::new();
    if let Ok(stream) = bed.pods().log_stream(pod, &follow).await {
        // A stream that is cut has shown what it has shown.
        std::pin::pin!(stream).read_to_end(&mut seen).await.ok();
    }
    seen
}

/// Deletes the pod once the archive shows so many lines, and compares what is left with what a witness saw.
async fn deleted_at(bed: &Bed, line: Option<usize>) -> Result<Run> {
    let api = &bed.server.api;
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); [ $((i%20)) != 0 ] || sleep 0.2; done"
    );
    let run = api.submit(&shell(&script)).await?;
    let started = |pod: &k8s_openapi::api::core::v1::Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        line.is_none() || phase != Some("Pending")
    };
    let pod = bed.pod(run.id, "there to be deleted", started).await?.name_any();
    let delete = async {
        if let Some(line) = line {
            let mark = format!("line {line}\n");
            let shown = || async {
                let log = api.log(run.id).await.ok()?;
                String::from_utf8_lossy(&log).contains(&mark).then_some(())
            };
            wait::until(LIMIT, &format!("line {line} to be archived"), shown).await?;
        }
        let options = DeleteParams::default().grace_period(0);
        bed.pods().delete(&pod, &options).await?;
        anyhow::Ok(())
    };
    let (deleted, seen) = tokio::join!(delete, witness(bed, &pod));
    deleted?;
    let run = api.until_sealed(run.id, LIMIT).await?;
    let log = api.log(run.id).await?;
    let logs = run.logs.clone().expect("it is sealed");
    let whole = expected();
    ensure!(
        whole.as_bytes().starts_with(&log),
        "not what the command wrote: {}",
        String::from_utf8_lossy(&log)
    );
    ensure!(
        logs.verdict != LogVerdict::Complete || log.len() >= seen.len(),
        "called complete with {} bytes, and a witness saw {}: {run:#?}",
        log.len(),
        seen.len()
    );
    ensure!(
        run.status != RunStatus::Succeeded
            || logs.verdict != LogVerdict::Complete
            || log.len() == whole.len(),
        "a run that ended well is called complete with {} bytes",
        log.len()
    );
    Ok(run)
}

#[tokio::test]
async fn d01_a_pod_deleted_at_any_moment_leaves_a_log_that_is_whole_or_labelled() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let moments = [None, Some(0), Some(100), Some(LINES - 1)];
    let runs = try_join_all(moments.map(|moment| deleted_at(&bed, moment))).await?;
    assert_ne!(
        runs[0].status,
        RunStatus::Succeeded,
        "its pod was deleted before it could: {:#?}",
        runs[0]
    );
    bed.settle().await
}

/// Submits so many runs of one `echo`, and finds every byte of each.
async fn echoes(api: &Api, count: usize) -> Result<()> {
    let one = async |number: usize| {
        let run = api.submit(&shell(&format!("echo whole {number}"))).await?;
        let run = api.until_sealed(run.id, LIMIT).await?;
        ensure!(run.status == RunStatus::Succeeded, "{run:#?}");
        let verdict = run.logs.as_ref().map(|logs| logs.verdict);
        ensure!(verdict == Some(LogVerdict::Complete), "{run:#?}");
        let log = api.log(run.id).await?;
        ensure!(log == format!("whole {number}\n"), "run {} says {log:?}", run.id);
        Ok(())
    };
    try_join_all((0..count).map(one)).await?;
    Ok(())
}

#[tokio::test]
async fn d03_runs_of_a_moment_keep_their_whole_logs() -> Result<()> {
    require!(Postgres);
    let server = Server::start().await?;
    echoes(&server.api, 60).await?;
    server.settle(&[]).await
}

#[tokio::test]
async fn d03_pods_of_a_moment_keep_their_whole_logs() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    echoes(&bed.server.api, 20).await?;
    bed.settle().await
}

/// What a cancelled run still says belongs to its log.
#[tokio::test]
async fn d02_a_cancelled_run_keeps_its_last_words() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let script = "trap 'i=0; while [ $i -lt 500 ]; do echo last $i; i=$((i+1)); done; exit 0' TERM; echo first; while :; do sleep 0.1; done";
    let run = api.submit(&shell(script)).await?;
    let said = || async { (!api.log(run.id).await.ok()?.is_empty()).then_some(()) };
    wait::until(LIMIT, "the first word", said).await?;
    api.post(&format!("/v1/runs/{}/cancel", run.id), &serde_json::json!({}))
        .await?
        .expect(202)?;
    let run = api.until_sealed(run.id, LIMIT + Duration::from_secs(30)).await?;
    assert_eq!(run.status, RunStatus::Cancelled, "{run:#?}");
    let last: String = (0..500).map(|word| format!("last {word}\n")).collect();
    let log = api.log(run.id).await?;
    let verdict = run.logs.expect("it is sealed").verdict;
    assert!(
        log == format!("first\n{last}") || verdict == LogVerdict::Gap,
        "{verdict} with {} bytes",
        log.len()
    );
    bed.settle().await
}

//! What becomes of a run when its objects do not do as they should: deleted, killed, never started.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams, WatchEvent, WatchParams};
use qwex_core::{PendingCode, RunStatus};
use qwex_testbed::require;
use serde_json::json;

use crate::support::{Bed, LIMIT, UNTIL_STOPPED, failure, over, running, shell};

#[tokio::test]
async fn c04_jobs_deleted_while_the_server_was_away_are_noticed() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let mut bed = Bed::alpha().await?;
    let api = bed.server.api.clone();
    let deleted = api.submit(&shell(UNTIL_STOPPED)).await?.id;
    let ends = api.submit(&shell(UNTIL_STOPPED)).await?.id;
    for id in [deleted, ends] {
        api.until(id, LIMIT, "running", running).await?;
    }
    bed.server.terminate(Duration::from_secs(25)).await?;
    bed.delete_job(deleted).await?;
    bed.server.start_again().await?;
    let run = api.until_sealed(deleted, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Failed, "{run:#?}");
    assert_eq!(failure(&run), "deleted_externally");
    // Its neighbour was only not looked at.
    let run = api.run(ends).await?;
    assert_eq!(run.status, RunStatus::Running, "{run:#?}");
    api.post(&format!("/v1/runs/{ends}/cancel"), &json!({}))
        .await?
        .expect(202)?;
    let run = api.until_sealed(ends, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Cancelled);
    bed.settle().await
}

#[tokio::test]
async fn c09_deleted_job_ends_deleted_externally() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let run = api.submit(&shell(UNTIL_STOPPED)).await?;
    api.until(run.id, LIMIT, "running", running).await?;
    bed.delete_job(run.id).await?;
    let run = api.until_sealed(run.id, LIMIT).await?;
    assert_eq!(
        (run.status, failure(&run)),
        (RunStatus::Failed, "deleted_externally"),
        "{run:#?}"
    );
    // The last known facts stay.
    assert!(run.started_at.is_some() && run.backend.is_some(), "{run:#?}");
    assert!(b"before\n".starts_with(&api.log(run.id).await?));
    bed.settle().await
}

#[tokio::test]
async fn c11_a_pod_deleted_right_after_its_end_does_not_change_the_end() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let pods = bed.pods();
    let mut events = pods.watch(&WatchParams::default(), "0").await?.boxed();
    let run = api.submit(&shell("echo done")).await?;
    let ended = async {
        while let Some(event) = events.next().await {
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event?
                && pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
            {
                return Ok(pod.name_any());
            }
        }
        anyhow::bail!("the watch ended")
    };
    let pod = tokio::time::timeout(LIMIT, ended).await??;
    // Gone before we came is as good as gone.
    pods.delete(&pod, &DeleteParams::default().grace_period(0))
        .await
        .ok();
    let run = api.until_sealed(run.id, LIMIT).await?;
    assert_eq!(
        (run.status, run.exit_code.unwrap_or(0)),
        (RunStatus::Succeeded, 0),
        "{run:#?}"
    );
    let log = api.log(run.id).await?;
    let whole = run
        .logs
        .is_some_and(|logs| logs.verdict == qwex_core::LogVerdict::Complete);
    assert!(
        log == "done\n" || (log.is_empty() && !whole),
        "{log:?}, whole: {whole}"
    );
    bed.settle().await
}

#[tokio::test]
async fn c13_killed_for_memory_is_told_from_an_exit_code_137() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let mut hog = shell("tail /dev/zero");
    hog["resources"] = json!({ "memory": "32Mi" });
    let hog = api.submit(&hog).await?.id;
    let chosen = api.submit(&shell("exit 137")).await?.id;
    let hog = api.until_sealed(hog, LIMIT).await?;
    assert_eq!((failure(&hog), hog.exit_code), ("oom", Some(137)), "{hog:#?}");
    let message = hog.failure.unwrap().message;
    assert!(message.contains("32Mi"), "{message}");
    let chosen = api.until_sealed(chosen, LIMIT).await?;
    assert_eq!(
        (failure(&chosen), chosen.exit_code),
        ("exit_code", Some(137)),
        "{chosen:#?}"
    );
    bed.settle().await
}

#[tokio::test]
async fn c14_an_image_that_cannot_be_had_is_told_and_a_hopeless_one_fails() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let mut unreachable = shell("true");
    unreachable["image"] = json!("127.0.0.1:1/absent:1");
    let mut absent = unreachable.clone();
    absent["pull_policy"] = json!("never");
    let unreachable = api.submit(&unreachable).await?.id;
    let absent = api.submit(&absent).await?.id;
    let waits = api.until(unreachable, LIMIT, "told why it waits", |run| {
        let pending = run.pending.as_ref();
        pending.is_some_and(|why| why.code == PendingCode::Image && why.message.contains("ImagePull"))
    });
    let message = waits.await?.pending.unwrap().message;
    assert!(message.contains("127.0.0.1:1/absent:1"), "{message}");
    let run = api.until(absent, LIMIT, "over", over).await?;
    assert_eq!(
        (run.status, failure(&run)),
        (RunStatus::Failed, "image"),
        "{run:#?}"
    );
    // The one that waits can still be taken back.
    api.post(&format!("/v1/runs/{unreachable}/cancel"), &json!({}))
        .await?
        .expect(202)?;
    let run = api.until_sealed(unreachable, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Cancelled);
    bed.settle().await
}

/// The kubelet gives the container that it never made an exit code of 137.
#[tokio::test]
async fn c14_cancelled_while_its_image_is_pulled_a_run_has_no_exit_code() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    // One registry refuses, another takes the question and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let images = [
        ("127.0.0.1:1".to_owned(), "ImagePull"),
        (silent.local_addr()?.to_string(), "makes the container"),
    ];
    for (registry, told) in images {
        let mut body = shell("true");
        body["image"] = json!(format!("{registry}/absent:1"));
        let id = api.submit(&body).await?.id;
        let waits = api.until(id, LIMIT, "waiting for its image", |run| {
            let pending = run.pending.as_ref();
            pending.is_some_and(|why| why.code == PendingCode::Image && why.message.contains(told))
        });
        waits.await?;
        api.post(&format!("/v1/runs/{id}/cancel"), &json!({}))
            .await?
            .expect(202)?;
        let run = api.until_sealed(id, LIMIT).await?;
        assert_eq!(
            (run.status, run.exit_code),
            (RunStatus::Cancelled, None),
            "{run:#?}"
        );
        assert_eq!(run.started_at, None, "{run:#?}");
        let attempts = api.get(&format!("/v1/runs/{id}/attempts")).await?.expect(200)?;
        let attempts = attempts.json();
        assert_eq!(attempts["items"][0]["episodes"], json!([]), "{attempts}");
    }
    bed.settle().await
}

/// By the timer of the cluster; what the command said before and while it was stopped is kept.
#[tokio::test]
async fn c21_a_run_that_takes_too_long_ends_by_its_timeout_with_its_whole_log() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let script = "trap 'echo stopped; exit 0' TERM; echo begun; while :; do sleep 0.1; done";
    let mut body = shell(script);
    body["timeout"] = json!("3s");
    let id = api.submit(&body).await?.id;
    let run = api.until_sealed(id, LIMIT).await?;
    assert_eq!(
        (run.status, failure(&run)),
        (RunStatus::Failed, "timeout"),
        "{run:#?}"
    );
    let message = run.failure.clone().map(|failure| failure.message);
    assert!(message.is_some_and(|told| told.contains("3s")), "{run:#?}");
    assert_ne!(run.exit_code, Some(0), "{run:#?}");
    assert_eq!(api.log(id).await?, "begun\nstopped\n");
    let verdict = run.logs.map(|logs| logs.verdict);
    assert_eq!(verdict, Some(qwex_core::LogVerdict::Complete));
    bed.settle().await
}

/// It ends with 0 when it is told to stop, which must not pass for success.
#[tokio::test]
async fn c12_an_evicted_pod_is_told_as_evicted() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let run = api.submit(&shell(UNTIL_STOPPED)).await?;
    api.until(run.id, LIMIT, "running", running).await?;
    let pod = bed.pod(run.id, "there", |_| true).await?.name_any();
    bed.pods().evict(&pod, &EvictParams::default()).await?;
    let run = api.until_sealed(run.id, LIMIT).await?;
    assert_eq!(
        (run.status, failure(&run)),
        (RunStatus::Failed, "evicted"),
        "{run:#?}"
    );
    bed.settle().await
}

//! Stopping: done only on proof, and never somebody else's object.

use anyhow::Result;
use kube::api::DeleteParams;
use qwex_core::{Ending, Fact};
use qwex_runner::{CancelProgress, Handle, Runner as _, Watcher as _};
use qwex_testbed::{require, shared, wait};

use crate::rig::{LIMIT, Rig, shell};

async fn cancelled(rig: &Rig, handle: &Handle) -> Result<()> {
    let probe = || async {
        match rig.backend.cancel(handle).await {
            Ok(CancelProgress::Stopped) => Ok(()),
            Ok(CancelProgress::Stopping { message }) => Err(message),
            Err(error) => Err(error.to_string()),
        }
    };
    Ok(wait::until_ok(LIMIT, "the cancel", probe).await?)
}

#[tokio::test]
async fn a12_cancel_at_any_moment_leaves_no_pod() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let mut handles = Vec::new();
    // Some are cancelled before their pod exists, some after: both cancel the moment the create answers.
    for _ in 0..10 {
        let work = shell("true");
        let handle = rig.simulate(&work, &[("ending", "never")]).await?;
        rig.backend.cancel(&handle).await?;
        handles.push((work, handle));
    }
    for (work, handle) in &handles {
        cancelled(&rig, handle).await?;
        assert_eq!(rig.pods_of(work).await?.len(), 0);
        assert_eq!(
            rig.backend.cancel(handle).await?,
            CancelProgress::Stopped,
            "again"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a12_a_cancel_without_uid_finds_the_job_by_name_and_labels() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let work = shell("true");
    rig.simulate(&work, &[("ending", "never")]).await?;
    let mut blind = rig.handle(&work, None);
    cancelled(&rig, &blind).await?;
    assert!(rig.jobs().get_opt(&work.object_name()).await?.is_none());

    let work = shell("true");
    rig.simulate(&work, &[("ending", "never")]).await?;
    blind = rig.handle(&work, None);
    blind.backend.namespace = None;
    cancelled(&rig, &blind).await?;
    assert!(rig.jobs().get_opt(&work.object_name()).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a13_a_cancel_after_the_end_changes_nothing() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let work = shell("true");
    let handle = rig.simulate(&work, &[]).await?;
    listener.ending(&work).await?;
    assert_eq!(rig.backend.cancel(&handle).await?, CancelProgress::Stopped);
    let facts = rig.backend.observe(&handle).await?;
    let succeeded = Ending::Succeeded { verified: true };
    let is_end = |fact: &Fact| matches!(fact, Fact::Ended { ending, .. } if *ending == succeeded);
    assert!(
        facts.iter().any(|seen| is_end(&seen.fact)),
        "the evidence stays: {facts:?}"
    );
    assert_eq!(
        listener
            .facts(work.run_id)
            .iter()
            .filter(|fact| is_end(fact))
            .count(),
        1
    );
    Ok(())
}

#[tokio::test]
async fn a14_what_was_never_pinned_is_never_gone() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let unsent = rig.handle(&shell("true"), None);
    assert_eq!(rig.backend.observe(&unsent).await?, []);
    Ok(())
}

#[tokio::test]
async fn c06_an_object_with_another_uid_is_never_touched() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let work = shell("true");
    let first = rig.simulate(&work, &[("ending", "never")]).await?;
    listener.running(&work).await?;
    rig.jobs()
        .delete(&work.object_name(), &DeleteParams::background())
        .await?;
    wait::until(LIMIT, "the first Job gone", || async {
        let gone = rig.jobs().get_opt(&work.object_name()).await.ok()?.is_none();
        gone.then_some(())
    })
    .await?;
    let second = rig.simulate(&work, &[("ending", "never")]).await?;
    assert_ne!(first.backend.uid, second.backend.uid);

    cancelled(&rig, &first).await?;
    rig.backend.release(&first).await?;
    let kept = rig.jobs().get(&work.object_name()).await?;
    assert!(kept.metadata.deletion_timestamp.is_none());
    assert_eq!(kept.spec.and_then(|spec| spec.ttl_seconds_after_finished), None);
    let facts = rig.backend.observe(&first).await?;
    assert!(matches!(facts[0].fact, Fact::Gone { .. }), "{facts:?}");

    // The pods of the second Job bear the same labels and keep running.
    let pods = rig.pods_of(&work).await?;
    assert!(pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()) && !pods.is_empty());
    Ok(())
}

#[tokio::test]
async fn d02_a_cancelled_run_tells_its_exit_code_and_keeps_its_last_words() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell(
        "trap 'i=0; while [ $i -lt 1000 ]; do echo bye $i; i=$((i+1)); done; exit 7' TERM; echo hello; while :; do sleep 0.1; done",
    );
    let handle = rig.submit(&work).await?;
    listener.running(&work).await?;
    let source = listener.log_of(&work).await?;
    let reader = async { rig.whole_log(&source).await };
    let canceller = async {
        wait::until(LIMIT, "its first word", || async {
            let mut log = crate::rig::Log::default();
            log.read_on(&rig.backend, &source, false).await.ok()?;
            (log.text() == "hello\n").then_some(())
        })
        .await?;
        cancelled(&rig, &handle).await
    };
    let (log, done) = tokio::join!(reader, canceller);
    done?;
    let log = log?;
    let expected: String = (0..1000).map(|n| format!("bye {n}\n")).collect();
    assert_eq!(log.text(), format!("hello\n{expected}"));
    assert_eq!(log.gaps, Vec::<String>::new());
    let ending = listener.ending(&work).await?;
    assert!(
        matches!(
            ending,
            Ending::Stopped {
                exit_code: Some(7),
                ..
            }
        ),
        "{ending:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_released_job_gets_its_ttl_only_then() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let work = shell("true");
    let handle = rig.simulate(&work, &[]).await?;
    listener.ending(&work).await?;
    let ttl = || async {
        let job = rig.jobs().get(&work.object_name()).await?;
        anyhow::Ok(job.spec.and_then(|spec| spec.ttl_seconds_after_finished))
    };
    assert_eq!(ttl().await?, None);
    rig.backend.release(&handle).await?;
    assert_eq!(ttl().await?, Some(3600));
    rig.backend.release(&handle).await?;
    rig.jobs()
        .delete(&work.object_name(), &DeleteParams::background())
        .await?;
    rig.backend.release(&handle).await?;
    Ok(())
}

//! How attempts wait and end, as real API servers and a real kubelet tell it.

use anyhow::Result;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use qwex_core::{Ending, Fact, FailureCode, PendingCode, Span};
use qwex_runner::Runner as _;
use qwex_testbed::{require, shared};
use serde_json::json;

use crate::rig::{Log, Rig, phase, shell, work};

#[tokio::test]
async fn an_exit_code_is_told_with_its_episode() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let good = shell("true");
    let bad = shell("exit 3");
    rig.submit(&good).await?;
    rig.submit(&bad).await?;
    assert_eq!(
        listener.ending(&good).await?,
        Ending::Succeeded { verified: true }
    );
    let failure = listener.failure(&bad).await?;
    assert_eq!(
        (failure.code, failure.exit_code, failure.signal),
        (FailureCode::ExitCode, Some(3), None)
    );
    let facts = listener.facts(bad.run_id);
    let end = facts.iter().find_map(|fact| match fact {
        Fact::EpisodeEnded { end, .. } => Some(end.clone()),
        _ => None,
    });
    let end = end.expect("the episode ended");
    assert_eq!((end.exit_code, end.reason.as_deref()), (Some(3), Some("Error")));
    assert!(end.started_at.is_some() && end.ended_at >= end.started_at);
    assert!(
        facts
            .iter()
            .any(|fact| matches!(fact, Fact::EpisodeStarted { node: Some(node), .. } if node == "localhost"))
    );
    Ok(())
}

#[tokio::test]
async fn the_container_gets_the_very_words_of_the_spec() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let mut work = work(&["printf", "%s|", "$$", "$(QWEX_RUN_ID)", "$HOME", "a b", "'", "\n"]);
    work.spec
        .env
        .insert("PRICE".to_owned(), "$(QWEX_ATTEMPT) $$5".to_owned());
    let echo = {
        let mut other = shell("printf '%s' \"$PRICE $QWEX_RUN_ID $QWEX_ATTEMPT $(id -u) $PWD\"");
        other.spec.env.clone_from(&work.spec.env);
        other.spec.working_dir = Some("/tmp".to_owned());
        other
    };
    rig.submit(&work).await?;
    rig.submit(&echo).await?;
    listener.ending(&work).await?;
    listener.ending(&echo).await?;
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), "$$|$(QWEX_RUN_ID)|$HOME|a b|'|\n|");
    let log = rig.whole_log(&listener.log_of(&echo).await?).await?;
    assert_eq!(
        log.text(),
        format!("$(QWEX_ATTEMPT) $$5 {} 1 65532 /tmp", echo.run_id)
    );
    Ok(())
}

#[tokio::test]
async fn c09_a_job_deleted_in_each_phase_is_told() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    listener.listed().await?;
    let unscheduled = {
        let mut work = shell("true");
        work.spec.resources.cpu = Some("1000".to_owned());
        work
    };
    rig.simulate(&unscheduled, &[]).await?;
    listener
        .waiting(&unscheduled, PendingCode::Scheduling, "Insufficient cpu")
        .await?;
    let running = shell("true");
    rig.simulate(&running, &[("ending", "never")]).await?;
    listener.running(&running).await?;
    let unseen = shell("true");
    rig.create(&unseen, |job| {
        if let Some(spec) = job.spec.as_mut() {
            spec.suspend = Some(true);
        }
    })
    .await?;
    listener.waiting(&unseen, PendingCode::Admission, "").await?;
    for work in [&unscheduled, &running, &unseen] {
        rig.jobs()
            .delete(&work.object_name(), &DeleteParams::background())
            .await?;
    }
    for work in [&unscheduled, &running, &unseen] {
        let ending = listener.ending(work).await?;
        assert!(
            matches!(&ending, Ending::Stopped { message, .. } if message.contains("was deleted")),
            "{ending:?}"
        );
    }
    let facts = listener.facts(running.run_id);
    assert!(
        facts.iter().any(|fact| matches!(fact, Fact::EpisodeEnded { .. })),
        "{facts:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn c09_a_deleted_namespace_takes_its_runs_along() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell("trap 'echo bye; exit 4' TERM; echo hello; while :; do sleep 0.1; done");
    let handle = rig.submit(&work).await?;
    listener.running(&work).await?;
    let source = listener.log_of(&work).await?;
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(rig.client.clone());
    let delete = async {
        let mut log = Log::default();
        while log.bytes.is_empty() {
            log.read_on(&rig.backend, &source, false).await?;
        }
        namespaces
            .delete(&rig.namespace, &DeleteParams::default())
            .await?;
        anyhow::Ok(())
    };
    let (log, deleted) = tokio::join!(rig.whole_log(&source), delete);
    deleted?;
    assert_eq!(log?.text(), "hello\nbye\n");
    let ending = listener.ending(&work).await?;
    assert!(
        matches!(
            &ending,
            Ending::Stopped {
                exit_code: Some(4),
                ..
            }
        ),
        "{ending:?}"
    );
    qwex_testbed::wait::until(crate::rig::LIMIT, "the proof that it is gone", || async {
        let facts = qwex_runner::Watcher::observe(&rig.backend, &handle).await.ok()?;
        matches!(facts[0].fact, Fact::Gone { .. }).then_some(())
    })
    .await?;
    assert_eq!(
        rig.backend.cancel(&handle).await?,
        qwex_runner::CancelProgress::Stopped
    );
    Ok(())
}

#[tokio::test]
async fn c10_a_pod_deleted_while_it_runs_is_no_failure_of_the_command() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell("trap 'exit 9' TERM; while :; do sleep 0.1; done");
    rig.submit(&work).await?;
    listener.running(&work).await?;
    let pod = rig.running_pod(&work).await?;
    let name = pod.metadata.name.unwrap_or_default();
    rig.pods().delete(&name, &DeleteParams::default()).await?;
    let ending = listener.ending(&work).await?;
    assert!(
        matches!(&ending, Ending::Stopped { message, exit_code: Some(9), .. } if message.contains(&name)),
        "{ending:?}"
    );
    Ok(())
}

#[tokio::test]
async fn c11_a_pod_removed_right_after_its_end_changes_nothing() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    listener.listed().await?;
    let work = shell("true");
    let handle = rig
        .simulate(&work, &[("exit-code", "4"), ("run-for", "300ms")])
        .await?;
    let pod = rig
        .pod_that(&work, "an ended pod", |pod| phase(pod) == "Failed")
        .await?;
    rig.pods()
        .delete(
            pod.metadata.name.as_deref().unwrap_or_default(),
            &DeleteParams::default().grace_period(0),
        )
        .await?;
    let failure = listener.failure(&work).await?;
    assert_eq!(
        (failure.code, failure.exit_code),
        (FailureCode::ExitCode, Some(4))
    );

    // A fresh backend that never saw the pod says less, but never the opposite.
    qwex_testbed::wait::until(crate::rig::LIMIT, "the pod gone", || async {
        rig.pods_of(&work).await.ok()?.is_empty().then_some(())
    })
    .await?;
    let facts = qwex_runner::Watcher::observe(&rig.backend, &handle).await?;
    let ended = facts.iter().find_map(|seen| match &seen.fact {
        Fact::Ended {
            ending: Ending::Failed { failure },
            ..
        } => Some(failure.code),
        _ => None,
    });
    assert_eq!(ended, Some(FailureCode::Lost), "{facts:?}");

    let good = shell("true");
    let handle = rig.simulate(&good, &[("run-for", "300ms")]).await?;
    assert_eq!(
        listener.ending(&good).await?,
        Ending::Succeeded { verified: true }
    );
    rig.pods()
        .delete_collection(&DeleteParams::default().grace_period(0), &Default::default())
        .await?;
    qwex_testbed::wait::until(crate::rig::LIMIT, "the pod gone", || async {
        rig.pods_of(&good).await.ok()?.is_empty().then_some(())
    })
    .await?;
    let facts = qwex_runner::Watcher::observe(&rig.backend, &handle).await?;
    assert!(
        facts.iter().any(|seen| matches!(
            seen.fact,
            Fact::Ended {
                ending: Ending::Succeeded { verified: false },
                ..
            }
        )),
        "{facts:?}"
    );
    Ok(())
}

#[tokio::test]
async fn c12_the_eviction_api_is_told_apart() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let work = shell("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    rig.submit(&work).await?;
    listener.running(&work).await?;
    let pod = rig.running_pod(&work).await?;
    let name = pod.metadata.name.unwrap_or_default();
    rig.pods().evict(&name, &EvictParams::default()).await?;
    let failure = listener.failure(&work).await?;
    assert_eq!(failure.code, FailureCode::Evicted, "{failure:?}");
    assert!(failure.message.contains("EvictionByEvictionAPI"), "{failure:?}");
    Ok(())
}

#[tokio::test]
async fn c12_kubelet_eviction_and_preemption_are_told_apart() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let evicted = shell("true");
    rig.simulate(
        &evicted,
        &[
            ("ending", "evicted"),
            ("message", "The node was low on resource: memory."),
        ],
    )
    .await?;
    let preempted = shell("true");
    rig.simulate(&preempted, &[("ending", "preempted")]).await?;
    let failure = listener.failure(&evicted).await?;
    assert_eq!(failure.code, FailureCode::Evicted);
    assert!(failure.message.contains("low on resource: memory"), "{failure:?}");
    let failure = listener.failure(&preempted).await?;
    assert_eq!(failure.code, FailureCode::Preempted, "{failure:?}");
    Ok(())
}

#[tokio::test]
async fn c12_the_schedulers_own_preemption() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let class: k8s_openapi::api::scheduling::v1::PriorityClass = serde_json::from_value(json!({
        "metadata": { "name": rig.namespace }, "value": 1000,
    }))?;
    kube::Api::all(rig.client.clone())
        .create(&PostParams::default(), &class)
        .await?;
    // GPUs: only one node has them, and no other test asks for all eight.
    let mut low = shell("true");
    low.spec.resources.gpu = Some(8);
    rig.simulate(&low, &[("ending", "never")]).await?;
    listener.running(&low).await?;
    let mut high = shell("true");
    high.spec.resources.gpu = Some(8);
    let priority = rig.namespace.clone();
    rig.create(&high, |job| {
        let pod = job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
        if let Some(pod) = pod {
            pod.priority_class_name = Some(priority);
        }
    })
    .await?;
    let failure = listener.failure(&low).await?;
    assert_eq!(failure.code, FailureCode::Preempted, "{failure:?}");
    assert!(failure.message.contains("PreemptionByScheduler"), "{failure:?}");
    assert_eq!(
        listener.ending(&high).await?,
        Ending::Succeeded { verified: true }
    );
    Ok(())
}

#[tokio::test]
async fn c13_out_of_memory_is_not_exit_137() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let mut hog = shell("exec tail /dev/zero");
    hog.spec.resources.memory = Some("32Mi".to_owned());
    let own = shell("exit 137");
    let killed = shell("kill -9 $$; sleep 60");
    for work in [&hog, &own, &killed] {
        rig.submit(work).await?;
    }
    let failure = listener.failure(&hog).await?;
    assert_eq!(
        (failure.code, failure.exit_code, failure.signal),
        (FailureCode::Oom, Some(137), Some(9)),
        "{failure:?}"
    );
    assert!(failure.message.contains("limit 32Mi"), "{failure:?}");
    let failure = listener.failure(&own).await?;
    assert_eq!(
        (failure.code, failure.exit_code, failure.signal),
        (FailureCode::ExitCode, Some(137), None)
    );
    assert!(failure.message.contains("signal 9"), "{failure:?}");
    Ok(())
}

#[tokio::test]
async fn c14_a_bad_image_is_told_and_fails_by_its_deadline() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let mut absent = shell("true");
    absent.spec.image = Some("127.0.0.1:1/absent:1".to_owned());
    let mut nonsense = shell("true");
    nonsense.spec.image = Some("UPPER//case::x".to_owned());
    let handle = rig.submit(&absent).await?;
    rig.submit(&nonsense).await?;
    listener
        .waiting(&absent, PendingCode::Image, "127.0.0.1:1/absent:1")
        .await?;
    listener
        .waiting(&absent, PendingCode::Image, "connection refused")
        .await?;
    let failure = listener.failure(&nonsense).await?;
    assert_eq!(failure.code, FailureCode::Image, "{failure:?}");
    assert!(failure.message.contains("InvalidImageName"), "{failure:?}");
    let failure = listener.failure(&absent).await?;
    assert_eq!(failure.code, FailureCode::Image, "{failure:?}");
    // The Job itself never fails: taking it away is the caller's.
    let job = rig.jobs().get(&absent.object_name()).await?;
    let conditions = job
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    assert!(conditions.is_empty(), "{conditions:?}");
    rig.backend.cancel(&handle).await?;
    Ok(())
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_a_start_error() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let unknown = work(&["/no/such/program"]);
    let mut secret = shell("true");
    secret
        .spec
        .secrets
        .insert("TOKEN".to_owned(), "no-such-secret".to_owned());
    rig.submit(&unknown).await?;
    rig.submit(&secret).await?;
    let failure = listener.failure(&unknown).await?;
    assert_eq!(failure.code, FailureCode::StartError, "{failure:?}");
    assert!(failure.message.contains("/no/such/program"), "{failure:?}");
    listener
        .waiting(&secret, PendingCode::Starting, "no-such-secret")
        .await?;
    let failure = listener.failure(&secret).await?;
    assert_eq!(failure.code, FailureCode::StartError, "{failure:?}");
    let facts = listener.facts(unknown.run_id);
    assert!(
        !facts
            .iter()
            .any(|fact| matches!(fact, Fact::EpisodeStarted { .. })),
        "it never ran: {facts:?}"
    );
    Ok(())
}

#[tokio::test]
async fn c15_what_keeps_pods_away_is_told() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let quota = json!({ "metadata": { "name": "no-pods" }, "spec": { "hard": { "pods": "0" } } });
    let quotas: kube::Api<k8s_openapi::api::core::v1::ResourceQuota> =
        kube::Api::namespaced(rig.client.clone(), &rig.namespace);
    quotas
        .create(&PostParams::default(), &serde_json::from_value(quota)?)
        .await?;
    qwex_testbed::wait::until(crate::rig::LIMIT, "the quota in force", || async {
        let quota = quotas.get("no-pods").await.ok()?;
        quota.status?.hard.map(|_| ())
    })
    .await?;
    let blocked = shell("true");
    rig.submit(&blocked).await?;
    listener
        .waiting(&blocked, PendingCode::Scheduling, "exceeded quota: no-pods")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_timeout_is_a_timeout() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let listener = rig.listen();
    let mut slow = shell("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    slow.spec.timeout = Some(Span::from_secs(3));
    rig.submit(&slow).await?;
    let failure = listener.failure(&slow).await?;
    assert_eq!(failure.code, FailureCode::Timeout, "{failure:?}");
    assert!(failure.message.contains("timeout of 3s"), "{failure:?}");
    Ok(())
}

#[tokio::test]
async fn c19_a_pod_that_a_finalizer_keeps_holds_nothing_up() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let work = shell("true");
    let handle = rig
        .create(&work, |job| {
            let meta = job.spec.as_mut().and_then(|spec| spec.template.metadata.as_mut());
            if let Some(meta) = meta {
                meta.finalizers = Some(vec!["example.com/stuck".to_owned()]);
            }
        })
        .await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    rig.jobs()
        .delete(&work.object_name(), &DeleteParams::background())
        .await?;
    let stopped = || async {
        matches!(
            rig.backend.cancel(&handle).await,
            Ok(qwex_runner::CancelProgress::Stopped)
        )
        .then_some(())
    };
    qwex_testbed::wait::until(crate::rig::LIMIT, "the cancel", stopped).await?;
    for pod in rig.pods_of(&work).await? {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        let name = pod.metadata.name.unwrap_or_default();
        rig.pods().patch(&name, &PatchParams::default(), &free).await?;
    }
    Ok(())
}

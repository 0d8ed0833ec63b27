//! Runs in a queue, as Kueue (or its stand-in) tells of them.

use anyhow::Result;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use qwex_core::{Ending, Fact, PendingCode, PriorityClass, QueueName};
use qwex_runner::backend::Backend;
use qwex_runner::{Runner as _, RunnerError, Watcher as _, Work};
use qwex_runner_k8s::Word;
use qwex_testbed::{require, shared, wait};
use serde_json::{Value, json};

use crate::rig::{LIMIT, Rig, shell};

/// A namespace with the LocalQueue `main` of one CPU.
async fn bed() -> Result<Rig> {
    let beta = shared::beta().await?;
    let rig = Rig::at(
        &shared::queued().await?,
        beta.client().await?,
        beta.namespace("queue").await?,
    )
    .await?;
    furnish(&rig).await?;
    Ok(rig)
}

/// The same with the user's own rights, as the backend `kueue`.
async fn own_bed() -> Result<Rig> {
    shared::queued().await?;
    let rig = Rig::direct(shared::beta().await?, |config| config.word = Word::Kueue).await?;
    furnish(&rig).await?;
    Ok(rig)
}

/// The LocalQueue `main` of one CPU and a GiB of memory in the namespace of a rig.
pub async fn furnish(rig: &Rig) -> Result<()> {
    let name = rig.namespace.clone();
    create(
        rig,
        "ResourceFlavor",
        "resourceflavors",
        json!({ "metadata": { "name": name }, "spec": {} }),
    )
    .await?;
    let quota = json!([{ "name": "cpu", "nominalQuota": "1" }, { "name": "memory", "nominalQuota": "1Gi" }]);
    let flavor = json!({ "name": name, "resources": quota });
    let spec = json!({
        "namespaceSelector": {},
        "resourceGroups": [{ "coveredResources": ["cpu", "memory"], "flavors": [flavor] }],
    });
    create(
        rig,
        "ClusterQueue",
        "clusterqueues",
        json!({ "metadata": { "name": name }, "spec": spec }),
    )
    .await?;
    let local =
        json!({ "metadata": { "name": "main", "namespace": name }, "spec": { "clusterQueue": name } });
    create(rig, "LocalQueue", "localqueues", local).await
}

pub fn api(rig: &Rig, kind: &str, plural: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("kueue.x-k8s.io", "v1beta2", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    match kind {
        "LocalQueue" | "Workload" => Api::namespaced_with(rig.client.clone(), &rig.namespace, &resource),
        _ => Api::all_with(rig.client.clone(), &resource),
    }
}

async fn create(rig: &Rig, kind: &str, plural: &str, mut object: Value) -> Result<()> {
    object["apiVersion"] = json!("kueue.x-k8s.io/v1beta2");
    object["kind"] = json!(kind);
    api(rig, kind, plural)
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

fn queued(queue: &str) -> Work {
    let mut work = shell("true");
    work.spec.queue = QueueName::new(queue).ok();
    work.spec.resources.cpu = Some("1".to_owned());
    work
}

#[tokio::test]
async fn a_full_queue_is_told_and_passed() -> Result<()> {
    require!(Go);
    let rig = bed().await?;
    let listener = rig.listen();
    let (first, second) = (queued("main"), queued("main"));
    rig.simulate(&first, &[("run-for", "4s")]).await?;
    let round = listener.running(&first).await?;
    assert!(round > 0, "a Job that was suspended has a round");
    rig.submit(&second).await?;
    let message = listener
        .waiting(
            &second,
            PendingCode::Admission,
            "insufficient unused quota for cpu",
        )
        .await?;
    assert!(
        message.contains("queue main; waiting for 1 more cpu ("),
        "{message}"
    );
    assert_eq!(
        listener.ending(&first).await?,
        Ending::Succeeded { verified: true }
    );
    assert_eq!(
        listener.ending(&second).await?,
        Ending::Succeeded { verified: true }
    );
    Ok(())
}

#[tokio::test]
async fn the_place_in_the_queue_is_told_and_moves_up() -> Result<()> {
    require!(Go);
    let rig = own_bed().await?;
    let listener = rig.listen();
    let (first, second) = (queued("main"), queued("main"));
    rig.simulate(&first, &[("run-for", "6s")]).await?;
    listener.running(&first).await?;
    rig.simulate(&second, &[("run-for", "8s")]).await?;
    listener
        .waiting(&second, PendingCode::Admission, "position 1 of 1 in queue main")
        .await?;
    // Of a namespace with one queue, that one is meant.
    let mut third = queued("main");
    third.spec.queue = None;
    // Not the same as the second: Kueue says no reason of its own for what it does not try.
    third.spec.resources.cpu = Some("900m".to_owned());
    let handle = rig.submit(&third).await?;
    let message = listener
        .waiting(&third, PendingCode::Admission, "position 2 of 2 in queue main")
        .await?;
    assert!(message.contains("; waiting for 900m more cpu ("), "{message}");
    let seen = rig.backend.observe(&handle).await?;
    let told = seen.iter().any(|seen| {
        matches!(&seen.fact, Fact::Waiting { code: PendingCode::Admission, message, .. } if message.contains("in queue main"))
    });
    assert!(told, "{seen:#?}");
    listener
        .waiting(&third, PendingCode::Admission, "position 1 of 1 in queue main")
        .await?;
    assert_eq!(
        listener.ending(&third).await?,
        Ending::Succeeded { verified: true }
    );
    Ok(())
}

#[tokio::test]
async fn c22_a_missing_queue_is_told() -> Result<()> {
    require!(Go);
    let rig = bed().await?;
    let listener = rig.listen();
    let lost = queued("typo");
    rig.submit(&lost).await?;
    let message = listener.waiting(&lost, PendingCode::Admission, "typo").await?;
    assert!(message.contains("queue typo"), "{message}");
    Ok(())
}

#[tokio::test]
async fn c24_an_eviction_is_a_new_round_and_a_new_episode() -> Result<()> {
    require!(Go);
    evict(bed().await?).await
}

#[tokio::test]
async fn c24_an_eviction_is_a_new_episode_without_a_server_too() -> Result<()> {
    require!(Go);
    evict(own_bed().await?).await
}

/// Rounds are told apart by seconds.
async fn after(round: u64) -> Result<()> {
    let next = || async {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).ok()?;
        (now > round).then_some(())
    };
    Ok(wait::until(LIMIT, "the next second", next).await?)
}

async fn evict(rig: Rig) -> Result<()> {
    let listener = rig.listen();
    let work = queued("main");
    rig.simulate(&work, &[("run-for", "5s")]).await?;
    let first = listener.running(&work).await?;
    after(first).await?;
    let queues = api(&rig, "ClusterQueue", "clusterqueues");
    let policy = |policy: &str| Patch::Merge(json!({ "spec": { "stopPolicy": policy } }));
    queues
        .patch(&rig.namespace, &PatchParams::default(), &policy("HoldAndDrain"))
        .await?;
    let waits_again = listener.fact(&work, "it waits again", |fact| match fact {
        Fact::Waiting {
            code: PendingCode::Admission,
            round,
            ..
        } if *round > first => Some(*round),
        _ => None,
    });
    let second = waits_again.await?;
    queues
        .patch(&rig.namespace, &PatchParams::default(), &policy("None"))
        .await?;
    let third = listener
        .fact(&work, "it runs again", |fact| match fact {
            Fact::Running { round } if *round >= second => Some(*round),
            _ => None,
        })
        .await?;
    assert!(third >= second && second > first);
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let facts = listener.facts(work.run_id);
    let episodes = facts
        .iter()
        .filter(|fact| matches!(fact, Fact::EpisodeStarted { .. }))
        .count();
    assert_eq!(episodes, 2, "{facts:#?}");
    Ok(())
}

/// A class of that value, named as the namespace of the rig.
async fn class(rig: &Rig, value: i32) -> Result<PriorityClass> {
    let object = json!({ "metadata": { "name": rig.namespace }, "value": value });
    create(rig, "WorkloadPriorityClass", "workloadpriorityclasses", object).await?;
    Ok(PriorityClass::new(rig.namespace.clone())?)
}

#[tokio::test]
async fn c24_a_run_of_a_higher_class_preempts_one_of_a_lower_which_comes_again() -> Result<()> {
    require!(Go);
    let rig = own_bed().await?;
    let preemption = json!({ "spec": { "preemption": { "withinClusterQueue": "LowerPriority" } } });
    api(&rig, "ClusterQueue", "clusterqueues")
        .patch(&rig.namespace, &PatchParams::default(), &Patch::Merge(preemption))
        .await?;
    let high = class(&rig, 100).await?;
    let listener = rig.listen();
    let lower = queued("main");
    rig.simulate(&lower, &[("run-for", "20s")]).await?;
    let round = listener.running(&lower).await?;
    after(round).await?;
    let mut higher = queued("main");
    higher.spec.priority_class = Some(high);
    rig.submit(&higher).await?;
    let message = listener
        .waiting(
            &lower,
            PendingCode::Admission,
            "Preempted to accommodate a workload",
        )
        .await?;
    assert!(message.contains("queue main"), "{message}");
    for work in [&higher, &lower] {
        assert_eq!(listener.ending(work).await?, Ending::Succeeded { verified: true });
    }
    let started = |fact: &Fact| matches!(fact, Fact::EpisodeStarted { .. });
    let episodes = |work: &Work| {
        listener
            .facts(work.run_id)
            .iter()
            .filter(|fact| started(fact))
            .count()
    };
    assert_eq!((episodes(&higher), episodes(&lower)), (1, 2));
    Ok(())
}

#[tokio::test]
async fn a_priority_class_that_leads_nowhere_is_refused_before_anything_is_made() -> Result<()> {
    require!(Go);
    let rig = own_bed().await?;
    let mut work = queued("main");
    work.spec.priority_class = PriorityClass::new("no-such-class").ok();
    let error = rig.backend.submit(&work).await.expect_err("no such class");
    assert!(
        matches!(&error, RunnerError::Rejected { message } if message.contains("has no priority class no-such-class")),
        "{error:?}"
    );
    let plain = Rig::direct(shared::beta().await?, |_| {}).await?;
    work.spec.queue = None;
    let problems = Backend::validate(&plain.backend, &work.spec);
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/priority_class"], "{problems:?}");
    let error = plain.backend.submit(&work).await.expect_err("no queue");
    assert!(matches!(error, RunnerError::Unsupported { .. }), "{error:?}");
    assert_eq!(plain.jobs().list(&Default::default()).await?.items, []);
    assert_eq!(rig.jobs().list(&Default::default()).await?.items, []);
    Ok(())
}

#[tokio::test]
async fn a_queue_without_kueue_is_refused() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::on(shared::alpha().await?).await?;
    let error = rig
        .backend
        .submit(&queued("main"))
        .await
        .expect_err("no Kueue on alpha");
    assert!(
        matches!(&error, RunnerError::Unsupported { message } if message.contains("no Kueue")),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn queues_are_found() -> Result<()> {
    require!(Go);
    let rig = bed().await?;
    let found = || async {
        let kueue = rig.backend.probe().await.ok()?.kueue?;
        kueue
            .queues
            .iter()
            .any(|queue| queue.name == "main" && queue.namespace == rig.namespace)
            .then_some(kueue.version)
    };
    assert_eq!(wait::until(LIMIT, "the queue", found).await?, "v1beta2");
    Ok(())
}

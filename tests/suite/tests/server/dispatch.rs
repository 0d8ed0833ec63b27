//! One object per attempt, whatever dies in between; and cancelling at every moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use qwex_core::{Run, RunId, RunStatus};
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::http_proxy::{Answer, HttpProxy, Rule, Verb};
use qwex_testbed::{images, require, shared, wait};
use serde_json::{Value, json};

use crate::support::{Bed, LIMIT, failure, object, only_job, over, running, shell, without_local};

/// Before beta, with a scripted proxy in between.
async fn behind_proxy() -> Result<(Bed, HttpProxy)> {
    let bed = Bed::prepare(shared::beta().await?, without_local()).await?;
    let proxy = HttpProxy::for_user(&bed.kubeconfig).await?;
    bed.register(&proxy.kubeconfig_text()?).await?;
    Ok((bed, proxy))
}

fn creating(answer: Answer) -> Rule {
    Rule::new(answer).verb(Verb::Create).resource("jobs").times(1)
}

async fn create_seen(proxy: &HttpProxy, carried_out: bool) -> Result<()> {
    proxy
        .wait_for(LIMIT, "a Job to be created", |entry| {
            entry.request.verb == Verb::Create
                && entry.request.resource == "jobs"
                && (!carried_out || entry.upstream == Some(201))
        })
        .await?;
    Ok(())
}

/// The run ended well, and exactly one Job was ever made for it.
async fn ended_well_once(bed: &Bed, id: RunId) -> Result<()> {
    let run = bed.server.api.until_sealed(id, LIMIT).await?;
    ensure!(run.status == RunStatus::Succeeded, "{run:#?}");
    ensure!(bed.jobs_made()? == 1, "{} Jobs were made", bed.jobs_made()?);
    let (uid, name) = only_job(bed).await?;
    ensure!(name == object(id));
    let backend = run.backend.as_ref().and_then(|backend| backend.uid.clone());
    ensure!(backend.is_some_and(|pinned| pinned.0 == uid), "{run:#?}");
    bed.settle().await
}

#[tokio::test]
async fn a05_killed_after_the_commit_and_before_the_create() -> Result<()> {
    require!(Go, Postgres);
    let (mut bed, proxy) = behind_proxy().await?;
    proxy.rule(creating(Answer::Hang));
    let run = bed.server.api.submit(&shell("true")).await?;
    create_seen(&proxy, false).await?;
    bed.server.kill().await?;
    bed.server.start_again().await?;
    ended_well_once(&bed, run.id).await
}

#[tokio::test]
async fn a06_killed_after_the_create_and_before_the_uid_is_known() -> Result<()> {
    require!(Go, Postgres);
    let (mut bed, proxy) = behind_proxy().await?;
    proxy.rule(creating(Answer::ApplyThen(Box::new(Answer::Hang))));
    let run = bed.server.api.submit(&shell("true")).await?;
    create_seen(&proxy, true).await?;
    bed.server.kill().await?;
    bed.server.start_again().await?;
    ended_well_once(&bed, run.id).await
}

#[tokio::test]
async fn a07_a_create_that_is_carried_out_and_answered_504_is_adopted() -> Result<()> {
    require!(Go, Postgres);
    let (bed, proxy) = behind_proxy().await?;
    proxy.rule(creating(Answer::apply_then_504()));
    let run = bed.server.api.submit(&shell("true")).await?;
    create_seen(&proxy, true).await?;
    ended_well_once(&bed, run.id).await
}

#[tokio::test]
async fn a08_a_stranger_of_the_same_name_is_a_name_conflict_and_left_alone() -> Result<()> {
    require!(Go, Postgres);
    let bed = Bed::beta().await?;
    let api = &bed.server.api;
    let id = RunId::mint();
    let template = json!({
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "theirs" }] },
    });
    let job = json!({
        "metadata": { "name": object(id), "labels": { "qwex.dev/run-id": RunId::mint().to_string() } },
        "spec": { "suspend": true, "template": template },
    });
    bed.jobs()
        .create(&PostParams::default(), &serde_json::from_value(job)?)
        .await?;
    // The Job controller writes its status once.
    let settled = || async {
        let job = bed.jobs().get(&object(id)).await.ok()?;
        job.status.as_ref()?.conditions.as_ref()?;
        job.resource_version()
    };
    let before = wait::until(LIMIT, "the impostor to be suspended", settled).await?;
    let mut body = shell("true");
    body["id"] = json!(id);
    let run = api.submit(&body).await?;
    let run = api.until(run.id, LIMIT, "over", over).await?;
    assert_eq!(
        (run.status, failure(&run)),
        (RunStatus::Failed, "name_conflict"),
        "{run:#?}"
    );
    bed.settle().await?;
    assert_eq!(
        bed.jobs().get(&object(id)).await?.resource_version(),
        Some(before)
    );
    Ok(())
}

/// A Job that bears every mark of ours but was made from another spec is seen by the watch before the dispatcher
/// meets it.
#[tokio::test]
async fn a08_a_forged_job_neither_pins_nor_ends_a_run() -> Result<()> {
    require!(Root, Containerd, Go, Postgres);
    let bed = Bed::alpha().await?;
    let api = &bed.server.api;
    let (same_name, other_name) = (RunId::mint(), RunId::mint());
    let forge = |id: RunId, name: String| {
        let labels = json!({
            "app.kubernetes.io/managed-by": "qwex", "qwex.dev/run-id": id.to_string(), "qwex.dev/attempt": "1",
        });
        let container = json!({
            "name": "main", "image": images::BUSYBOX, "command": ["sh", "-c", "echo forged"],
        });
        json!({
            "metadata": { "name": name, "labels": labels, "annotations": { "qwex.dev/spec-hash": "0".repeat(64) } },
            "spec": { "backoffLimit": 0, "template": {
                "metadata": { "labels": labels },
                "spec": { "restartPolicy": "Never", "containers": [container] },
            }},
        })
    };
    for (id, name) in [(same_name, object(same_name)), (other_name, "a-copy".to_owned())] {
        let job = serde_json::from_value(forge(id, name))?;
        bed.jobs().create(&PostParams::default(), &job).await?;
        bed.pod(id, "ended", |pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Succeeded")
        })
        .await?;
    }
    let complete = |name: String| {
        let jobs = bed.jobs();
        async move {
            wait::until(LIMIT, "the forgery to be complete", || async {
                let job = jobs.get(&name).await.ok()?;
                job.status.as_ref()?.completion_time.as_ref()?;
                job.resource_version()
            })
            .await
        }
    };
    let before = complete(object(same_name)).await?;
    let copy_before = complete("a-copy".to_owned()).await?;
    for id in [same_name, other_name] {
        let mut body = shell("echo ours");
        body["id"] = json!(id);
        api.submit(&body).await?;
    }
    let run = api.until(same_name, LIMIT, "over", over).await?;
    assert_eq!(
        (run.status, failure(&run)),
        (RunStatus::Failed, "name_conflict"),
        "{run:#?}"
    );
    assert_eq!(run.backend.and_then(|backend| backend.uid), None);
    assert_eq!(api.log(same_name).await?, "");
    // The copy has another name: the run gets its own Job.
    let run = api.until_sealed(other_name, LIMIT).await?;
    assert_eq!(
        (run.status, run.exit_code),
        (RunStatus::Succeeded, Some(0)),
        "{run:#?}"
    );
    assert_eq!(api.log(other_name).await?, "ours\n");
    bed.settle().await?;
    assert_eq!(complete(object(same_name)).await?, before, "untouched");
    assert_eq!(complete("a-copy".to_owned()).await?, copy_before, "untouched");
    let log = bed.server.log()?;
    for name in [object(same_name), "a-copy".to_owned()] {
        let told = |line: &&str| line.contains("claims to be ours") && line.contains(&name);
        ensure!(
            log.lines().any(|line| told(&line)),
            "{name} is not told in the log"
        );
    }
    Ok(())
}

async fn cancel(server: &Server, id: RunId) -> Result<Run> {
    let reply = server
        .api
        .post(&format!("/v1/runs/{id}/cancel"), &json!({}))
        .await?;
    Ok(serde_json::from_slice(&reply.expect(202)?.bytes)?)
}

#[tokio::test]
async fn a12_cancelled_between_the_job_and_its_pod() -> Result<()> {
    require!(Go, Postgres);
    let bed = Bed::beta().await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(bed.client.clone(), &bed.namespace);
    let none = json!({ "metadata": { "name": "no-pods" }, "spec": { "hard": { "pods": "0" } } });
    quotas
        .create(&PostParams::default(), &serde_json::from_value(none)?)
        .await?;
    let in_force = || async { quotas.get("no-pods").await.ok()?.status?.hard };
    wait::until(LIMIT, "the quota to be in force", in_force).await?;
    let run = bed.server.api.submit(&shell("true")).await?;
    let why = bed
        .server
        .api
        .until(run.id, LIMIT, "told that it has no pod", |run| {
            run.pending
                .as_ref()
                .is_some_and(|why| why.message.contains("exceeded quota"))
        });
    why.await?;
    cancel(&bed.server, run.id).await?;
    let run = bed.server.api.until_sealed(run.id, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Cancelled, "{run:#?}");
    // Nothing is left that could make a pod once there is room.
    assert!(bed.jobs().list(&ListParams::default()).await?.items.is_empty());
    quotas.delete("no-pods", &DeleteParams::default()).await?;
    bed.settle().await?;
    assert!(bed.pods().list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

async fn history(server: &Server, id: RunId) -> Result<Value> {
    let reply = server.api.get(&format!("/v1/runs/{id}/events")).await?;
    Ok(reply.expect(200)?.json())
}

#[tokio::test]
async fn a13_cancelled_before_dispatch_creates_nothing() -> Result<()> {
    require!(Go, Postgres);
    let bed = Bed::prepare(shared::beta().await?, without_local()).await?;
    let run = bed.server.api.submit(&shell("true")).await?;
    let (first, second) = tokio::try_join!(cancel(&bed.server, run.id), cancel(&bed.server, run.id))?;
    assert_eq!((first.id, second.id), (run.id, run.id));
    let run = bed.server.api.until(run.id, LIMIT, "over", over).await?;
    assert_eq!(run.status, RunStatus::Cancelled, "{run:#?}");
    // A cluster comes, and another run through it: the first one is not taken up again.
    bed.register(&bed.kubeconfig).await?;
    let other = bed.server.api.submit(&shell("true")).await?;
    ended_well_once(&bed, other.id).await
}

#[tokio::test]
async fn a13_cancelled_twice_and_after_the_end_changes_nothing() -> Result<()> {
    require!(Postgres);
    let server = Server::start().await?;
    let sleeper = server.api.submit(&shell("sleep 600")).await?.id;
    server.api.until(sleeper, LIMIT, "running", running).await?;
    tokio::try_join!(cancel(&server, sleeper), cancel(&server, sleeper))?;
    let run = server.api.until_sealed(sleeper, LIMIT).await?;
    assert_eq!(run.status, RunStatus::Cancelled, "{run:#?}");
    let quick = server.api.submit(&shell("echo quick")).await?.id;
    server.api.until_sealed(quick, LIMIT).await?;
    server.settle(&[]).await?;
    for (id, status) in [(sleeper, RunStatus::Cancelled), (quick, RunStatus::Succeeded)] {
        let before = (server.api.run(id).await?, history(&server, id).await?);
        let answer = cancel(&server, id).await?;
        assert_eq!(answer.status, status);
        assert_eq!((server.api.run(id).await?, history(&server, id).await?), before);
    }
    server.settle(&[]).await
}

/// A cancel that comes while the create hangs is not forgotten, and nothing of the run stays.
#[tokio::test]
async fn a12_cancelled_while_the_create_is_on_its_way() -> Result<()> {
    require!(Go, Postgres);
    let (bed, proxy) = behind_proxy().await?;
    proxy.rule(creating(Answer::Delay(Duration::from_secs(1))));
    let mut body = shell("true");
    body["name"] = json!("on-its-way");
    let run = bed.server.api.submit(&body).await?;
    create_seen(&proxy, false).await?;
    cancel(&bed.server, run.id).await?;
    let run = bed.server.api.until_sealed(run.id, LIMIT).await?;
    // Which was first is open; what is wrong is to be neither, or twice.
    assert!(
        [RunStatus::Cancelled, RunStatus::Succeeded].contains(&run.status),
        "{run:#?}"
    );
    assert!(bed.jobs_made()? <= 1);
    bed.settle().await
}

/// And no transaction of the server's is open while it waits (B04).
#[tokio::test]
async fn c27_a_cluster_that_hangs_holds_up_no_other() -> Result<()> {
    require!(Go, Postgres);
    let bed = Bed::prepare(shared::beta().await?, ServerSetup::default()).await?;
    let proxy = HttpProxy::for_user(&bed.kubeconfig).await?;
    bed.register(&proxy.kubeconfig_text()?).await?;
    proxy.rule(Rule::new(Answer::Hang).verb(Verb::Create).resource("jobs"));
    let api = &bed.server.api;
    let on = |cluster: &str| {
        let mut body = shell("true");
        body["cluster"] = json!(cluster);
        body
    };
    let (there, here) = (on(bed.cluster.name()), on("local"));
    let held = try_join_all((0..10).map(|_| api.submit(&there))).await?;
    create_seen(&proxy, false).await?;
    let free = try_join_all((0..10).map(|_| api.submit(&here))).await?;
    for run in free {
        let run = api.until_sealed(run.id, LIMIT).await?;
        assert_eq!(run.status, RunStatus::Succeeded, "{run:#?}");
    }
    let pool = sqlx::PgPool::connect(&bed.server.database_url).await?;
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND xact_start < now() - interval '2 seconds'",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(open, 0, "transactions are open across a call to a cluster");
    proxy.clear();
    for run in &held {
        let run = api.until_sealed(run.id, LIMIT).await?;
        assert_eq!(run.status, RunStatus::Succeeded, "{run:#?}");
    }
    assert_eq!(bed.jobs_made()?, held.len());
    bed.settle().await
}

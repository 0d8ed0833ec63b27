//! The watch itself: what breaks it, and that nothing is lost then.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, PostParams};
use qwex_core::{Ending, Fact};
use qwex_runner::{RunnerError, Sighting, WatchPosition, Watcher as _};
use qwex_testbed::cluster::{Cluster, Component};
use qwex_testbed::http_proxy::{Amount, Answer, Entry, HttpProxy, Rule, Verb};
use qwex_testbed::{require, shared, wait};
use serde_json::json;

use crate::rig::{LIMIT, Listener, Rig, config, shell};

fn lists(proxy: &HttpProxy) -> usize {
    proxy.count(is_list)
}

fn is_list(entry: &Entry) -> bool {
    entry.request.verb == Verb::List && entry.request.resource == "jobs"
}

#[tokio::test]
async fn c01_a_position_that_is_gone_means_a_full_list() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, beta).await?;
    let work = shell("true");
    rig.simulate(&work, &[("ending", "never")]).await?;
    let listener = rig.listen();
    listener.running(&work).await?;
    let before = lists(&proxy);
    proxy.rule(Rule::new(Answer::watch_error(410)).verb(Verb::Watch));
    drop(listener);
    // A listener that resumes meets the 410.
    let error = first_error(&rig, None).await;
    assert!(matches!(error, RunnerError::PositionGone { .. }), "{error:?}");
    proxy.clear();
    let listener = rig.listen();
    listener.listed().await?;
    assert!(lists(&proxy) > before);
    let told = listener.facts(work.run_id);
    assert!(
        told.iter().any(|fact| matches!(fact, Fact::Running { .. })),
        "a list tells all anew: {told:?}"
    );
    Ok(())
}

async fn first_error(rig: &Rig, from: Option<WatchPosition>) -> RunnerError {
    let mut stream = match rig.backend.watch(from).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error,
            None => {
                return RunnerError::Failed {
                    message: "ended without an error".to_owned(),
                };
            }
        }
    }
}

#[tokio::test]
async fn c02_every_error_ends_the_stream_and_none_the_watching() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let mut brisk = config(&proxy.kubeconfig_text()?, &beta.namespace("k8s").await?);
    // Short, so that the next watch meets the rule soon.
    brisk.tuning.watch_timeout = Duration::from_secs(1);
    let rig = Rig::with(brisk, beta.client().await?).await?;
    let listener = rig.listen();
    listener.listed().await?;
    for code in [400, 401, 403, 404, 410, 429, 500, 503, 504] {
        let before = listener.errors().len();
        proxy.rule(
            Rule::new(Answer::status(code))
                .verb(Verb::Watch)
                .resource("pods")
                .times(1),
        );
        proxy.rule(
            Rule::new(Answer::status(code))
                .verb(Verb::List)
                .resource("jobs")
                .times(1),
        );
        wait::until(LIMIT, "the error", || async {
            (listener.errors().len() > before).then_some(())
        })
        .await?;
        let work = shell("true");
        rig.simulate(&work, &[("run-for", "10ms")]).await?;
        assert_eq!(
            listener.ending(&work).await?,
            Ending::Succeeded { verified: true },
            "{code}"
        );
        proxy.clear();
    }
    Ok(())
}

#[tokio::test]
async fn c02_a_cut_watch_resumes_without_a_list() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, beta).await?;
    proxy.rule(
        Rule::new(Answer::Cut {
            after: Amount::Events(2),
            clean: false,
        })
        .verb(Verb::Watch)
        .times(40),
    );
    let listener = rig.listen();
    listener.listed().await?;
    let works: Vec<_> = (0..10).map(|_| shell("true")).collect();
    for work in &works {
        rig.simulate(work, &[("run-for", "50ms")]).await?;
    }
    for work in &works {
        assert_eq!(listener.ending(work).await?, Ending::Succeeded { verified: true });
        let ends = listener
            .facts(work.run_id)
            .into_iter()
            .filter(|fact| matches!(fact, Fact::Ended { .. }));
        assert_eq!(ends.count(), 1, "told once");
    }
    assert!(!listener.errors().is_empty(), "the watches were cut");
    assert_eq!(
        lists(&proxy),
        1,
        "resumed from positions: {:?}",
        listener.errors()
    );
    Ok(())
}

#[tokio::test]
async fn c03_a_deaf_watch_is_an_error_in_due_time() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let mut deaf = config(&proxy.kubeconfig_text()?, &beta.namespace("k8s").await?);
    deaf.tuning.watch_timeout = Duration::from_secs(1);
    deaf.tuning.call_deadline = Duration::from_secs(2);
    let rig = Rig::with(deaf, beta.client().await?).await?;
    proxy.rule(Rule::new(Answer::Hang).verb(Verb::Watch).times(3));
    let error = tokio::time::timeout(LIMIT, first_error(&rig, None)).await?;
    assert!(matches!(error, RunnerError::Unreachable { .. }), "{error:?}");
    proxy.clear();
    // With a healthy line the short watches come and go without an error.
    let listener = rig.listen();
    listener
        .sighting("life", |sighting| {
            matches!(sighting, Sighting::Alive).then_some(())
        })
        .await?;
    let work = shell("true");
    rig.simulate(&work, &[("run-for", "3s")]).await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    assert_eq!(listener.errors(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn c03_a_silent_line_is_noticed_and_nothing_is_lost_behind_it() -> Result<()> {
    require!(Go);
    let own = Cluster::beta("k8s-silent").await?;
    let mut impatient = config(own.kubeconfig(), &own.namespace("k8s").await?);
    impatient.tuning.watch_timeout = Duration::from_secs(2);
    impatient.tuning.call_deadline = Duration::from_secs(2);
    let rig = Rig::with(impatient, own.client().await?).await?;
    let listener = rig.listen();
    listener.listed().await?;
    let work = shell("true");
    rig.simulate(&work, &[("run-for", "3s")]).await?;
    listener.running(&work).await?;

    // Every connection stays open, and nothing comes any more.
    own.pause(Component::ApiServer)?;
    wait::until(LIMIT, "the silence to be noticed", || async {
        (!listener.errors().is_empty()).then_some(())
    })
    .await?;
    own.resume(Component::ApiServer)?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );

    // And the same with every connection cut.
    let work = shell("true");
    rig.simulate(&work, &[("run-for", "2s")]).await?;
    listener.running(&work).await?;
    own.restart_apiserver().await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let ends = listener.facts(work.run_id);
    assert!(
        !ends.iter().any(|fact| matches!(fact, Fact::Gone { .. })),
        "{ends:?}"
    );
    Ok(())
}

#[tokio::test]
async fn c08_another_kind_of_the_same_plural_changes_nothing() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": format!("jobs.{}.example.com", rig.namespace) },
        "spec": {
            "group": format!("{}.example.com", rig.namespace), "scope": "Namespaced",
            "names": { "plural": "jobs", "singular": "job", "kind": "Job" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    }))?;
    let crds: Api<CustomResourceDefinition> = Api::all(rig.client.clone());
    crds.create(&PostParams::default(), &crd).await?;
    let listener = rig.listen();
    let work = shell("true");
    rig.simulate(&work, &[]).await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    crds.delete(&crd.metadata.name.unwrap_or_default(), &DeleteParams::default())
        .await?;
    Ok(())
}

#[tokio::test]
async fn c04_what_was_deleted_meanwhile_is_missing_from_the_list() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let (kept, gone) = (shell("true"), shell("true"));
    let listener = rig.listen();
    rig.simulate(&kept, &[("ending", "never")]).await?;
    let handle = rig.simulate(&gone, &[("ending", "never")]).await?;
    listener.running(&kept).await?;
    listener.running(&gone).await?;
    let position = listener.position();
    drop(listener);
    rig.jobs()
        .delete(&gone.object_name(), &DeleteParams::background())
        .await?;
    wait::until(LIMIT, "the Job gone", || async {
        rig.jobs()
            .get_opt(&gone.object_name())
            .await
            .ok()?
            .is_none()
            .then_some(())
    })
    .await?;
    // Another process with the same position: it has no view, so it lists.
    let other = Rig::with(rig.backend.config().clone(), rig.client.clone()).await?;
    let listener = Listener::start(&other.backend, position);
    let listed = listener
        .sighting("a list", |sighting| match sighting {
            Sighting::Listed(objects) => Some(objects.clone()),
            _ => None,
        })
        .await?;
    let runs: Vec<_> = listed.iter().map(|object| object.run_id).collect();
    assert_eq!(runs, [kept.run_id]);
    let facts = other.backend.observe(&handle).await?;
    assert!(
        matches!(facts.as_slice(), [seen] if matches!(seen.fact, Fact::Gone { .. }) && seen.uid == handle.backend.uid),
        "{facts:?}"
    );
    Ok(())
}

#[tokio::test]
async fn d03_the_shortest_runs_are_seen_whole() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let listener = rig.listen();
    let works: Vec<_> = (0..50).map(|_| shell("true")).collect();
    for work in &works {
        rig.simulate(work, &[("start-after", "1ms"), ("run-for", "1ms")])
            .await?;
    }
    for work in &works {
        assert_eq!(listener.ending(work).await?, Ending::Succeeded { verified: true });
        let facts = listener.facts(work.run_id);
        let began = facts
            .iter()
            .filter(|fact| matches!(fact, Fact::EpisodeStarted { .. }))
            .count();
        let ended = facts
            .iter()
            .filter(|fact| matches!(fact, Fact::EpisodeEnded { .. }))
            .count();
        assert_eq!((began, ended), (1, 1), "{facts:?}");
    }
    Ok(())
}

#[tokio::test]
async fn law5_unreachable_is_never_gone() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, beta).await?;
    let work = shell("true");
    let handle = rig.simulate(&work, &[("ending", "never")]).await?;
    for code in [401, 403, 500, 502, 503, 504] {
        let rule = proxy.rule(Rule::new(Answer::status(code)));
        let answer = rig.backend.observe(&handle).await;
        assert!(answer.is_err(), "{code}: {answer:?}");
        proxy.remove(rule);
    }
    // A 404 of something that is no API server says nothing about the Job.
    let page = Answer::Raw {
        code: 404,
        body: "<html>not here</html>".into(),
    };
    proxy.rule(Rule::new(page));
    assert!(rig.backend.observe(&handle).await.is_err());
    Ok(())
}

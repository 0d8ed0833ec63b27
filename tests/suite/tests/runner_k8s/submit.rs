//! Handing over: one object per attempt, whatever happens on the way.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, PostParams};
use qwex_runner::{Runner as _, RunnerError};
use qwex_testbed::http_proxy::{Answer, HttpProxy, Rule, Verb};
use qwex_testbed::{require, shared};
use serde_json::json;

use crate::rig::{Rig, config, shell, tuning, work};

async fn count(rig: &Rig) -> Result<usize> {
    Ok(rig.jobs().list(&ListParams::default()).await?.items.len())
}

#[tokio::test]
async fn a06_a_second_submit_adopts_the_first() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let work = shell("true");
    let first = rig.backend.submit(&work).await?;
    let second = rig.backend.submit(&work).await?;
    assert!(!first.adopted && second.adopted);
    assert_eq!(first.backend, second.backend);
    assert!(first.backend.uid.is_some());
    assert_eq!(count(&rig).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a07_apply_then_504_converges_to_one_job() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, beta).await?;
    proxy.rule(
        Rule::new(Answer::apply_then_504())
            .verb(Verb::Create)
            .resource("jobs")
            .times(1),
    );
    let submitted = rig.backend.submit(&shell("true")).await?;
    assert!(submitted.adopted, "found by name after the ambiguous answer");
    assert_eq!(count(&rig).await?, 1);
    let creates = proxy.count(|entry| entry.request.verb == Verb::Create && entry.request.resource == "jobs");
    assert_eq!(creates, 1, "the client itself never repeats a create");
    Ok(())
}

#[tokio::test]
async fn a07_an_ambiguous_create_that_cannot_be_looked_up_is_retryable() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let rig = Rig::behind(&proxy, beta).await?;
    proxy.rule(
        Rule::new(Answer::ApplyThen(Box::new(Answer::HangUp)))
            .verb(Verb::Create)
            .resource("jobs")
            .times(1),
    );
    proxy.rule(
        Rule::new(Answer::status(503))
            .verb(Verb::Get)
            .resource("jobs")
            .times(1),
    );
    let work = shell("true");
    let error = rig.backend.submit(&work).await.expect_err("nobody answers");
    assert!(error.is_retryable() && error.is_blind(), "{error:?}");
    assert!(rig.backend.submit(&work).await?.adopted);
    assert_eq!(count(&rig).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a08_an_impostor_is_refused_and_left_alone() -> Result<()> {
    require!(Go);
    let rig = Rig::on(shared::beta().await?).await?;
    let other = |change: fn(&mut Job)| change;
    let cases = [
        (
            "did not make",
            other(|job| job.metadata.labels = Some([("app".to_owned(), "x".to_owned())].into())),
        ),
        (
            "another run",
            other(|job| {
                let labels = job.metadata.labels.as_mut();
                labels.and_then(|labels| labels.insert("qwex.dev/attempt".to_owned(), "2".to_owned()));
            }),
        ),
        ("another spec", other(|job| job.metadata.annotations = None)),
    ];
    for (words, change) in cases {
        let work = shell("true");
        rig.create(&work, change).await?;
        let before = rig.jobs().get(&work.object_name()).await?;
        let error = rig.backend.submit(&work).await.expect_err("not ours");
        assert!(
            matches!(&error, RunnerError::NameConflict { message, .. } if message.contains(words)),
            "{words}: {error:?}"
        );
        let after = rig.jobs().get(&work.object_name()).await?;
        assert_eq!(before.metadata.uid, after.metadata.uid);
        assert_eq!(before.spec, after.spec);
        assert_eq!(before.metadata.annotations, after.metadata.annotations);
    }
    Ok(())
}

#[tokio::test]
async fn a10_what_can_never_work_is_rejected_word_for_word() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let rig = Rig::on(beta).await?;
    let missing = Rig::with(config(beta.kubeconfig(), "no-such-namespace"), rig.client.clone()).await?;
    let error = missing
        .backend
        .submit(&shell("true"))
        .await
        .expect_err("no namespace");
    let words = r#"namespaces "no-such-namespace" not found"#;
    assert!(
        matches!(&error, RunnerError::Rejected { message } if message.starts_with(words) && message.contains("kubectl create namespace")),
        "{error:?}"
    );

    let mut invalid = shell("true");
    invalid.spec.working_dir = Some("/a:b".to_owned());
    invalid.spec.env.insert("BAD=NAME".to_owned(), String::new());
    let error = rig.backend.submit(&invalid).await.expect_err("invalid");
    assert!(
        matches!(&error, RunnerError::Rejected { message } if message.contains("env[0].name")),
        "{error:?}"
    );

    let quota = json!({ "metadata": { "name": "none" }, "spec": { "hard": { "count/jobs.batch": "0" } } });
    let quotas: kube::Api<k8s_openapi::api::core::v1::ResourceQuota> =
        kube::Api::namespaced(rig.client.clone(), &rig.namespace);
    quotas
        .create(&PostParams::default(), &serde_json::from_value(quota)?)
        .await?;
    let refused = || async {
        match rig.backend.submit(&work(&["true"])).await {
            Err(RunnerError::Rejected { message }) => Some(message),
            _ => None,
        }
    };
    let message = qwex_testbed::wait::until(crate::rig::LIMIT, "the quota", refused).await?;
    assert!(message.contains("exceeded quota: none"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a10_our_own_trouble_is_never_a_verdict() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let proxy = HttpProxy::for_user(beta.kubeconfig()).await?;
    let mut short = config(&proxy.kubeconfig_text()?, &beta.namespace("k8s").await?);
    short.tuning.call_deadline = Duration::from_millis(500);
    let rig = Rig::with(short, beta.client().await?).await?;
    let answers = [
        Answer::status(401),
        Answer::status(500),
        Answer::status(503),
        Answer::too_many_requests(Duration::from_secs(7)),
        Answer::HangUp,
        Answer::Hang,
    ];
    let work = shell("true");
    for answer in answers {
        let rule = proxy.rule(Rule::new(answer.clone()));
        let error = rig.backend.submit(&work).await.expect_err("no answer");
        assert!(error.is_retryable(), "{answer:?}: {error:?}");
        if let Answer::Status { code: 429, .. } = answer {
            assert!(
                matches!(error, RunnerError::Throttled { retry_after: Some(after), .. } if after.as_secs() == 7),
                "{error:?}"
            );
        }
        proxy.remove(rule);
    }
    rig.backend.submit(&work).await?;
    assert_eq!(count(&rig).await?, 1);
    Ok(())
}

#[tokio::test]
async fn f10_without_rights_it_is_our_credentials_that_are_refused() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let namespace = beta.namespace("k8s").await?;
    let nobody = beta.mint_user("nobody-k8s", &[])?;
    let mut config = config(&nobody, &namespace);
    config.tuning = tuning();
    let rig = Rig::with(config, beta.client().await?).await?;
    let error = rig.backend.submit(&shell("true")).await.expect_err("no right");
    assert!(
        matches!(&error, RunnerError::Unauthorized { message } if message.contains("cannot create resource")),
        "{error:?}"
    );
    Ok(())
}

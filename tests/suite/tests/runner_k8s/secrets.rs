//! Secrets out of the caller's own environment: in the command, in a Secret that goes with the run, and nowhere else.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, PostParams};
use qwex_core::Ending;
use qwex_runner::backend::Backend;
use qwex_runner::{Runner as _, RunnerError, Work};
use qwex_suite::person;
use qwex_testbed::{images, require, shared, wait};
use serde_json::json;

use crate::rig::{LIMIT, Rig, shell};
use crate::rights::direct;

/// A run that wants a variable that every process has.
fn wanting(script: &str) -> Work {
    let mut work = shell(script);
    work.spec.secrets = BTreeMap::from([("TOKEN".to_owned(), "env:PATH".to_owned())]);
    work
}

fn secrets(rig: &Rig) -> Api<Secret> {
    Api::namespaced(rig.client.clone(), &rig.namespace)
}

/// As another process with another environment left it: the Job, and its Secret where it came so far.
async fn left_behind(rig: &Rig, work: &Work, with_secret: bool) -> Result<qwex_runner::Handle> {
    let handle = rig.create(work, |_| {}).await?;
    if with_secret {
        let uid = handle.backend.uid.as_ref().context("a UID")?;
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": handle.backend.object, "ownerReferences": [
                { "apiVersion": "batch/v1", "kind": "Job", "name": handle.backend.object, "uid": uid.0 },
            ]},
            "stringData": { "TOKEN": "of then" },
        }))?;
        secrets(rig).create(&PostParams::default(), &secret).await?;
    }
    Ok(handle)
}

#[tokio::test]
async fn a06_a_run_in_doubt_is_taken_up_without_the_variable_it_had() -> Result<()> {
    require!(Root, Go, Containerd);
    let rig = Rig::direct(shared::alpha().await?, |_| {}).await?;
    let listener = rig.listen();
    let lacking = |script: &str| {
        let mut work = wanting(script);
        let nobody = "env:QWEX_TEST_NOBODY_SETS_THIS".to_owned();
        work.spec.secrets.insert("TOKEN".to_owned(), nobody);
        work
    };
    let work = lacking("echo \"$TOKEN\"");
    let handle = left_behind(&rig, &work, true).await?;
    let again = rig.backend.submit(&work).await?;
    assert!(again.adopted);
    assert_eq!(again.backend.uid, handle.backend.uid);
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), "of then\n");

    let never = lacking("true");
    let refused = rig.backend.submit(&never).await.unwrap_err();
    assert!(matches!(refused, RunnerError::Rejected { .. }), "{refused:?}");
    // Without its Secret it can never start: refused, and nothing stays.
    let halfway = lacking("true");
    left_behind(&rig, &halfway, false).await?;
    rig.pod_that(&halfway, "a pod that lacks its Secret", lacks_secret)
        .await?;
    let refused = rig.backend.submit(&halfway).await.unwrap_err();
    assert!(matches!(refused, RunnerError::Rejected { .. }), "{refused:?}");
    let gone = || async {
        let found = rig.jobs().get_opt(&halfway.object_name()).await.ok()?;
        found.is_none().then_some(())
    };
    wait::until(LIMIT, "the Job to go", gone).await?;
    Ok(())
}

/// As its kubelet says it.
fn lacks_secret(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .filter_map(|status| status.container_statuses.as_ref());
    let mut waiting = statuses.flatten().filter_map(|status| {
        let state = status.state.as_ref()?.waiting.as_ref()?;
        state.reason.as_deref()
    });
    waiting.any(|reason| reason == "CreateContainerConfigError")
}

#[tokio::test]
async fn a_secret_of_the_environment_goes_with_the_run() -> Result<()> {
    require!(Root, Go, Containerd);
    let value = std::env::var("PATH")?;
    let rig = Rig::direct(shared::alpha().await?, |_| {}).await?;
    let listener = rig.listen();
    let work = wanting("echo \"$TOKEN\"");
    assert!(Backend::validate(&rig.backend, &work.spec).is_empty());
    let handle = rig.submit(&work).await?;
    assert_eq!(rig.submit(&work).await?, handle, "asked twice it is one");
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let log = rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), format!("{value}\n"));

    let name = &handle.backend.object;
    let secret = secrets(&rig).get(name).await?;
    let owners = secret.metadata.owner_references.context("an owner")?;
    assert_eq!(
        Some(&owners[0].uid),
        handle.backend.uid.as_ref().map(|uid| &uid.0)
    );
    let job = serde_json::to_string(&rig.jobs().get(name).await?)?;
    let pods = serde_json::to_string(&rig.pods_of(&work).await?)?;
    assert!(!job.contains(&value) && !pods.contains(&value), "{job}{pods}");

    rig.backend.remove(&handle).await?;
    let gone = || async {
        let found = secrets(&rig).get_opt(name).await.ok()?;
        found.is_none().then_some(())
    };
    Ok(wait::until(LIMIT, "the Secret to go with its Job", gone).await?)
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_told_and_nothing_is_made() -> Result<()> {
    require!(Go);
    let rig = Rig::direct(shared::beta().await?, |_| {}).await?;
    let mut work = shell("true");
    work.spec.secrets = BTreeMap::from([("TOKEN".to_owned(), "env:QWEX_TEST_NOT_SET".to_owned())]);
    let error = rig.backend.submit(&work).await.err().context("not set")?;
    assert!(
        matches!(&error, RunnerError::Rejected { message } if message.contains("QWEX_TEST_NOT_SET") && message.contains("export it")),
        "{error:?}"
    );
    assert!(rig.jobs().get_opt(&work.object_name()).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_run_that_has_begun_outlives_its_secret_and_the_next_submit() -> Result<()> {
    require!(Go);
    let rig = Rig::direct(shared::beta().await?, |_| {}).await?;
    let mut work = shell("true");
    work.spec.secrets = BTreeMap::from([("TOKEN".to_owned(), "env:QWEX_TEST_NOT_SET".to_owned())]);
    let handle = rig.simulate(&work, &[("run-for", "10m")]).await?;
    rig.running_pod(&work).await?;
    let again = rig.backend.submit(&work).await?;
    assert!(again.adopted);
    assert_eq!(again.backend.uid, handle.backend.uid);
    assert!(rig.jobs().get_opt(&work.object_name()).await?.is_some());
    Ok(())
}

/// A pod that a node took and of which its kubelet has said nothing yet: its command may run.
#[tokio::test]
async fn a06_a_run_that_may_have_begun_is_not_taken_away_for_a_status_that_is_late() -> Result<()> {
    require!(Go);
    let rig = Rig::direct(shared::beta().await?, |_| {}).await?;
    let mut work = shell("true");
    work.spec.secrets = BTreeMap::from([("TOKEN".to_owned(), "env:QWEX_TEST_NOT_SET".to_owned())]);
    // Held back, so that the only pod is the one that no controller makes, watches or ends.
    let held = |job: &mut Job| job.spec.iter_mut().for_each(|spec| spec.suspend = Some(true));
    let handle = rig.create(&work, held).await?;
    let uid = handle.backend.uid.as_ref().context("a UID")?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": handle.backend.object,
            "labels": { "qwex.dev/run-id": work.run_id, "qwex.dev/attempt": "1", "app.kubernetes.io/managed-by": "qwex" },
            "ownerReferences": [
                { "apiVersion": "batch/v1", "kind": "Job", "name": handle.backend.object, "uid": uid.0 },
            ],
        },
        "spec": { "nodeName": "silent", "containers": [{ "name": "main", "image": images::BUSYBOX }] },
    }))?;
    rig.pods().create(&PostParams::default(), &pod).await?;
    let again = rig.backend.submit(&work).await?;
    assert!(again.adopted);
    assert_eq!(again.backend.uid, handle.backend.uid);
    let job = rig.jobs().get(&work.object_name()).await?;
    assert!(job.metadata.deletion_timestamp.is_none(), "{job:?}");

    // Without that pod nothing can have begun.
    let at_once = DeleteParams::default().grace_period(0);
    rig.pods().delete(&handle.backend.object, &at_once).await?;
    let refused = || async { rig.backend.submit(&work).await.err() };
    let refused = wait::until(LIMIT, "the refusal of what never began", refused).await?;
    assert!(matches!(refused, RunnerError::Rejected { .. }), "{refused:?}");
    let gone = || async {
        let found = rig.jobs().get_opt(&work.object_name()).await.ok()?;
        found.is_none().then_some(())
    };
    Ok(wait::until(LIMIT, "the Job to go", gone).await?)
}

#[tokio::test]
async fn without_the_right_to_secrets_no_run_is_left_behind() -> Result<()> {
    require!(Go);
    let beta = shared::beta().await?;
    let rig = Rig::direct(beta, |_| {}).await?;
    let user = person(beta, &rig.namespace, Some("secrets")).await?;
    let backend = direct(&user, &rig.namespace).await?;
    let work = wanting("true");
    // Rights take a moment to be known.
    let told = || async {
        match backend.submit(&work).await.err()? {
            RunnerError::Unauthorized { message } if message.contains("`create` on `secrets`") => {
                Some(message)
            }
            _ => None,
        }
    };
    let message = wait::until(LIMIT, "the missing right", told).await?;
    assert!(
        message.starts_with("the secrets of the run cannot be handed over"),
        "{message}"
    );
    let gone = || async {
        let job = rig.jobs().get_opt(&work.object_name()).await.ok()?;
        job.is_none().then_some(())
    };
    Ok(wait::until(LIMIT, "the Job to be taken back", gone).await?)
}

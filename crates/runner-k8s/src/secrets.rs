//! Values out of the caller's environment on their way to a run: a Secret with the name of the Job and owned by it, so
//! that it goes when the Job goes. The Job itself and the record of the run only name the variables.
//!
//! Called by `submit`. The Job comes first, since only what exists can own; its pod waits for the Secret.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use qwex_core::{ObjectUid, secret_from_env};
use qwex_runner::{RunnerError, Work};
use serde::Deserialize;

use crate::decode::Meta;
use crate::names;
use crate::paths;
use crate::rest::{CallError, Rest, target};

/// Variables of the command and their values. Never shown: it has no `Debug`.
pub(crate) struct Values(BTreeMap<String, String>);

/// Reads the values that a run asks for, before anything is made for it.
///
/// # Errors
/// `Rejected` when the environment lacks one.
pub(crate) fn values(work: &Work) -> Result<Values, RunnerError> {
    let wanted = work
        .spec
        .secrets
        .iter()
        .filter_map(|(name, reference)| Some((name, secret_from_env(reference)?)));
    let read = wanted.map(|(name, variable)| match std::env::var(variable) {
        Ok(value) => Ok((name.clone(), value)),
        Err(std::env::VarError::NotPresent) => Err(lacking(variable, "is not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(lacking(variable, "is not text")),
    });
    Ok(Values(read.collect::<Result<_, _>>()?))
}

fn lacking(variable: &str, why: &str) -> RunnerError {
    RunnerError::Rejected {
        message: format!(
            "the run wants {variable} of your environment as a secret, but it {why}; export it and try again"
        ),
    }
}

/// What is read of a Secret: never its data.
#[derive(Deserialize)]
struct SecretView {
    #[serde(default)]
    metadata: Meta,
}

/// The Job that the values are for.
pub(crate) struct Owner<'a> {
    pub namespace: &'a str,
    pub uid: &'a ObjectUid,
    pub work: &'a Work,
}

/// Sees to it that the Secret of a Job is there. One that is there already stays as it is: a run that was submitted
/// twice keeps the values of the first time.
///
/// # Errors
/// It cannot be made, or its name belongs to somebody else.
pub(crate) async fn ensure(rest: &Rest, owner: &Owner<'_>, values: Values) -> Result<(), RunnerError> {
    if values.0.is_empty() {
        return Ok(());
    }
    let body = serde_json::to_vec(&secret(owner, values)).expect("a Secret of strings serialises");
    let url = target(&paths::secrets(owner.namespace), &[("fieldValidation", "Strict")]);
    match rest.post::<SecretView>(&url, body).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_there() => look(rest, owner).await,
        Err(error) => Err(refused(error)),
    }
}

fn secret(owner: &Owner<'_>, values: Values) -> Secret {
    let work = owner.work;
    Secret {
        metadata: ObjectMeta {
            name: Some(work.object_name()),
            labels: Some(names::own_labels(work)),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                name: work.object_name(),
                uid: owner.uid.0.clone(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        string_data: Some(values.0),
        ..Secret::default()
    }
}

/// Whether the Secret of a Job is there and its own.
///
/// # Errors
/// It is not there, or its name belongs to somebody else.
pub(crate) async fn look(rest: &Rest, owner: &Owner<'_>) -> Result<(), RunnerError> {
    let name = owner.work.object_name();
    let found: SecretView = rest
        .get(&paths::secret(owner.namespace, &name))
        .await
        .map_err(refused)?;
    let meta = found.metadata;
    let owned = meta.owner_references.iter().any(|found| found.uid == owner.uid.0);
    if owned {
        return Ok(());
    }
    let object = format!("Secret {}/{name}", owner.namespace);
    let ours = names::own_labels(owner.work)
        .iter()
        .all(|(key, value)| meta.labels.get(key) == Some(value));
    if ours {
        // Of a Job of this name that was deleted: the cluster takes its Secret away in its own time.
        let message = format!("{object} of an earlier object of this run still goes away");
        return Err(RunnerError::Failed { message });
    }
    Err(RunnerError::NameConflict {
        object,
        message: "a Secret of that name exists that qwex did not make".to_owned(),
    })
}

fn refused(error: CallError) -> RunnerError {
    match RunnerError::from(error) {
        RunnerError::Unauthorized { message } => RunnerError::Unauthorized {
            message: format!("the secrets of the run cannot be handed over: {message}"),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use qwex_core::{Attempt, JobSpec, Project, RunId};

    use super::*;

    fn work(reference: &str) -> Work {
        Work {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
            project: Project::new("default").unwrap(),
            name: None,
            labels: BTreeMap::new(),
            spec: JobSpec {
                secrets: BTreeMap::from([
                    ("TOKEN".to_owned(), reference.to_owned()),
                    ("STORED".to_owned(), "hf/key".to_owned()),
                ]),
                ..JobSpec::for_command(["true"])
            },
            workspace: None,
        }
    }

    #[test]
    fn only_what_is_named_is_read() {
        let own = std::env::var("PATH").unwrap();
        let values = values(&work("env:PATH")).ok().unwrap();
        assert_eq!(values.0, BTreeMap::from([("TOKEN".to_owned(), own)]));
        assert!(values_are_empty(&work("hf")));
    }

    fn values_are_empty(work: &Work) -> bool {
        values(work).is_ok_and(|values| values.0.is_empty())
    }

    #[test]
    fn a_missing_variable_is_told_before_anything_is_made() {
        let error = values(&work("env:QWEX_TEST_NOBODY_SETS_THIS")).err().unwrap();
        assert!(
            error.to_string().contains("QWEX_TEST_NOBODY_SETS_THIS"),
            "{error}"
        );
        assert!(!error.is_retryable());
    }

    #[test]
    fn the_job_owns_it() {
        let work = work("env:PATH");
        let owner = Owner {
            namespace: "team",
            uid: &ObjectUid("u-1".to_owned()),
            work: &work,
        };
        let made = secret(&owner, values(&work).ok().unwrap());
        let owners = made.metadata.owner_references.unwrap();
        assert_eq!((owners[0].uid.as_str(), owners[0].kind.as_str()), ("u-1", "Job"));
        assert_eq!(made.metadata.name, Some(work.object_name()));
        assert_eq!(made.immutable, Some(true));
    }
}

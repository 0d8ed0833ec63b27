//! Hands one attempt to the cluster: one plain create, and what its outcomes mean. Whatever happens,
//! the answer is one object per attempt or an error that leaves nothing of ours under a second name.
//!
//! No retries here: they belong to the dispatcher, which asks again and thereby adopts.

use k8s_openapi::api::batch::v1::Job;
use qwex_core::{BackendInfo, BackendKind, ObjectUid, QueueName};
use qwex_runner::{Handle, RunnerError, Submitted, Work};

use crate::begun::never_began;
use crate::cancel;
use crate::config::K8sConfig;
use crate::decode::{JobView, Meta};
use crate::manifest;
use crate::names;
use crate::paths;
use crate::rest::{CallError, Rest, target};
use crate::secrets;

pub(crate) async fn submit(
    rest: &Rest,
    config: &K8sConfig,
    work: &Work,
    queue: Option<QueueName>,
) -> Result<Submitted, RunnerError> {
    let namespace = config.namespace_of(&work.project);
    let job = manifest::job(work, config, queue.as_ref()).map_err(|error| RunnerError::Rejected {
        message: error.to_string(),
    })?;
    let values = match secrets::values(work) {
        Ok(values) => values,
        // A submit before this one may have had them, in another environment.
        Err(lacking) => return taken_before(rest, config, work, namespace, lacking).await,
    };
    let submitted = create(rest, config, work, &job, namespace).await?;
    if let Err(error) = secrets::ensure(rest, &owner_of(&submitted, work), values).await {
        take_back(rest, config, work, &submitted, &error).await;
        return Err(error);
    }
    Ok(submitted)
}

/// The Job of an earlier submit that had all its values. One without its Secret that surely never began never will, and
/// goes. One that began, or may have, stays ours: it has its values, or its watch hears from the cluster that it lacks them.
async fn taken_before(
    rest: &Rest,
    config: &K8sConfig,
    work: &Work,
    namespace: String,
    lacking: RunnerError,
) -> Result<Submitted, RunnerError> {
    let place = Place {
        config,
        namespace,
        work,
    };
    let Some(job) = place.find(rest).await? else {
        return Err(lacking);
    };
    let submitted = place.submitted(&job.metadata, true);
    let pods = cancel::pods_of(rest, config, &handle_of(&submitted, work)).await?;
    // After the pods: what shows no sign of life there cannot begin without it, unless another submit brings it now.
    match secrets::look(rest, &owner_of(&submitted, work)).await {
        Ok(()) => Ok(submitted),
        Err(RunnerError::NotFound { .. }) => {
            let is_gone = never_began(&job, &pods) && cancel::remove_unchanged(rest, &job.metadata).await?;
            if is_gone { Err(lacking) } else { Ok(submitted) }
        }
        Err(error) => Err(error),
    }
}

fn owner_of<'a>(submitted: &'a Submitted, work: &'a Work) -> secrets::Owner<'a> {
    let uid = submitted.backend.uid.as_ref();
    secrets::Owner {
        namespace: submitted.backend.namespace.as_deref().unwrap_or_default(),
        uid: uid.expect("a Job that was created or read has a UID"),
        work,
    }
}

fn handle_of(submitted: &Submitted, work: &Work) -> Handle {
    Handle {
        run_id: work.run_id,
        attempt: work.attempt,
        backend: submitted.backend.clone(),
    }
}

/// A Job without its Secret would wait for ever, unless the next submit of the same attempt mends it.
async fn take_back(rest: &Rest, config: &K8sConfig, work: &Work, submitted: &Submitted, why: &RunnerError) {
    let later = why.is_retryable() && !matches!(why, RunnerError::Unauthorized { .. });
    if submitted.adopted || later {
        return;
    }
    let handle = handle_of(submitted, work);
    if let Err(error) = cancel::remove(rest, config, &handle).await {
        tracing::warn!(%error, object = %handle.backend.object, "a Job without its Secret is left behind");
    }
}

async fn create(
    rest: &Rest,
    config: &K8sConfig,
    work: &Work,
    job: &Job,
    namespace: String,
) -> Result<Submitted, RunnerError> {
    let body = serde_json::to_vec(job).expect("a Job of strings and numbers serialises");
    // Unknown or doubled fields would be our bug: have the API server say so instead of dropping them.
    let url = target(&paths::jobs(Some(&namespace)), &[("fieldValidation", "Strict")]);
    let place = Place {
        config,
        namespace,
        work,
    };
    match rest.post::<JobView>(&url, body).await {
        Ok(created) => Ok(place.submitted(&created.metadata, false)),
        Err(error) if error.is_already_there() => place.adopt(rest).await?.ok_or(RunnerError::Failed {
            message: format!("{error}, yet it cannot be found"),
        }),
        Err(error) if error.is_ambiguous() => place.look_after(rest, error).await,
        Err(error) => Err(refused(error, &place.namespace)),
    }
}

struct Place<'a> {
    config: &'a K8sConfig,
    namespace: String,
    work: &'a Work,
}

impl Place<'_> {
    fn submitted(&self, job: &Meta, adopted: bool) -> Submitted {
        Submitted {
            backend: BackendInfo {
                kind: BackendKind::K8s,
                cluster: self.config.cluster.clone(),
                address: self.config.address.clone(),
                namespace: Some(self.namespace.clone()),
                object: self.work.object_name(),
                uid: Some(ObjectUid(job.uid.clone())),
            },
            adopted,
        }
    }

    async fn adopt(&self, rest: &Rest) -> Result<Option<Submitted>, RunnerError> {
        let found = self.find(rest).await?;
        Ok(found.map(|job| self.submitted(&job.metadata, true)))
    }

    /// The object of our name, if it is there and ours; an error if it is not ours.
    async fn find(&self, rest: &Rest) -> Result<Option<JobView>, RunnerError> {
        let name = self.work.object_name();
        match rest.get::<JobView>(&paths::job(&self.namespace, &name)).await {
            Ok(job) => match foreign(&job.metadata, self.work) {
                None => Ok(Some(job)),
                Some(why) => Err(RunnerError::NameConflict {
                    object: format!("{}/{name}", self.namespace),
                    message: why,
                }),
            },
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The create may or may not have happened. If it is not seen now it may still come: the error
    /// stays retryable, and the next submit of the same name meets it.
    async fn look_after(&self, rest: &Rest, unclear: CallError) -> Result<Submitted, RunnerError> {
        match self.adopt(rest).await {
            Ok(Some(submitted)) => Ok(submitted),
            Err(conflict @ RunnerError::NameConflict { .. }) => Err(conflict),
            Ok(None) | Err(_) => Err(unclear.into()),
        }
    }
}

/// Why an object is not the one this work makes.
fn foreign(job: &Meta, work: &Work) -> Option<String> {
    let label = |key| job.labels.get(key).map_or("", String::as_str);
    if label(names::MANAGED_BY) != names::QWEX {
        return Some("a Job of that name exists that qwex did not make".to_owned());
    }
    if label(names::RUN_ID) != work.run_id.to_string() || label(names::ATTEMPT) != work.attempt.to_string() {
        return Some("the Job of that name carries the labels of another run".to_owned());
    }
    let hash = job.annotations.get(names::SPEC_HASH).map_or("", String::as_str);
    (hash != work.spec.hash()).then(|| "the Job of that name was made from another spec".to_owned())
}

/// A create that surely did not happen.
fn refused(error: CallError, namespace: &str) -> RunnerError {
    let mut message = error.to_string();
    if message.starts_with("namespaces ") && error.is_not_found() {
        message = format!("{message}; make it with `kubectl create namespace {namespace}`, or name another");
    }
    match error
        .refusal()
        .map(|refusal| (refusal.code, refusal.reason.as_str()))
    {
        // The namespace is not there, or batch/v1 is not: asking again changes nothing.
        Some((404, _)) => RunnerError::Rejected { message },
        // Not a name conflict: two writers met at the quota.
        Some((409, _)) => RunnerError::Failed { message },
        // Being terminated: its Jobs would be deleted with it.
        Some(_) | None => error.into(),
    }
}

//! Stops one attempt and, later, lets the cluster clean up after it.
//!
//! An object is only ever deleted by UID, always with Background propagation: the default for Jobs
//! would leave the pods running.

use qwex_core::Attempt;
use qwex_runner::{CancelProgress, Handle, RunnerError};
use serde_json::{Value, json};

use crate::config::K8sConfig;
use crate::decode::{JobView, Meta, PodView};
use crate::list::list_all;
use crate::names;
use crate::paths;
use crate::rest::{CallError, Rest, target};

/// What is known of the Job of a handle.
pub(crate) enum Found {
    /// Ours, with this UID.
    Ours(Box<JobView>),
    /// Proven absent: not there, or the name belongs to another object now.
    Absent { message: String },
}

/// A quorum read of the Job that a handle names. With a UID only that object counts, without one any
/// that carries the labels of the attempt.
pub(crate) async fn find_job(rest: &Rest, config: &K8sConfig, handle: &Handle) -> Result<Found, RunnerError> {
    let name = &handle.backend.object;
    let Some(namespace) = namespace_of(config, handle) else {
        return find_by_label(rest, handle).await;
    };
    let job: JobView = match rest.get(&paths::job(namespace, name)).await {
        Ok(job) => job,
        Err(error) if error.is_not_found() => {
            return Ok(Found::Absent {
                message: format!("Job {namespace}/{name} is not there"),
            });
        }
        Err(error) => return Err(error.into()),
    };
    Ok(judge(job, handle))
}

/// Where the namespace was never told: the labels lead to it.
async fn find_by_label(rest: &Rest, handle: &Handle) -> Result<Found, RunnerError> {
    let selector = names::of_attempt(handle.run_id, handle.attempt);
    let jobs = list_all::<JobView>(rest, &paths::jobs(None), &selector, 500).await?;
    let mine = jobs.items.into_iter().map(|job| judge(job, handle));
    let absent = Found::Absent {
        message: format!("no Job has the labels {selector}"),
    };
    Ok(mine
        .into_iter()
        .find(|found| matches!(found, Found::Ours(_)))
        .unwrap_or(absent))
}

fn judge(job: JobView, handle: &Handle) -> Found {
    let ours = match &handle.backend.uid {
        Some(uid) => job.metadata.uid == uid.0,
        None => job.metadata.attempt() == Some((handle.run_id, handle.attempt)),
    };
    if ours {
        Found::Ours(Box::new(job))
    } else {
        Found::Absent {
            message: format!(
                "Job {}/{} has UID {}, which is not ours",
                job.metadata.namespace, job.metadata.name, job.metadata.uid
            ),
        }
    }
}

pub(crate) fn namespace_of<'a>(config: &'a K8sConfig, handle: &'a Handle) -> Option<&'a str> {
    handle
        .backend
        .namespace
        .as_deref()
        .or(config.namespace.as_deref())
}

/// The pods of an attempt by a consistent list. Those of another Job than `uid` are left out.
pub(crate) async fn pods_of(
    rest: &Rest,
    config: &K8sConfig,
    handle: &Handle,
) -> Result<Vec<PodView>, RunnerError> {
    let selector = names::of_attempt(handle.run_id, handle.attempt);
    let path = paths::pods(namespace_of(config, handle));
    let pods = list_all::<PodView>(rest, &path, &selector, 500).await?;
    let uid = handle.backend.uid.as_ref();
    let mine = |pod: &PodView| match (uid, pod.metadata.owner_job()) {
        (Some(uid), Some(owner)) => uid.0 == owner,
        (Some(_) | None, _) => true,
    };
    Ok(pods.items.into_iter().filter(mine).collect())
}

pub(crate) async fn cancel(
    rest: &Rest,
    config: &K8sConfig,
    handle: &Handle,
) -> Result<CancelProgress, RunnerError> {
    let job = find_job(rest, config, handle).await?;
    if let Found::Ours(job) = &job
        && !job.is_finished()
    {
        return delete(rest, job).await;
    }
    let pods = pods_of(rest, config, handle).await?;
    let is_still = match job {
        // It ended before the cancel came: it starts nothing any more, and it is evidence until released.
        Found::Ours(_) => |pod: &&PodView| !pod.has_ended(),
        Found::Absent { .. } => |pod: &&PodView| !is_leftover(pod),
    };
    let alive: Vec<&PodView> = pods.iter().filter(is_still).collect();
    Ok(match alive.as_slice() {
        [] => CancelProgress::Stopped,
        [first, ..] => CancelProgress::Stopping {
            message: format!(
                "{} pod(s) still stop, the first is {}",
                alive.len(),
                first.metadata.name
            ),
        },
    })
}

/// An ended pod that only a finalizer keeps: nothing of it can run again.
fn is_leftover(pod: &PodView) -> bool {
    pod.has_ended() && pod.metadata.deletion_timestamp.is_some() && !pod.metadata.finalizers.is_empty()
}

async fn delete(rest: &Rest, job: &JobView) -> Result<CancelProgress, RunnerError> {
    let meta = &job.metadata;
    let stopping = |message: &str| {
        Ok(CancelProgress::Stopping {
            message: format!("Job {}/{} {message}", meta.namespace, meta.name),
        })
    };
    if meta.deletion_timestamp.is_some() {
        return stopping("is being deleted");
    }
    match delete_if(rest, meta, json!({ "uid": meta.uid })).await {
        Ok(()) => stopping("was deleted, its pods stop"),
        // Gone, or replaced, between our read and our delete: the next call sees which.
        Err(error) if error.is_not_found() || error.is_conflict() => stopping("went away meanwhile"),
        Err(error) => Err(error.into()),
    }
}

async fn delete_if(rest: &Rest, job: &Meta, preconditions: Value) -> Result<(), CallError> {
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1",
        "propagationPolicy": "Background",
        "preconditions": preconditions,
    });
    let path = paths::job(&job.namespace, &job.name);
    rest.delete(&path, options.to_string().into_bytes()).await
}

/// Deletes the Job only while it is as it was read, its status included; whether it did.
pub(crate) async fn remove_unchanged(rest: &Rest, job: &Meta) -> Result<bool, RunnerError> {
    let as_read = json!({ "uid": job.uid, "resourceVersion": job.resource_version });
    match delete_if(rest, job, as_read).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        // Whoever took it away, it is not there to begin any more.
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the Job, ended or not, and with it its pods and whatever it owns. An absent or foreign Job is fine.
pub(crate) async fn remove(rest: &Rest, config: &K8sConfig, handle: &Handle) -> Result<(), RunnerError> {
    match find_job(rest, config, handle).await? {
        Found::Ours(job) => delete(rest, &job).await.map(|_| ()),
        Found::Absent { .. } => Ok(()),
    }
}

/// Sets the TTL of a Job whose result and logs are durable. An absent or foreign Job is fine.
pub(crate) async fn release(rest: &Rest, config: &K8sConfig, handle: &Handle) -> Result<(), RunnerError> {
    let Found::Ours(job) = find_job(rest, config, handle).await? else {
        return Ok(());
    };
    let patch = json!({
        "metadata": { "uid": job.metadata.uid },
        "spec": { "ttlSecondsAfterFinished": config.tuning.released_ttl.as_secs() },
    });
    let path = paths::job(&job.metadata.namespace, &job.metadata.name);
    let url = target(&path, &[("fieldManager", names::QWEX)]);
    match rest.merge_patch(&url, patch.to_string().into_bytes()).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A handle to the Job of a view, for lists around it.
pub(crate) fn handle_of(job: &JobView, run_id: qwex_core::RunId, attempt: Attempt) -> Handle {
    Handle {
        run_id,
        attempt,
        backend: qwex_core::BackendInfo {
            kind: qwex_core::BackendKind::K8s,
            cluster: None,
            address: None,
            namespace: Some(job.metadata.namespace.clone()),
            object: job.metadata.name.clone(),
            uid: Some(job.metadata.object_uid()),
        },
    }
}

//! The workspace goes over: as soon as a pod of the attempt waits for its files, they are sent, and only when all
//! have arrived the pod is told to go on. A pod that a queue takes back is followed by another, which gets them too.

use std::collections::BTreeSet;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Duration;

use qwex_runner::workspace::{self, Listing};
use qwex_runner::{Handle, RunnerError, Transfer, Workspace};

use super::exec::{Spot, exec, tell};
use super::{local, reader, unpackable};
use crate::backend::Shared;
use crate::cancel::{self, Found};
use crate::decode::{JobView, PodView};
use crate::names;
use crate::observe::has_run;

const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Sends the files to every pod of the attempt that waits for them. Returns when no pod will wait any more.
///
/// # Errors
/// The files cannot be read or sent, for a reason that waiting does not mend; `Rejected` where the next try would not either:
/// a file that may not be read, no right to reach into pods.
pub(crate) async fn supply(
    shared: &Shared,
    handle: &Handle,
    workspace: &Workspace,
) -> Result<(), RunnerError> {
    if !sends(&workspace.send) {
        return Ok(());
    }
    let mut supplied = BTreeSet::new();
    let mut pause = SHORTEST_PAUSE;
    loop {
        match look(shared, handle).await {
            Ok(Look::Over) => return Ok(()),
            Ok(Look::Waits(pod)) if !supplied.contains(&pod.metadata.uid) => {
                match send(shared, &pod, workspace).await {
                    Ok(()) => {
                        supplied.insert(pod.metadata.uid.clone());
                    }
                    // The pod may have gone meanwhile, or the connection broke: look again.
                    Err(error) if error.is_cut() || matches!(error, RunnerError::NotFound { .. }) => {
                        tracing::debug!(%error, "the files are sent again");
                    }
                    Err(RunnerError::Unauthorized { message }) => {
                        return Err(RunnerError::Rejected { message });
                    }
                    Err(error) => return Err(error),
                }
                pause = SHORTEST_PAUSE;
            }
            Ok(Look::Soon) => pause = SHORTEST_PAUSE,
            Ok(Look::Waits(_) | Look::Later) => pause = (pause * 2).min(LONGEST_PAUSE),
            Err(error) if error.is_retryable() && !matches!(error, RunnerError::Unauthorized { .. }) => {
                pause = LONGEST_PAUSE;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
    }
}

fn sends(transfer: &Transfer) -> bool {
    match transfer {
        Transfer::Nothing => false,
        Transfer::Everything => true,
        Transfer::Only(paths) => !paths.is_empty(),
    }
}

enum Look {
    /// Nothing of it will ask for files any more.
    Over,
    /// This pod waits for its files.
    Waits(Box<PodView>),
    /// A pod is being made.
    Soon,
    /// Nothing is there yet, or it runs and a queue may take it back.
    Later,
}

async fn look(shared: &Shared, handle: &Handle) -> Result<Look, RunnerError> {
    let config = &shared.config;
    let rest = &shared.clients.acts;
    let job = match cancel::find_job(rest, config, handle).await? {
        Found::Ours(job) if !job.is_finished() => job,
        Found::Ours(_) | Found::Absent { .. } => return Ok(Look::Over),
    };
    let pods = cancel::pods_of(rest, config, handle).await?;
    let newest = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !pod.has_ended())
        .max_by_key(|pod| (pod.metadata.creation_timestamp, pod.metadata.name.clone()));
    let Some(pod) = newest else {
        return Ok(Look::Later);
    };
    if has_run(&pod) {
        return Ok(if may_come_back(&job) {
            Look::Later
        } else {
            Look::Over
        });
    }
    let waits = pod
        .files_in()
        .is_some_and(|helper| helper.state.running.is_some());
    Ok(if waits {
        Look::Waits(Box::new(pod))
    } else {
        Look::Soon
    })
}

/// A queue may take the run back and start it anew in another pod.
fn may_come_back(job: &JobView) -> bool {
    job.metadata.labels.contains_key(names::QUEUE)
}

async fn send(shared: &Shared, pod: &PodView, workspace: &Workspace) -> Result<(), RunnerError> {
    let spot = Spot {
        namespace: &pod.metadata.namespace,
        pod: &pod.metadata.name,
        container: names::FILES_IN,
    };
    let client = shared.clients.acts.client();
    let (end, theirs) = std::io::pipe().map_err(|error| local("no pipe", &error))?;
    let (dir, transfer) = (workspace.dir.clone(), workspace.send.clone());
    let packing = tokio::task::spawn_blocking(move || {
        let entries = list(&dir, &transfer)?.entries;
        workspace::pack(&dir, &entries, BufWriter::with_capacity(256 * 1024, theirs))
    });
    let command = ["tar", "-x", "-o", "-f", "-", "-C", names::WORKSPACE];
    let sent = exec(client, spot, &command, reader(end)?, tokio::io::sink()).await;
    let packed = match packing.await {
        Ok(packed) => packed.map_err(|error| unpackable(&error)),
        Err(error) => Err(local("the workspace cannot be packed", &error)),
    };
    // What could not be read here is the reason, whatever the other side then complained of; but where it hung up, it has one.
    let bytes = match (packed, sent) {
        (Ok(bytes), Ok(())) => bytes,
        (Err(error @ RunnerError::Rejected { .. }), _) => return Err(error),
        (Err(RunnerError::Unreachable { .. }) | Ok(_), Err(error)) => return Err(error),
        (Err(_), Err(error)) if error.is_cut() => return Err(error),
        (Err(error), _) => return Err(error),
    };
    tracing::debug!(bytes, pod = spot.pod, "the workspace has gone over");
    // Only now: a stream that was cut short looks whole to some tars.
    tell(client, spot, "sent").await
}

fn list(dir: &std::path::Path, transfer: &Transfer) -> std::io::Result<Listing> {
    match transfer {
        Transfer::Everything => workspace::list_everything(dir),
        Transfer::Only(paths) => workspace::list_only(dir, paths),
        Transfer::Nothing => workspace::list_only(dir, &[] as &[PathBuf]),
    }
}

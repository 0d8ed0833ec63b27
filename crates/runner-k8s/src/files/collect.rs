//! The outputs come back: the pod that waits with them is asked which files there are, those that are meant come over as
//! tars, and the pod is told that it may go.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qwex_runner::workspace::{self, Globs, Limits};
use qwex_runner::{Handle, RunnerError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::exec::{Spot, exec, tell};
use super::{joined, local, writer};
use crate::backend::Shared;
use crate::cancel;
use crate::decode::PodView;
use crate::names;
use crate::observe::has_run;

/// Bytes and number of names in one command: they travel in the address of a request.
const NAMES_BYTES: usize = 24 * 1024;
const NAMES: usize = 400;
/// Behind each word to the pod of which nobody knows whether it arrived: until the API shows what became of the pod.
const DISMISSALS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Most bytes of the list of all files.
const LIST_CAP: u64 = 256 * 1024 * 1024;

/// Brings what `outputs` means into `workspace`; gives the paths.
///
/// # Errors
/// The pod is gone or has given up waiting, and with it the files; or they cannot be read, sent or written.
pub(crate) async fn collect(
    shared: &Shared,
    handle: &Handle,
    dir: &Path,
    outputs: &[String],
) -> Result<Vec<PathBuf>, RunnerError> {
    let globs = Globs::new(outputs).map_err(|error| RunnerError::Rejected {
        message: error.to_string(),
    })?;
    let pods = cancel::pods_of(&shared.clients.acts, &shared.config, handle).await?;
    let newest = pods
        .into_iter()
        .filter(PodView::keeps_outputs)
        .max_by_key(|pod| (pod.metadata.creation_timestamp, pod.metadata.name.clone()));
    let Some(pod) = newest else {
        let message = format!(
            "the pod of {} is gone, and the outputs with it",
            handle.backend.object
        );
        return Err(RunnerError::NotFound { message });
    };
    if !has_run(&pod) {
        return Ok(Vec::new());
    }
    if let Some(ended) = pod
        .files_out()
        .and_then(|helper| helper.state.terminated.as_ref())
    {
        return match ended.message.trim() {
            // By an earlier call whose caller did not live to hear of it.
            "fetched" => workspace::find(dir, &globs).map_err(|error| local("the workspace", &error)),
            _ => Err(given_up(&pod, &ended.reason)),
        };
    }
    let written = fetch(shared, &pod, dir, &globs).await?;
    dismiss(shared, handle, &pod).await?;
    Ok(written)
}

/// Tells the pod that it may go. It may go so quickly that whoever told it hears of nothing.
async fn dismiss(shared: &Shared, handle: &Handle, pod: &PodView) -> Result<(), RunnerError> {
    let client = shared.clients.acts.client();
    for pause in DISMISSALS {
        match tell(client, spot(pod), "fetched").await {
            Err(error) if error.is_cut() => tracing::debug!(%error, "whether the pod heard is looked up"),
            told => return told,
        }
        tokio::time::sleep(pause).await;
        let Ok(pods) = cancel::pods_of(&shared.clients.acts, &shared.config, handle).await else {
            continue;
        };
        let same = pods.iter().find(|found| found.metadata.uid == pod.metadata.uid);
        if same.is_none_or(|found| {
            found
                .files_out()
                .is_none_or(|helper| helper.state.running.is_none())
        }) {
            return Ok(());
        }
    }
    tell(client, spot(pod), "fetched").await
}

fn given_up(pod: &PodView, reason: &str) -> RunnerError {
    RunnerError::NotFound {
        message: format!(
            "the container {} of pod {} has ended ({reason}) before the outputs were fetched, and they are gone",
            names::FILES_OUT,
            pod.metadata.name
        ),
    }
}

async fn fetch(
    shared: &Shared,
    pod: &PodView,
    dir: &Path,
    globs: &Globs,
) -> Result<Vec<PathBuf>, RunnerError> {
    let spot = spot(pod);
    let client = shared.clients.acts.client();
    let found = list(client, spot).await?;
    let wanted = Wanted::of(&found, globs);
    let names: Vec<&str> = wanted.names.iter().map(String::as_str).collect();
    let mut written = Vec::new();
    for names in batches(&names) {
        written.extend(fetch_some(client, spot, names, dir, globs).await?);
    }
    if let Some(name) = wanted.unnameable.first() {
        return Err(RunnerError::Rejected {
            message: format!(
                "{} of the outputs stay behind, since a name that is no UTF-8 cannot be asked for; the first is {name:?}; \
                 have the command name it otherwise, or put it into an archive",
                wanted.unnameable.len()
            ),
        });
    }
    Ok(written)
}

fn spot(pod: &PodView) -> Spot<'_> {
    Spot {
        namespace: &pod.metadata.namespace,
        pod: &pod.metadata.name,
        container: names::FILES_OUT,
    }
}

/// The outputs among all files.
struct Wanted {
    /// Each behind `./`.
    names: Vec<String>,
    unnameable: Vec<PathBuf>,
}

impl Wanted {
    /// `found`: whole paths in the pod, with a NUL behind each.
    fn of(found: &[u8], globs: &Globs) -> Self {
        let mut wanted = Self {
            names: Vec::new(),
            unnameable: Vec::new(),
        };
        for name in found.split(|byte| *byte == 0) {
            let path = Path::new(OsStr::from_bytes(name));
            let Ok(path) = path.strip_prefix(names::WORKSPACE) else {
                continue;
            };
            if workspace::is_never_sent(path) || !globs.matches(path) {
                continue;
            }
            match path.to_str() {
                Some(name) => wanted.names.push(format!("./{name}")),
                None => wanted.unnameable.push(path.to_owned()),
            }
        }
        wanted
    }
}

/// All files and links below the workspace.
async fn list(client: &kube::Client, spot: Spot<'_>) -> Result<Vec<u8>, RunnerError> {
    let command = [
        "find",
        names::WORKSPACE,
        "(",
        "-type",
        "f",
        "-o",
        "-type",
        "l",
        ")",
        "-print0",
    ];
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let mut all = Vec::new();
    let mut capped = ours.take(LIST_CAP);
    let reading = async {
        let read = capped.read_to_end(&mut all).await;
        match read.map_err(|error| local("the list of files", &error))? as u64 {
            LIST_CAP => Err(RunnerError::Rejected {
                message: format!(
                    "the names of the files below {} in pod {} are more than {} MiB; have the command remove what nobody wants, \
                     or put it into an archive",
                    names::WORKSPACE,
                    spot.pod,
                    LIST_CAP >> 20
                ),
            }),
            _ => Ok(()),
        }
    };
    // A list without end is not read to its end.
    let listing = exec(client, spot, &command, tokio::io::empty(), theirs);
    tokio::try_join!(listing, reading)?;
    Ok(all)
}

fn batches<'a>(names: &'a [&'a str]) -> Vec<&'a [&'a str]> {
    let mut all = Vec::new();
    let mut from = 0;
    let mut bytes = 0;
    for (index, name) in names.iter().enumerate() {
        bytes += name.len();
        if index > from && (bytes > NAMES_BYTES || index - from >= NAMES) {
            all.push(&names[from..index]);
            from = index;
            bytes = name.len();
        }
    }
    all.push(&names[from..]);
    all.retain(|batch| !batch.is_empty());
    all
}

async fn fetch_some(
    client: &kube::Client,
    spot: Spot<'_>,
    names: &[&str],
    dir: &Path,
    globs: &Globs,
) -> Result<Vec<PathBuf>, RunnerError> {
    let mut command = vec!["tar", "-c", "-f", "-", "-C", names::WORKSPACE];
    command.extend(names);
    let (theirs, end) = std::io::pipe().map_err(|error| local("no pipe", &error))?;
    let (dir, globs) = (dir.to_owned(), globs.clone());
    let unpacking =
        tokio::task::spawn_blocking(move || workspace::unpack(&dir, theirs, &globs, Limits::default()));
    let mut into = writer(end)?;
    let sent = exec(client, spot, &command, tokio::io::empty(), &mut into).await;
    into.shutdown().await.ok();
    drop(into);
    let written = joined(unpacking, "the outputs cannot be written").await;
    match (sent, written) {
        (Ok(()), Ok(written)) => Ok(written),
        // A full disk here breaks the stream there: the first reason counts.
        (Err(RunnerError::Unreachable { .. }) | Ok(()), Err(error)) => Err(error),
        (Err(error), _) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_what_git_and_qwex_keep_is_not_asked_for_and_odd_names_are_told() {
        let mut found = Vec::new();
        for name in [
            &b"out/a"[..],
            b"out/.git/config",
            b".qwex/runs/x",
            b"out/\xff",
            b"other",
            b"out/.gitignore",
        ] {
            found.extend_from_slice(names::WORKSPACE.as_bytes());
            found.push(b'/');
            found.extend_from_slice(name);
            found.push(0);
        }
        let globs = Globs::new(&["out/**".to_owned(), ".qwex/**".to_owned()]).unwrap();
        let wanted = Wanted::of(&found, &globs);
        assert_eq!(wanted.names, ["./out/a", "./out/.gitignore"]);
        assert_eq!(wanted.unnameable, [Path::new(OsStr::from_bytes(b"out/\xff"))]);
    }

    #[test]
    fn batches_hold_every_name_once() {
        let names: Vec<String> = (0..1000)
            .map(|n| format!("./{n}{}", "x".repeat(n % 200)))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let parts = batches(&names);
        assert_eq!(parts.concat(), names);
        assert!(parts.len() > 3 && parts.iter().all(|part| part.len() <= NAMES));
        assert!(batches(&[]).is_empty());
        let long = "x".repeat(2 * NAMES_BYTES);
        assert_eq!(batches(&["a", &long, "b"]).len(), 3);
    }
}

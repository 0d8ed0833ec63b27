//! Brings the outputs of an attempt from its host into the caller's workspace.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use qwex_runner::workspace::{Globs, Limits, NEVER_SENT, unpack};
use qwex_runner::{Handle, Key, RunnerError};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_util::io::SyncIoBridge;

use crate::config::SshConfig;
use crate::link::Pipe;
use crate::serve::Served;
use crate::{error, scripts};

/// Most that a host may tell of the names of files: those of about a million.
const MOST_NAMES: usize = 128 << 20;

/// The files that match `outputs`, written below `workspace`; their paths.
pub async fn collect(
    served: &Served,
    handle: &Handle,
    workspace: &Path,
    outputs: &[String],
) -> Result<Vec<PathBuf>, RunnerError> {
    let globs = Globs::new(outputs).map_err(|error| RunnerError::Rejected {
        message: error.to_string(),
    })?;
    if outputs.is_empty() {
        return Ok(Vec::new());
    }
    let [root, cache] = served.config().places();
    let object = Key::of(handle).object();
    served.host().await?;
    let listing = scripts::find(&[&root, &cache, &object]);
    let listed = served.link.output(&listing, MOST_NAMES).await?;
    let names = listed.ok_or_else(|| too_long(served.config()))?;
    let wanted = wanted(&names, &globs);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let line = scripts::fetch(&[&root, &cache, &object]);
    let config = served.config();
    let mut pipe = served.link.start(Instant::now(), &line, "").await?;
    let stdin = pipe.stdin.take();
    // Beside the reading: a host that cannot send takes no more names, however many there are.
    let named = tokio::spawn(async move {
        let Some(mut stdin) = stdin else { return Ok(()) };
        stdin.write_all(&wanted).await?;
        stdin.shutdown().await
    });
    let dir = workspace.to_owned();
    let handle = tokio::runtime::Handle::current();
    let unpacked = tokio::task::spawn_blocking(move || {
        let from = SyncIoBridge::new_with_handle(&mut pipe.stdout, handle);
        let written = unpack(&dir, from, &globs, Limits::default());
        (pipe, written)
    });
    let (pipe, written) = unpacked.await.map_err(|error| RunnerError::Failed {
        message: format!("the worker thread ended early: {error}"),
    })?;
    match written {
        Ok(written) => {
            // A host that cannot send stops hearing names, and its own words say more than that.
            pipe.end(config).await?;
            // Whoever did not hear all names sent an archive that is whole and too small.
            let named = named.await.map_err(io::Error::other).flatten();
            named.map_err(|error| error::broken(config, &error))?;
            Ok(written)
        }
        Err(error) => {
            named.abort();
            Err(not_taken(config, pipe, &error).await)
        }
    }
}

/// A host that tells of files without end, or of far too many.
fn too_long(config: &SshConfig) -> RunnerError {
    RunnerError::Rejected {
        message: format!(
            "the outputs from {} are not taken: the list of files in the directory of the run is longer than {} MiB; have the \
             command remove what nobody needs, or put many small files into one archive",
            config.host,
            MOST_NAMES >> 20
        ),
    }
}

/// Why an archive of outputs was not taken, or not to its end.
async fn not_taken(config: &SshConfig, pipe: Pipe, error: &io::Error) -> RunnerError {
    let host = &config.host;
    let failed = RunnerError::Failed {
        message: format!("cannot bring the outputs from {host}: {error}"),
    };
    match error.kind() {
        // Sent again it is the same.
        io::ErrorKind::InvalidData => RunnerError::Rejected {
            message: format!(
                "the outputs from {host} are not taken: {error}; have the command leave files, and links that stay in \
                 the workspace, or take that out of `outputs`"
            ),
        },
        // It is over there, or on the way, that the reason lies.
        io::ErrorKind::UnexpectedEof => {
            let end = tokio::time::timeout(config.answer_timeout, pipe.end(config));
            end.await.ok().and_then(Result::err).unwrap_or(failed)
        }
        _ => failed,
    }
}

/// Names that the globs mean, as the host listed them, each with a NUL.
fn wanted(names: &[u8], globs: &Globs) -> Vec<u8> {
    let mut wanted = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        let Some(below) = name.strip_prefix(b"./") else {
            continue;
        };
        let path = Path::new(OsStr::from_bytes(below));
        let ours = path
            .iter()
            .any(|part| NEVER_SENT.iter().any(|never| part == *never));
        if !ours && globs.matches(path) {
            wanted.extend_from_slice(name);
            wanted.push(0);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_and_never_our_own() {
        let globs = Globs::new(&["out", "*.txt"]).unwrap();
        let names = b"./out/a\0./b.txt\0./c\0./out/.git/x\0/etc/passwd\0";
        assert_eq!(wanted(names, &globs), b"./out/a\0./b.txt\0");
    }
}

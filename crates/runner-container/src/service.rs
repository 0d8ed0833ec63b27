//! A `podman system service` for as long as it is needed: podman has no daemon of its own, and many machines run none.
//! One per user, shared by every process of this user; it leaves by itself when nobody asked it anything for a while.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use qwex_runner::RunnerError;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::discover::Surroundings;

/// Seconds without a connection after which podman leaves.
const IDLE: &str = "--time=60";
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Where our service listens: in a directory that only this user can enter.
pub fn socket(around: &Surroundings) -> PathBuf {
    let dir = match &around.runtime_dir {
        Some(dir) => dir.join("qwex"),
        None => PathBuf::from(format!("/tmp/qwex-{}", nix::unistd::Uid::effective())),
    };
    dir.join("podman.sock")
}

/// Starts the service unless it answers.
///
/// # Errors
/// podman is not installed, ends, or does not come up; with its own words.
pub async fn ensure(socket: &Path) -> Result<(), RunnerError> {
    if answers(socket).await {
        return Ok(());
    }
    let dir = socket.parent().unwrap_or(Path::new("/")).to_owned();
    let lock = tokio::task::spawn_blocking(move || prepare(&dir));
    let lock = lock.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    let _lock = lock.map_err(|error| unable(&format!("cannot use {}: {error}", socket.display())))?;
    // Another process may have started it while we waited.
    if answers(socket).await {
        return Ok(());
    }
    std::fs::remove_file(socket).ok();
    let mut child = start(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unable("podman is not installed"),
        _ => unable(&format!("cannot start podman: {error}")),
    })?;
    let begun = Instant::now();
    while !answers(socket).await {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(unable(&format!(
                "`podman system service` ended with {status}: {}",
                said(socket)
            )));
        }
        if begun.elapsed() > START_LIMIT {
            child.start_kill().ok();
            return Err(unable(&format!(
                "`podman system service` does not answer: {}",
                said(socket)
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

/// The lock under which the service is started. The directory must be ours alone: whoever can put a socket there would
/// be given our containers.
fn prepare(dir: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let meta = std::fs::symlink_metadata(dir)?;
    let ours = meta.is_dir() && meta.uid() == nix::unistd::Uid::effective().as_raw();
    if !ours || meta.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other("the directory is not ours alone; remove it"));
    }
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join("podman.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// In a process group of its own: Ctrl-C in our terminal is not for it.
fn start(socket: &Path) -> io::Result<Child> {
    let log = File::create(socket.with_extension("log"))?;
    Command::new("podman")
        .args(["system", "service", IDLE])
        .arg(format!("unix://{}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// The last of what podman said.
fn said(socket: &Path) -> String {
    let text = std::fs::read_to_string(socket.with_extension("log")).unwrap_or_default();
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

fn unable(why: &str) -> RunnerError {
    RunnerError::Unreachable {
        message: format!(
            "{why}; install podman, or start its service (`systemctl --user start podman.socket`) and set \
             CONTAINER_HOST"
        ),
    }
}

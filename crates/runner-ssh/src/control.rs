//! Shared connections: one master per host and configuration in a private directory, found again by the
//! next process and gone when nobody has used it for a while.

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder};
use qwex_runner::RunnerError;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::config::SshConfig;
use crate::error;

/// The openssh crate makes the directories of its masters with this name.
const MASTER_DIR: &str = ".ssh-connection";
/// A master that is being made has no socket yet.
const YOUNG: Duration = Duration::from_secs(120);
/// Between two looks whether it is our turn.
const TURN_PAUSE: Duration = Duration::from_millis(20);

/// The master that another process, or an earlier call, left for this host; `None` if there is none.
pub fn resume(config: &SshConfig) -> Option<Session> {
    let dir = private_dir(config).ok()?;
    let name = fs::read_to_string(dir.join(pointer(config))).ok()?;
    let master = dir.join(name.trim());
    let socket = master.join("master");
    let inside = name.starts_with(MASTER_DIR) && !name.contains('/');
    (inside && socket.exists()).then(|| Session::resume(socket.into(), Some(master.join("log").into())))
}

/// The turn to do something for this host that is of use to all processes of the user: whoever has it does
/// it, and the others find it done. `None`: nobody gave way in time, or locks do not work there.
pub async fn turn(config: &SshConfig, to: &str) -> Option<Flock<File>> {
    let path = private_dir(config)
        .ok()?
        .join(format!("turn-{to}-{}", pointer(config)));
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .ok()?;
    let until = Instant::now() + config.connect_timeout + config.answer_timeout;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Some(turn),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < until => file = back,
            Err(_) => return None,
        }
        tokio::time::sleep(TURN_PAUSE).await;
    }
}

/// Makes a new master. Never asks anything; refuses a host whose key is not known.
pub async fn connect(config: &SshConfig) -> Result<Session, RunnerError> {
    let dir = private_dir(config).map_err(|error| RunnerError::Failed {
        message: format!("no private directory for connections: {error}"),
    })?;
    sweep(&dir);
    let mut builder = SessionBuilder::default();
    let idle = usize::try_from(config.keep_connection.as_secs()).unwrap_or(usize::MAX);
    builder
        .known_hosts_check(KnownHosts::Strict)
        .connect_timeout(config.connect_timeout)
        .server_alive_interval(Duration::from_secs(5))
        .control_persist(ControlPersist::IdleFor(
            NonZeroUsize::new(idle).unwrap_or(NonZeroUsize::MIN),
        ))
        .control_directory(&dir);
    if let Some(file) = &config.config_file {
        builder.config_file(file);
    }
    if let Some(file) = &config.identity_file {
        builder.keyfile(file);
    }
    builder.jump_hosts(&config.jump);
    // `ssh` itself keeps the time up to the key exchange; behind it a host may still go silent.
    let limit = config.connect_timeout + config.answer_timeout;
    let session = match tokio::time::timeout(limit, builder.connect(&config.host)).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return Err(error::connecting(config, &whole(&error))),
        Err(_) => return Err(error::connecting(config, "")),
    };
    let (socket, log) = session.detach();
    if let Some(name) = socket.parent().and_then(Path::file_name) {
        // Without it the next process makes a connection of its own.
        let told = point(&dir, &pointer(config), name.as_encoded_bytes());
        told.unwrap_or_else(|error| tracing::debug!(%error, "the connection is not shared"));
    }
    Ok(Session::resume(socket, log))
}

/// An error with all that is behind it.
fn whole(error: &openssh::Error) -> String {
    let mut text = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// Where connections are shared unless the configuration says otherwise.
fn usual_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if !runtime.is_empty() => PathBuf::from(runtime).join("qwex-ssh"),
        Some(_) | None => std::env::temp_dir().join(format!("qwex-ssh-{}", nix::unistd::geteuid())),
    }
}

/// Directories of shared connections behind which nobody listens any more: an `ssh` that was killed leaves its
/// socket. None that is younger than two minutes is among them.
#[must_use]
pub fn stale_connections() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(usual_dir()) else {
        return Vec::new();
    };
    let all = entries
        .flatten()
        .filter(|entry| is_master(entry) && is_old(entry));
    let silent = all.filter(|entry| UnixStream::connect(entry.path().join("master")).is_err());
    silent.map(|entry| entry.path()).collect()
}

fn is_master(entry: &fs::DirEntry) -> bool {
    let ours = entry
        .metadata()
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw());
    ours && entry.file_name().to_string_lossy().starts_with(MASTER_DIR)
}

fn is_old(entry: &fs::DirEntry) -> bool {
    let time = entry.metadata().and_then(|meta| meta.modified());
    time.is_ok_and(|time| {
        SystemTime::now()
            .duration_since(time)
            .is_ok_and(|age| age > YOUNG)
    })
}

/// One that only we can enter: whoever can write here speaks with our rights on the host.
pub fn private_dir(config: &SshConfig) -> io::Result<PathBuf> {
    let dir = config.control_dir.clone().unwrap_or_else(usual_dir);
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let meta = fs::symlink_metadata(&dir)?;
    let ours = meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o077 == 0;
    if !ours {
        return Err(io::Error::other(format!(
            "{} is not a directory that only you can enter; remove it",
            dir.display()
        )));
    }
    Ok(dir)
}

/// Name of the file that names the master of this host.
fn pointer(config: &SshConfig) -> String {
    let mut hash = Sha256::new();
    hash.update(config.host.as_bytes());
    hash.update([0]);
    if let Some(file) = &config.config_file {
        hash.update(file.as_os_str().as_encoded_bytes());
    }
    // Another key may be another user's rights, and another way another machine.
    let key = config
        .identity_file
        .iter()
        .map(|file| file.as_os_str().as_encoded_bytes());
    for part in key.chain(config.jump.iter().map(String::as_bytes)) {
        hash.update([1]);
        hash.update(part);
    }
    format!("host-{}", &hex::encode(hash.finalize())[..32])
}

fn point(dir: &Path, name: &str, to: &[u8]) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(to)?;
    new.persist(dir.join(name)).map_err(|error| error.error)?;
    Ok(())
}

/// Removes what masters that ended left.
fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if is_master(&entry) && is_old(&entry) && !entry.path().join("master").exists() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

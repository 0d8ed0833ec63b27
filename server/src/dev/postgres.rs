//! The Postgres of `qwexcloud dev`: made in the data directory, reachable by a private unix socket only, started and
//! ended with this process.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::binaries::{self, Binaries};
use super::owner::Owner;
use super::{previous, spawn};
use crate::db::{PoolSizes, Pools};

/// A unix socket's path has 107 bytes at most; the name of Postgres' own is `.s.PGSQL.5432`.
const LONGEST_SOCKET_DIR: usize = 107 - "/.s.PGSQL.5432".len();
const INITDB_TIME: Duration = Duration::from_secs(120);
/// Long, because a killed one first recovers.
const READY_TIME: Duration = Duration::from_secs(120);
const STOP_TIME: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);
const USER: &str = "qwex";

/// Why there is no embedded Postgres.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error(
        "no Postgres on this machine: `qwexcloud dev` needs its programs initdb and postgres, in PATH or in /usr/lib/postgresql/*/bin (Debian: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql). Or run `qwexcloud serve` with the URL of a database"
    )]
    NotInstalled,
    #[error(
        "the database in {dir} was made by Postgres {major}, which is not installed: install it, or choose another --data-dir"
    )]
    OtherVersion { dir: PathBuf, major: u32 },
    #[error("another `qwexcloud dev` uses the data directory {0}")]
    InUse(PathBuf),
    #[error("Postgres refuses to run as root, and there is neither a user postgres nor nobody")]
    NoUser,
    #[error(
        "the user {user} cannot reach {dir}, and setpriv is not installed: choose a --data-dir that others may pass, such as /var/lib/qwex"
    )]
    Unreachable { dir: PathBuf, user: String },
    #[error("failed to prepare {dir}")]
    Dir {
        dir: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("failed to start {program}")]
    Start {
        program: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{program} ended with {status}; the end of {log}:\n{tail}", log = log.display())]
    Ended {
        program: &'static str,
        status: ExitStatus,
        log: PathBuf,
        tail: String,
    },
    #[error("{program} was not done within {} s; see {log}", limit.as_secs(), log = log.display())]
    Slow {
        program: &'static str,
        limit: Duration,
        log: PathBuf,
    },
    #[error("the Postgres of an earlier start (pid {pid}) does not end")]
    StillRuns { pid: i32 },
}

/// A running embedded Postgres.
pub struct Postgres {
    child: Child,
    log: PathBuf,
    socket_dir: PathBuf,
    /// Held for as long as the data directory is ours.
    _lock: File,
}

impl Postgres {
    /// Makes (the first time) and starts the Postgres below `data_dir`.
    ///
    /// # Errors
    /// Each with what to do about it.
    pub async fn start(data_dir: &Path) -> Result<Self, DevError> {
        std::fs::create_dir_all(data_dir).map_err(|cause| DevError::Dir {
            dir: data_dir.to_owned(),
            cause,
        })?;
        let data_dir = data_dir.canonicalize().map_err(|cause| DevError::Dir {
            dir: data_dir.to_owned(),
            cause,
        })?;
        let lock = take_lock(&data_dir)?;
        let base = data_dir.join("postgres");
        let owner = Owner::of(&base)?;
        owner.make_dir(&base)?;
        let (data, log) = (base.join("data"), data_dir.join("postgres.log"));
        let binaries = programs(&data)?;
        if !data.join("PG_VERSION").exists() {
            init(&binaries, &owner, &base, &log).await?;
        }
        previous::end(&data).await?;
        let socket_dir = socket_dir(&base);
        owner.make_dir(&socket_dir)?;
        let child = launch(&binaries, &owner, &data, &socket_dir, &log)?;
        let mut postgres = Self {
            child,
            log,
            socket_dir,
            _lock: lock,
        };
        postgres.ready().await?;
        Ok(postgres)
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        let dir: String =
            url::form_urlencoded::byte_serialize(self.socket_dir.as_os_str().as_bytes()).collect();
        format!("postgres://{USER}@localhost/postgres?host={dir}")
    }

    /// Resolves when it has ended by itself, which it should not.
    pub async fn ended(&mut self) -> DevError {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return self.ended_with(status);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Ends it: open transactions are rolled back, everything else is on disk.
    pub async fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits in pid_t"));
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            // Not reaped before try_wait says so: the number is still its own.
            kill(pid, signal).ok();
            let deadline = tokio::time::Instant::now() + STOP_TIME;
            while tokio::time::Instant::now() < deadline {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                tokio::time::sleep(STEP).await;
            }
        }
        tracing::error!(%pid, "the embedded Postgres does not end");
    }

    async fn ready(&mut self) -> Result<(), DevError> {
        let sizes = PoolSizes {
            api: 1,
            record: 1,
            work: 1,
        };
        let pools = Pools::open(&self.url(), sizes).map_err(|error| DevError::Start {
            program: self.socket_dir.clone(),
            cause: std::io::Error::other(error),
        })?;
        let deadline = tokio::time::Instant::now() + READY_TIME;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended_with(status));
            }
            let listens = self.socket_dir.join(".s.PGSQL.5432").exists();
            if listens && pools.ping().await.is_ok() {
                pools.close().await;
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(DevError::Slow {
                    program: "postgres",
                    limit: READY_TIME,
                    log: self.log.clone(),
                });
            }
            tokio::time::sleep(STEP).await;
        }
    }

    fn ended_with(&self, status: ExitStatus) -> DevError {
        DevError::Ended {
            program: "postgres",
            status,
            log: self.log.clone(),
            tail: spawn::tail(&self.log),
        }
    }
}

/// One `qwexcloud dev` a data directory; the kernel frees the lock however we end.
fn take_lock(data_dir: &Path) -> Result<File, DevError> {
    let path = data_dir.join("dev.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|cause| DevError::Dir { dir: path, cause })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(DevError::InUse(data_dir.to_owned())),
    }
}

fn programs(data: &Path) -> Result<Binaries, DevError> {
    let installed = binaries::installed();
    let made_by = std::fs::read_to_string(data.join("PG_VERSION"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match (binaries::choose(&installed, made_by), made_by) {
        (Some(found), _) => Ok(found.clone()),
        (None, Some(major)) if !installed.is_empty() => Err(DevError::OtherVersion {
            dir: data.to_owned(),
            major,
        }),
        (None, _) => Err(DevError::NotInstalled),
    }
}

/// Made beside its place and moved there when it is whole: a start that is killed here begins anew.
async fn init(binaries: &Binaries, owner: &Owner, base: &Path, log: &Path) -> Result<(), DevError> {
    let (fresh, data) = (base.join("data.new"), base.join("data"));
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(|cause| DevError::Dir {
            dir: fresh.clone(),
            cause,
        })?;
    }
    owner.make_dir(&fresh)?;
    let program = binaries.program("initdb");
    let mut command = spawn::command(owner, &program, log).map_err(|cause| DevError::Start {
        program: program.clone(),
        cause,
    })?;
    command.arg("--pgdata").arg(&fresh).args([
        "--username",
        USER,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
    ]);
    let mut child = spawn::start(command).map_err(|cause| DevError::Start { program, cause })?;
    let deadline = tokio::time::Instant::now() + INITDB_TIME;
    let status = loop {
        if let Ok(Some(status)) = child.try_wait() {
            break status;
        }
        if tokio::time::Instant::now() >= deadline {
            child.kill().ok();
            return Err(DevError::Slow {
                program: "initdb",
                limit: INITDB_TIME,
                log: log.to_owned(),
            });
        }
        tokio::time::sleep(STEP).await;
    };
    if !status.success() {
        return Err(DevError::Ended {
            program: "initdb",
            status,
            log: log.to_owned(),
            tail: spawn::tail(log),
        });
    }
    std::fs::rename(&fresh, &data).map_err(|cause| DevError::Dir { dir: data, cause })
}

/// In the data directory where its path is short enough, else in the directory for temporary files.
fn socket_dir(base: &Path) -> PathBuf {
    let near = base.join("socket");
    if near.as_os_str().len() <= LONGEST_SOCKET_DIR {
        return near;
    }
    use sha2::{Digest, Sha256};
    let digest = hex::encode(Sha256::digest(base.as_os_str().as_bytes()));
    std::env::temp_dir().join(format!("qwex-{}", &digest[..16]))
}

fn launch(
    binaries: &Binaries,
    owner: &Owner,
    data: &Path,
    socket_dir: &Path,
    log: &Path,
) -> Result<Child, DevError> {
    let program = binaries.program("postgres");
    let failed = |cause| DevError::Start {
        program: program.clone(),
        cause,
    };
    let mut command = spawn::command(owner, &program, log).map_err(failed)?;
    command.arg("-D").arg(data);
    command
        .arg("-c")
        .arg(spawn::setting("unix_socket_directories", socket_dir));
    for setting in [
        "listen_addresses=",
        "unix_socket_permissions=0700",
        "max_connections=60",
        "shared_buffers=64MB",
        "max_wal_size=256MB",
        "jit=off",
        "log_min_messages=warning",
    ] {
        command.args(["-c", setting]);
    }
    spawn::start(command).map_err(failed)
}

//! Child processes of the testbed: started with a log file, killed when dropped, and killed by the kernel when the
//! test process itself dies. Every part that runs a binary goes through [`Spec`]; nothing here knows what it runs.
//!
//! Must not: hand out a pid that was already reaped. A child that ended stays a zombie until its [`Process`] is
//! dropped, so a signal can never reach a stranger that got the same number.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Gid, Pid, Uid, User};

use crate::wait;

/// The first process of a PID namespace has to reap what others leave; few programs do.
const FIRST_IN_NAMESPACE: &str = r#"mount -t tmpfs tmpfs /run || exit 1; "$@" & wait "$!""#;

/// What to start: program, arguments, surroundings and the file that takes stdout and stderr.
#[derive(Debug, Clone)]
pub struct Spec {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    user: Option<(Uid, Gid)>,
    namespaced: bool,
    isolated: bool,
    log: PathBuf,
}

impl Spec {
    /// `program` is looked up in PATH when it has no slash; `log` is appended to.
    pub fn new(program: impl AsRef<OsStr>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            dir: None,
            user: None,
            namespaced: false,
            isolated: false,
            log: log.into(),
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Working directory of the child.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Drop to this user before exec; needs root.
    pub fn user(mut self, user: &User) -> Self {
        self.user = Some((user.uid, user.gid));
        self
    }

    /// Run in a PID and mount namespace of its own with an empty `/run`, so that whatever the program forks or mounts
    /// ends with it (shims, conmon, overlay mounts). Needs root and util-linux `unshare`.
    pub fn namespaced(mut self) -> Self {
        self.namespaced = true;
        self
    }

    /// As [`Spec::namespaced`], with a network namespace of its own that has no link yet.
    pub fn isolated(mut self) -> Self {
        self.isolated = true;
        self.namespaced()
    }

    /// Starts the program.
    ///
    /// # Errors
    /// The log file cannot be opened, or the program cannot be executed.
    pub fn start(self) -> Result<Process> {
        let name = Path::new(&self.program)
            .file_name()
            .unwrap_or(&self.program)
            .to_string_lossy()
            .into_owned();
        let log = self.log.clone();
        let command = self.command().with_context(|| format!("prepare {name}"))?;
        let child = spawn(command).with_context(|| format!("start {name}"))?;
        let group = self.namespaced;
        Ok(Process {
            child,
            name,
            log,
            group,
        })
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// It cannot start, does not end within `limit`, or ends with a failure; the error holds the end of its log.
    pub async fn run(self, limit: Duration) -> Result<()> {
        let mut process = self.start()?;
        let status = process.wait(limit).await?;
        if !status.success() {
            bail!(
                "{} ended with {status}; log {}:\n{}",
                process.name,
                process.log.display(),
                process.log_tail()
            );
        }
        Ok(())
    }

    fn command(&self) -> io::Result<Command> {
        let out = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let err = out.try_clone()?;
        let mut command = if self.namespaced {
            let mut unshare = Command::new("unshare");
            unshare.args([
                "--pid",
                "--mount",
                "--fork",
                "--kill-child=SIGKILL",
                "--mount-proc",
            ]);
            unshare.args(self.isolated.then_some("--net")).arg("--");
            unshare.args(["sh", "-c", FIRST_IN_NAMESPACE, "sh"]);
            unshare.arg(&self.program);
            unshare
        } else {
            Command::new(&self.program)
        };
        command
            .args(&self.args)
            .envs(self.envs.iter().map(|(key, value)| (key, value)));
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        die_with_parent(&mut command);
        Ok(command)
    }
}

/// Asks the kernel to kill the child when the thread that forked it ends.
#[expect(
    unsafe_code,
    reason = "pre_exec is the only place between fork and exec; prctl and getppid are signal-safe"
)]
fn die_with_parent(command: &mut Command) {
    let parent = Pid::this();
    // SAFETY: only prctl and getppid run in the forked child; neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the prctl; then no signal will ever come.
            if Pid::parent() != parent {
                Err(io::ErrorKind::BrokenPipe.into())
            } else {
                Ok(())
            }
        });
    }
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// One thread that lives as long as the process: PR_SET_PDEATHSIG fires when the forking *thread* ends, and the
/// threads of a test end with it.
static SPAWNER: LazyLock<Mutex<mpsc::Sender<Request>>> = LazyLock::new(|| {
    let (requests, inbox) = mpsc::channel::<Request>();
    std::thread::Builder::new()
        .name("testbed-spawner".to_owned())
        .spawn(move || {
            for (mut command, reply) in inbox {
                // A requester that gave up drops the reply; its child is then killed here.
                if let Err(mpsc::SendError(Ok(mut child))) = reply.send(command.spawn()) {
                    child.kill().and_then(|()| child.wait()).ok();
                }
            }
        })
        .expect("a thread can be started");
    Mutex::new(requests)
});

/// Spawns from the long-lived thread.
fn spawn(command: Command) -> io::Result<Child> {
    let (reply, answer) = mpsc::channel();
    let lost = || io::Error::other("the spawner thread is gone");
    SPAWNER
        .lock()
        .map_err(|_| lost())?
        .send((command, reply))
        .map_err(|_| lost())?;
    answer.recv().map_err(|_| lost())?
}

/// A running (or ended, but not yet forgotten) child. Dropping it kills its process group and waits for it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    group: bool,
}

impl Process {
    /// Stays valid until the drop, even after the child ended.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last 4 KiB of the log, for error messages.
    pub fn log_tail(&self) -> String {
        tail(&self.log, 4096).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// How the child ended, or `None` while it runs.
    pub fn exit(&self) -> Option<ExitStatus> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.nix_pid()), flags) {
            Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
            Ok(_) | Err(_) => None,
        }
    }

    /// Waits for the child to end by itself.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let this = &*self;
        Ok(wait::until(limit, &what, || async { this.exit() }).await?)
    }

    /// Polls `probe` until it gives a value; fails at once when the child ends before.
    ///
    /// # Errors
    /// The child ended, or `limit` passed; both with the end of its log.
    pub async fn ready<T, F, Fut>(&self, limit: Duration, mut probe: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<T>>,
    {
        let what = format!("{} to be ready", self.name);
        let found = wait::until(limit, &what, || {
            let ended = self.exit();
            let next = probe();
            async move {
                match ended {
                    Some(status) => Some(Err(status)),
                    None => next.await.map(Ok),
                }
            }
        })
        .await;
        let trouble = match found {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => format!("{} ended with {status} before it was ready", self.name),
            Err(error) => error.to_string(),
        };
        bail!("{trouble}; log {}:\n{}", self.log.display(), self.log_tail())
    }

    /// Sends `signal` to the child (to its whole group when it is namespaced, because `unshare` forwards nothing).
    ///
    /// # Errors
    /// The kernel refuses; a child that already ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = if self.group {
            killpg(self.nix_pid(), signal)
        } else {
            kill(self.nix_pid(), signal)
        };
        match sent {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal} to {}", self.name)),
        }
    }

    /// Sends `signal` and waits for the end; the rest of the group is killed afterwards.
    ///
    /// # Errors
    /// The child still runs after `limit`; it is killed then.
    pub async fn stop(mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(limit).await
    }

    /// The first process inside the namespaces of a namespaced child, as seen from here.
    ///
    /// # Errors
    /// The child is not namespaced, or ended.
    pub fn first_inside(&self) -> Result<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let first = children.split_whitespace().next().filter(|_| self.group);
        Ok(first
            .with_context(|| format!("{} has nothing in namespaces", self.name))?
            .parse()?)
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits in pid_t"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The child is not reaped yet, so its pid still names its group and nothing else.
        killpg(self.nix_pid(), Signal::SIGKILL).ok();
        self.child.wait().ok();
    }
}

/// The last `limit` bytes of a file, invalid UTF-8 replaced.
///
/// # Errors
/// The file cannot be read.
pub fn tail(path: &Path, limit: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds a program in PATH, then in the directories where Debian hides daemons.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let hidden = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(hidden)
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

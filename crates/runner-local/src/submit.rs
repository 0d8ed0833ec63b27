//! From a piece of work to a supervisor that owns it: at most one per attempt, however often and from
//! wherever it is submitted.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::{OFlag, renameat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qwex_core::ObjectUid;
use qwex_runner::durable::{Dir, Durability};
use qwex_runner::{Key, RunnerError, Submitted, Work};

use crate::backend::{Inner, LocalBackend, failed};
use crate::check;
use crate::config::Environment;
use crate::identity::ProcessId;
use crate::records::{self, NOTES, SUPERVISOR, SupervisorRecord, WORK, WorkRecord};
use crate::survivors::{ATTEMPT, RUN_ID, SUPERVISES};
use crate::waiting::Waiting;

/// How long a supervisor may take to say who it is.
const GREETING_LIMIT: Duration = Duration::from_secs(20);

static NEXT_NEW: AtomicU32 = AtomicU32::new(0);

impl LocalBackend {
    /// [`qwex_runner::Runner::submit`] without a runtime. Returns once the supervisor has taken over.
    pub fn submit_sync(&self, work: &Work) -> Result<Submitted, RunnerError> {
        self.submit_to(None, work, || Ok(()))
    }

    /// The same with a supervisor that may have been started already. Once the work is in its place, and before its
    /// command may start, `settle` is called: what is written beside the work survives a power failure after it.
    ///
    /// # Errors
    /// As of [`LocalBackend::submit_sync`]; or `settle` failed.
    pub fn submit_to(
        &self,
        waiting: Option<Waiting>,
        work: &Work,
        settle: impl FnOnce() -> io::Result<()>,
    ) -> Result<Submitted, RunnerError> {
        check::work(&self.inner.config, work)?;
        let key = Key::of_work(work);
        let broken = |error: io::Error| failed("start", key, &error);
        self.inner.reap();
        let (dir, adopted) = self.inner.claim(key, work)?;
        settle().map_err(broken)?;
        let known: Option<SupervisorRecord> = records::read(&dir, SUPERVISOR).map_err(broken)?;
        let uid = match known {
            Some(supervisor) => supervisor.process.uid(),
            None => self.inner.supervise(key, &dir, waiting)?,
        };
        self.inner.changed.notify_waiters();
        let mut backend = self.inner.backend_info(key);
        backend.uid = Some(uid);
        Ok(Submitted { backend, adopted })
    }
}

impl Inner {
    /// Makes the directory of the attempt, whole or not at all; or opens the one that is there.
    fn claim(&self, key: Key, work: &Work) -> Result<(Dir, bool), RunnerError> {
        let broken = |error: io::Error| failed("make a directory for", key, &error);
        let known = self.config.layout.open(&self.root, key).map_err(broken)?;
        if let Some(dir) = known
            && dir.has(WORK).map_err(broken)?
        {
            return Ok((self.adopt(key, work, dir)?, true));
        }
        let (parent, name) = self.config.layout.ensure_place(&self.root, key).map_err(broken)?;
        match self.make(key, work, &parent, &name).map_err(broken)? {
            Some(dir) => Ok((dir, false)),
            None => {
                let dir = parent.open_dir(&name).map_err(broken)?;
                Ok((self.adopt(key, work, dir)?, true))
            }
        }
    }

    /// Makes the directory with its work; `None` if somebody was quicker.
    fn make(&self, key: Key, work: &Work, parent: &Dir, name: &str) -> io::Result<Option<Dir>> {
        in_place(parent, name, |dir| {
            let working_dir = self.working_dir(work, dir, &parent.path().join(name))?;
            let record = self.work_record(key, work, working_dir);
            records::write(dir, WORK, &record, Durability::Whole)
        })
    }

    fn working_dir(&self, work: &Work, dir: &Dir, place: &Path) -> io::Result<PathBuf> {
        match (&work.spec.working_dir, &self.config.working_dir) {
            (Some(asked), _) => Ok(PathBuf::from(asked)),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => {
                dir.create_dir("work")?;
                Ok(place.join("work"))
            }
        }
    }

    fn work_record(&self, key: Key, work: &Work, working_dir: PathBuf) -> WorkRecord {
        let spec = &work.spec;
        WorkRecord {
            run_id: work.run_id,
            attempt: work.attempt,
            spec_hash: spec.hash(),
            command: spec.command.clone(),
            env: spec.env.clone(),
            working_dir,
            timeout_ms: spec
                .timeout
                .map(|timeout| u64::try_from(timeout.as_duration().as_millis()).unwrap_or(u64::MAX)),
            grace_ms: u64::try_from(self.config.grace.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: spec.resources.memory_bytes().ok().flatten(),
            cpu_millis: spec.resources.cpu_millis().ok().flatten(),
            output: self.config.output,
            log_place: self.config.layout.log_place(key),
            unused: check::unused(spec),
            created_at: Timestamp::now(),
        }
    }

    /// Checks that what is there is this very work.
    fn adopt(&self, key: Key, work: &Work, dir: Dir) -> Result<Dir, RunnerError> {
        let conflict = |message: &str| RunnerError::NameConflict {
            object: key.run_id.object_name(key.attempt),
            message: message.to_owned(),
        };
        let record: Option<WorkRecord> =
            records::read(&dir, WORK).map_err(|error| failed("read", key, &error))?;
        match record {
            Some(record) if record.spec_hash == work.spec.hash() || record.is_forestalled() => Ok(dir),
            Some(_) => Err(conflict("it was submitted with another spec")),
            None => Err(conflict("its directory holds no work of ours")),
        }
    }

    /// Starts a supervisor, unless there is one that waits for its word, and waits for its greeting.
    fn supervise(&self, key: Key, dir: &Dir, waiting: Option<Waiting>) -> Result<ObjectUid, RunnerError> {
        let told = waiting.and_then(|waiting| waiting.begin(key));
        let mut child = match told {
            Some(child) => child,
            None => self
                .supervisor_beside(key, dir)
                .and_then(|mut command| command.spawn())
                .map_err(|error| failed("start the supervisor of", key, &error))?,
        };
        let greeting = greeting(&mut child);
        self.look_after(child);
        let greeting = greeting.map_err(|error| failed("hear from the supervisor of", key, &error))?;
        match greeting.parse::<ProcessId>() {
            Ok(process) => Ok(process.uid()),
            Err(_) => Err(failed("supervise", key, &io::Error::other(greeting))),
        }
    }

    /// A supervisor of work that is in its place.
    fn supervisor_beside(&self, key: Key, dir: &Dir) -> io::Result<Command> {
        let notes = dir.open_file(NOTES, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND)?;
        let mut command = self.supervisor_command(key, dir.path())?;
        command.stdin(Stdio::null()).stderr(notes);
        Ok(command)
    }

    /// No `pre_exec` and no process group here: either would fork this process instead of spawning.
    pub(crate) fn supervisor_command(&self, key: Key, dir: &Path) -> io::Result<Command> {
        let mut argv = self.config.supervisor.iter();
        let program = argv
            .next()
            .ok_or_else(|| io::Error::other("no supervisor program is configured"))?;
        let mut command = Command::new(program);
        command
            .args(argv)
            .arg(dir)
            .current_dir("/")
            .stdout(Stdio::piped());
        match self.config.environment {
            Environment::Inherit => {
                command.env_remove(RUN_ID).env_remove(ATTEMPT);
            }
            Environment::Clean => {
                command.env_clear();
                let basics = Environment::BASICS
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?)));
                command.envs(basics);
            }
        }
        command.env(SUPERVISES, key.run_id.object_name(key.attempt));
        Ok(command)
    }
}

/// Fills a directory under a temporary name and renames it into place; `None` if somebody was quicker. A power failure may
/// leave it empty, which nothing else does: the supervisor syncs it before its command runs. Such a one is replaced.
pub(crate) fn in_place(
    parent: &Dir,
    name: &str,
    fill: impl FnOnce(&Dir) -> io::Result<()>,
) -> io::Result<Option<Dir>> {
    let number = NEXT_NEW.fetch_add(1, Ordering::Relaxed);
    let temp = format!(".new-{name}-{}-{number}", std::process::id());
    parent.remove_tree(&temp)?;
    let dir = parent.create_dir(&temp)?;
    fill(&dir)?;
    match renameat(parent.as_fd(), temp.as_str(), parent.as_fd(), name) {
        Ok(()) => {
            parent.sync()?;
            Ok(Some(parent.open_dir(name)?))
        }
        Err(nix::Error::EEXIST | nix::Error::ENOTEMPTY | nix::Error::ENOTDIR) => {
            parent.remove_tree(&temp)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the one line that a supervisor says.
fn greeting(child: &mut Child) -> io::Result<String> {
    let mut out = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("its output is no pipe"))?;
    let deadline = Instant::now() + GREETING_LIMIT;
    let mut said = Vec::new();
    while !said.contains(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = u16::try_from(left.as_millis()).unwrap_or(u16::MAX);
        let ready = poll(
            &mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(millis),
        );
        match ready {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing")),
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut part = [0; 512];
        match out.read(&mut part)? {
            0 => break,
            length => said.extend_from_slice(&part[..length]),
        }
    }
    let line = String::from_utf8_lossy(&said).trim().to_owned();
    if line.is_empty() {
        return Err(io::Error::other("it ended without a word; see supervisor.log"));
    }
    Ok(line)
}

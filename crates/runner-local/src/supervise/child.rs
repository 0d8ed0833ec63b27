//! The command of an attempt: started in its own session with files for output, attended until
//! it and all it left behind are gone.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use qwex_runner::durable::Dir;

use super::ending::{self, Asked, Left};
use super::own_log::OwnLogs;
use crate::identity::ProcessId;
use crate::layout::LogPlace;
use crate::limits::Held;
use crate::oom::OomKills;
use crate::records::{CANCEL, EndRecord, OutputMode, StartRecord, WorkRecord};
use crate::survivors::{self, ATTEMPT, Mark, RUN_ID, SUPERVISES};
use crate::sys::{self, Reaped, Used};

/// A cancel is signalled; looking again after this long is for a signal that went astray.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long killed processes may take to be gone.
const BURIAL_LIMIT: Duration = Duration::from_secs(5);

/// Signals come to this file descriptor and nowhere else.
pub struct Signals(SignalFd);

impl Signals {
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
        ] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self(fd))
    }

    /// Waits for signals, at most this long; tells whether we were told to stop.
    fn wait(&self, limit: Duration) -> io::Result<bool> {
        let millis = limit.as_millis().min(60_000) as u16;
        let timeout = PollTimeout::from(millis.saturating_add(1));
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut told_to_stop = false;
        while let Some(info) = self.0.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            told_to_stop |= number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32;
        }
        Ok(told_to_stop)
    }
}

/// Why a command could not be started; 127: not found, 126: found and not executable.
pub struct Refusal {
    pub exit_code: i32,
    pub message: String,
}

/// A command that runs.
pub struct Started {
    pub record: StartRecord,
    pub oom_before: OomKills,
    pub held: Held,
    pub logs: OwnLogs,
}

/// Starts the command within its limits.
pub fn start(dir: &Dir, work: &WorkRecord, held: Held) -> Result<Started, Refusal> {
    if !work.working_dir.is_dir() {
        return Err(Refusal {
            exit_code: 126,
            message: format!(
                "the working directory {} is not there",
                work.working_dir.display()
            ),
        });
    }
    let refused = |what: &str, error: &io::Error| Refusal {
        exit_code: 126,
        message: format!("{what}: {error}"),
    };
    let (program, args) = work.command.split_first().ok_or_else(|| Refusal {
        exit_code: 127,
        message: "the command is empty".to_owned(),
    })?;
    let (out, err, logs) =
        outputs(dir, work).map_err(|error| refused("cannot make the log files", &error))?;
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(&work.working_dir)
        .env_remove(SUPERVISES)
        .envs(&work.env)
        .env(RUN_ID, work.run_id.to_string())
        .env(ATTEMPT, work.attempt.to_string())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    let doors = held
        .doors()
        .map_err(|error| refused("cannot enter its control group", &error))?;
    sys::own_session(&mut command, doors, held.address_space);
    let oom_before = OomKills::now();
    let child = command.spawn().map_err(|error| start_error(program, &error))?;
    let started_at = Timestamp::now();
    let pid =
        i32::try_from(child.id()).map_err(|_| refused("cannot follow it", &io::Error::other("odd pid")))?;
    let process = identity_of_child(pid);
    Ok(Started {
        record: StartRecord { process, started_at },
        oom_before,
        held,
        logs,
    })
}

/// A child that already ended is a zombie, and still the one we started: nobody but us reaps it.
fn identity_of_child(pid: i32) -> ProcessId {
    let start_ticks = crate::identity::Stat::read(pid).map_or(0, |stat| stat.start_ticks);
    ProcessId {
        boot_id: crate::identity::boot_id().to_owned(),
        pid,
        start_ticks,
    }
}

fn start_error(program: &str, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound => Refusal {
            exit_code: 127,
            message: format!("{program}: command not found"),
        },
        _ => Refusal {
            exit_code: 126,
            message: format!("{program}: cannot be executed: {error}"),
        },
    }
}

fn outputs(dir: &Dir, work: &WorkRecord) -> io::Result<(File, File, OwnLogs)> {
    let place = match work.log_place {
        LogPlace::Within => dir.try_clone()?,
        LogPlace::Above => Dir::open(dir.path().join(".."))?,
    };
    let open = |stream: &str| {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND;
        place.open_file(&format!("{stream}.log"), flags)
    };
    match work.output {
        OutputMode::Split => {
            let (out, err) = (open("stdout")?, open("stderr")?);
            let logs = OwnLogs::new(&place, &[("stdout", &out), ("stderr", &err)])?;
            Ok((out, err, logs))
        }
        OutputMode::Merged => {
            let both = open("output")?;
            let logs = OwnLogs::new(&place, &[("output", &both)])?;
            Ok((both.try_clone()?, both, logs))
        }
    }
}

/// Waits for the end of the command: cancels it, ends it at its timeout, buries what it leaves.
pub fn attend(
    dir: &Dir,
    work: &WorkRecord,
    signals: &Signals,
    mut started: Started,
) -> io::Result<EndRecord> {
    let mark = Mark {
        run_id: work.run_id,
        attempt: work.attempt,
        supervisor: Some(nix::unistd::getpid().as_raw()),
        command: Some(started.record.process.clone()),
    };
    let pid = started.record.process.pid;
    let mut stop = Stop::new(work);
    let mut left = Left::default();
    let reaped = loop {
        if let Some(reaped) = reap_until(pid, &mut left.used)? {
            break reaped;
        }
        let told_to_stop = signals.wait(stop.next_look().min(started.logs.next_look()))?;
        started.logs.look(dir);
        // The signal says only that there may be something to read.
        if dir.has(CANCEL)? {
            stop.ask(Asked::Cancel, &mark);
        } else if told_to_stop {
            stop.ask(Asked::Stop, &mark);
        }
        stop.keep_time(&mark);
    };
    left.over = bury(&mark, signals, &mut left.used)?;
    started.logs.look(dir);
    Ok(ending::told_if_full(
        ending::ended(started, &reaped, stop.asked, &left),
        dir,
    ))
}

/// Takes ended children off the process table, up to the command itself.
fn reap_until(pid: i32, used: &mut Used) -> io::Result<Option<Reaped>> {
    while let Some(reaped) = sys::reap_any()? {
        *used = used.and(reaped.used);
        if reaped.pid == pid {
            return Ok(Some(reaped));
        }
    }
    Ok(None)
}

/// Kills what the command left behind, as the end of a container does; tells how many there were.
fn bury(mark: &Mark, signals: &Signals, used: &mut Used) -> io::Result<u32> {
    let deadline = Instant::now() + BURIAL_LIMIT;
    let mut most = 0;
    if !has_children_file() {
        most = u32::try_from(survivors::signal(mark, Signal::SIGKILL)).unwrap_or(u32::MAX);
    }
    while !nothing_below(used)? {
        let left = survivors::signal(mark, Signal::SIGKILL);
        most = most.max(u32::try_from(left).unwrap_or(u32::MAX));
        if Instant::now() > deadline {
            break;
        }
        signals.wait(Duration::from_millis(20))?;
    }
    Ok(most)
}

/// Whether we have no children any more. As a subreaper we get every orphan, so that then nothing that
/// descends from the command is left. Supervisors of other runs are not ours to bury.
fn nothing_below(used: &mut Used) -> io::Result<bool> {
    while let Some(reaped) = sys::reap_any()? {
        *used = used.and(reaped.used);
    }
    let children = std::fs::read_to_string(children_file()).unwrap_or_default();
    Ok(children
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .all(survivors::is_supervisor))
}

/// Not every kernel has it; without it, who carries our mark is looked for once.
fn has_children_file() -> bool {
    std::path::Path::new(&children_file()).exists()
}

fn children_file() -> String {
    let own = nix::unistd::getpid();
    format!("/proc/{own}/task/{own}/children")
}

/// The way from a wish to stop to the end: TERM, grace, KILL.
struct Stop {
    asked: Option<Asked>,
    deadline: Option<Instant>,
    kill_at: Option<Instant>,
    grace: Duration,
}

impl Stop {
    fn new(work: &WorkRecord) -> Self {
        let timeout = work.timeout_ms.map(Duration::from_millis);
        Self {
            asked: None,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            kill_at: None,
            grace: Duration::from_millis(work.grace_ms),
        }
    }

    /// The first wish counts.
    fn ask(&mut self, why: Asked, mark: &Mark) {
        if self.asked.is_some() {
            return;
        }
        self.asked = Some(why);
        self.kill_at = Some(Instant::now() + self.grace);
        survivors::signal(mark, Signal::SIGTERM);
    }

    fn keep_time(&mut self, mark: &Mark) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.ask(Asked::Timeout, mark);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            // Again and again: one that forks quicker than we look must not get away.
            self.kill_at = Some(now + Duration::from_millis(100));
            survivors::signal(mark, Signal::SIGKILL);
        }
    }

    fn next_look(&self) -> Duration {
        let now = Instant::now();
        [self.deadline, self.kill_at]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .fold(LOOK_AGAIN, Duration::min)
    }
}

//! The supervisor: owns one attempt from before its command starts until its end is on disk. A hidden
//! subcommand of qwexctl and qwexcloud, started by submit; it outlives whoever started it.
//!
//! Single-threaded; must not: talk to a network, hold a pipe to anybody after the greeting, start a
//! command twice.

mod child;
mod ending;
mod own_log;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::sys::prctl::set_child_subreaper;
use qwex_runner::Key;
use qwex_runner::durable::{Dir, Durability};

use crate::identity::ProcessId;
use crate::limits::{Held, Wanted};
use crate::records::{
    self, CANCEL, END, EndRecord, LOCK, NOTES, START, SUPERVISOR, SupervisorRecord, WORK, WorkRecord,
};
use crate::waiting::is_told_to_begin;
use child::Signals;

/// How long a second supervisor waits for the first one to say who it is.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// Supervises the attempt in `dir` until its command has ended. Call it first thing in `main`, before
/// any thread is started.
pub fn main(dir: &Path) -> ExitCode {
    told(dir, Own::begin().and_then(|own| supervise(dir, own)))
}

/// The same for [`LocalBackend::start_waiting`](crate::LocalBackend::start_waiting): once the word came that the attempt
/// is there; else it ends without a trace.
pub fn main_waiting(dir: &Path) -> ExitCode {
    let supervised = Own::begin().and_then(|own| {
        if !is_told_to_begin()? {
            return Ok(());
        }
        take_notes(dir)?;
        supervise(dir, own)
    });
    told(dir, supervised)
}

fn told(dir: &Path, supervised: io::Result<()>) -> ExitCode {
    match supervised {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever submitted reads the first line; a supervisor.log beside the records keeps the rest.
            greet(&format!("error: {error}"));
            note(&format!("supervisor of {}: {error}", dir.display()));
            ExitCode::FAILURE
        }
    }
}

/// This process, apart from any attempt.
struct Own {
    signals: Signals,
    process: ProcessId,
}

impl Own {
    fn begin() -> io::Result<Self> {
        if threads()? > 1 {
            // Signals are blocked for this thread only; another one would take them and end us.
            return Err(io::Error::other(
                "a supervisor must begin before any thread is started",
            ));
        }
        // Fails only for the leader of a process group, who has no terminal to lose.
        nix::unistd::setsid().ok();
        set_child_subreaper(true)?;
        let signals = Signals::block()?;
        let process = ProcessId::own()?;
        Ok(Self { signals, process })
    }
}

fn supervise(dir: &Path, own: Own) -> io::Result<()> {
    let Own { signals, process } = own;
    let dir = Dir::open(dir)?;
    let Some(_lock) = take_lock(&dir)? else {
        greet(&other_supervisor(&dir)?);
        return Ok(());
    };
    if let Some(earlier) = records::read::<SupervisorRecord>(&dir, SUPERVISOR)? {
        greet(&earlier.process.to_string());
        return Ok(());
    }
    let work: WorkRecord = records::read(&dir, WORK)?
        .ok_or_else(|| io::Error::other(format!("{} holds no readable {WORK}", dir.path().display())))?;
    let wanted = Wanted {
        memory_bytes: work.memory_bytes,
        cpu_millis: work.cpu_millis,
    };
    let held = Held::make(&Key::new(work.run_id, work.attempt).object(), wanted);
    let own = SupervisorRecord::now(process.clone(), held.words.clone());
    records::write(&dir, SUPERVISOR, &own, Durability::Whole)?;
    greet(&process.to_string());
    // A power failure before this leaves an attempt that nobody attends and whose command never ran.
    let synced = dir.sync();
    if dir.has(END)? {
        // Cancelled before any supervisor began; only who it is was not written down yet.
        return Ok(());
    }
    let reserve = ending::Reserve::set_aside(&dir);
    let end = match synced {
        Ok(()) => run(&dir, &work, &signals, held)?,
        Err(error) => ending::never_started(
            records::EndCause::StartError,
            None,
            format!("what is known of it cannot be stored: {error}"),
        ),
    };
    ending::store(&dir, &end, reserve)
}

fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Runs the command, unless the attempt was cancelled before.
fn run(dir: &Dir, work: &WorkRecord, signals: &Signals, held: Held) -> io::Result<EndRecord> {
    if dir.has(CANCEL)? {
        return Ok(ending::never_started(
            records::EndCause::Cancelled,
            None,
            "cancelled before its command started".to_owned(),
        ));
    }
    match child::start(dir, work, held) {
        Ok(started) => {
            if let Err(error) = records::write(dir, START, &started.record, Durability::Process) {
                // The command runs; a full disk must not end it.
                note(&format!("cannot store {START}: {error}"));
            }
            child::attend(dir, work, signals, started)
        }
        Err(refusal) => Ok(ending::never_started(
            records::EndCause::StartError,
            Some(refusal.exit_code),
            refusal.message,
        )),
    }
}

/// The right to start the command. Held until this process is gone.
pub(crate) fn take_lock(dir: &Dir) -> io::Result<Option<File>> {
    let lock = dir.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Identity of the supervisor that was quicker.
fn other_supervisor(dir: &Dir) -> io::Result<String> {
    let deadline = Instant::now() + GREETING_LIMIT;
    loop {
        if let Some(other) = records::read::<SupervisorRecord>(dir, SUPERVISOR)? {
            return Ok(other.process.to_string());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(
                "another supervisor holds the lock and does not say who it is",
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A line for people, in a file that may find no room: that must end nobody, as `eprintln!` does.
fn note(line: &str) {
    writeln!(io::stderr(), "{} {line}", Timestamp::now()).ok();
}

/// Says one line to whoever submitted, and lets go of the pipe.
fn greet(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        nix::unistd::dup2_stdout(null).ok();
    }
}

/// From here on stderr is the file beside the records, and stdin is nobody.
fn take_notes(dir: &Path) -> io::Result<()> {
    let notes = Dir::open(dir)?.open_file(NOTES, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND)?;
    nix::unistd::dup2_stderr(notes)?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(())
}

/// Whether the end is on disk.
pub(crate) fn has_end(dir: &Dir) -> io::Result<bool> {
    dir.has(END)
}

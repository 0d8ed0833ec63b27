//! The process that keeps a run that no supervisor of its own keeps: `qwexctl __keep DIR RUN`. One per run, by a
//! file lock; whoever looks at a run without a keeper starts another, so that killing one loses nothing.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use qwex_core::{Run, RunId};
use qwex_runner::{Journal, StoreError};
use qwex_runner_local::survivors::{ATTEMPT, RUN_ID, SUPERVISES};

use super::drive::Drive;
use super::error::DirectError;
use super::outputs::Outputs;
use super::runs::Direct;
use super::starts::Starts;
use super::vouch;

/// The hidden subcommand.
pub const KEEP: &str = "__keep";
const LOCK: &str = ".keeper";
const NOTES: &str = "keeper.log";
/// How often the same trouble is noted.
const SAME: Duration = Duration::from_secs(600);
/// Who keeps a run for so long could begin.
const BEGUN: Duration = Duration::from_secs(2);

/// The keepers that this process started and that have not been seen to end.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Why a run that should have a keeper gets none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unkept {
    #[error(
        "nobody can say that you submitted it on this machine ({doubt}), so nothing of it is started or followed here"
    )]
    Foreign { doubt: String },
    #[error("the process that keeps it was started {starts} times and could not begin: {line}")]
    Failing { starts: u32, line: String },
}

/// Starts a keeper unless there is one. `Some`: it gets none now.
///
/// # Errors
/// The lock cannot be looked at, or no process can be started.
pub fn ensure(dir: &Path, journal: &Journal, run: &Run) -> Result<Option<Unkept>, DirectError> {
    reap();
    // Let go at once: the keeper takes it for itself, and of two keepers one leaves.
    if take(journal)?.is_none() {
        return Ok(None);
    }
    // A keeper that ended after the caller had read the run stored all of it before it let go.
    let stored = journal.read()?;
    if stored.logs.is_some() && !Outputs::are_tried(journal, &stored)? {
        return Ok(None);
    }
    if let Some(doubt) = vouch::doubt(journal, run)? {
        return Ok(Some(Unkept::Foreign { doubt }));
    }
    let now = Timestamp::now();
    let mut starts = Starts::read(journal)?;
    if starts.may_begin(now) {
        starts = starts.note(journal, now)?;
        spawn(dir, journal, run)?;
    }
    let failing = starts.too_many().map(|starts| Unkept::Failing {
        starts,
        line: last_note(journal),
    });
    Ok(failing)
}

/// Lets a run that could not be kept be tried at once: somebody asks for it who may have mended what was amiss.
///
/// # Errors
/// It cannot be noted.
pub fn try_anew(journal: &Journal) -> Result<(), StoreError> {
    Starts::forget(journal)
}

fn spawn(dir: &Path, journal: &Journal, run: &Run) -> Result<(), DirectError> {
    let surroundings = |source| DirectError::Surroundings {
        what: "the program qwexctl",
        source,
    };
    let own = std::env::current_exe().map_err(surroundings)?;
    let notes = journal.open_file(NOTES, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND)?;
    let child =
        command(&own, dir, run)
            .stderr(notes)
            .spawn()
            .map_err(|source| DirectError::Surroundings {
                what: "a process to keep the run",
                source,
            })?;
    CHILDREN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(child);
    Ok(())
}

/// A keeper that is started within another run belongs to its own: that one's supervisor must not take it for what its
/// command left behind.
fn command(own: &Path, dir: &Path, run: &Run) -> Command {
    let mut command = Command::new(own);
    command
        .arg(KEEP)
        .arg(dir)
        .arg(run.id.to_string())
        .env_remove(RUN_ID)
        .env_remove(ATTEMPT)
        .env(SUPERVISES, run.id.object_name(run.attempt))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Lets go of the keepers of this process that have ended.
fn reap() {
    let mut children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// What the last keeper said.
fn last_note(journal: &Journal) -> String {
    let notes = journal.read_file(NOTES).ok().flatten().unwrap_or_default();
    let notes = String::from_utf8_lossy(&notes);
    let last = notes.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("it said nothing").to_owned()
}

/// Whether nobody keeps a run.
///
/// # Errors
/// The lock cannot be looked at.
pub fn is_missing(journal: &Journal) -> Result<bool, StoreError> {
    Ok(take(journal)?.is_some())
}

/// The right to keep a run once nobody else has it, held until dropped. For a run that is kept for moments only.
pub(super) fn take_in_turn(journal: &Journal) -> Result<File, StoreError> {
    let lock = journal.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)?;
    let taken = lock.lock().map(|()| lock);
    taken.map_err(|source| StoreError::io("lock", &journal.path_of(LOCK), source))
}

/// The right to keep a run, held until dropped; `None`: another process has it.
pub(super) fn take(journal: &Journal) -> Result<Option<File>, StoreError> {
    let lock = journal.open_file(LOCK, OFlag::O_RDWR | OFlag::O_CREAT)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::io("lock", &journal.path_of(LOCK), source)),
    }
}

/// Keeps a run to its end. What goes wrong is written to the run's `keeper.log`.
#[must_use]
pub fn main(dir: &Path, id: RunId) -> ExitCode {
    // The terminal's signals are for the commands in it; a keeper outlives it.
    nix::unistd::setsid().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let kept = match runtime {
        Ok(runtime) => runtime.block_on(keep(dir, id)),
        Err(source) => Err(DirectError::Surroundings {
            what: "a runtime",
            source,
        }),
    };
    match kept {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// A line for whoever looks why a run is not kept well. Trouble may last for days: the same line is written from time to
/// time only.
pub fn note(line: &str) {
    static SAID: Mutex<Said> = Mutex::new(Said(BTreeMap::new()));
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_news(line, Instant::now()) {
        // A full disk must not end who keeps the run, as `eprintln!` does.
        writeln!(io::stderr(), "{} {line}", Timestamp::now()).ok();
    }
}

/// Lines by when they were written.
struct Said(BTreeMap<String, Instant>);

impl Said {
    fn is_news(&mut self, line: &str, now: Instant) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < SAME);
        let is_news = !self.0.contains_key(line);
        if is_news {
            self.0.insert(line.to_owned(), now);
        }
        is_news
    }
}

async fn keep(dir: &Path, id: RunId) -> Result<(), DirectError> {
    let direct = Direct::at(dir)?;
    let journal = direct.journal(id)?;
    let Some(_lock) = take(&journal)? else {
        return Ok(());
    };
    if let Some(doubt) = vouch::doubt(&journal, &journal.read()?)? {
        return Err(DirectError::Unkept {
            id,
            why: Unkept::Foreign { doubt },
        });
    }
    let keeping = async {
        match Drive::begin(&direct, journal.clone()).await? {
            Some(drive) => drive.run().await,
            None => Ok(()),
        }
    };
    let begun = async {
        tokio::time::sleep(BEGUN).await;
        Starts::forget(&journal)
    };
    let mut keeping = std::pin::pin!(keeping);
    tokio::select! {
        kept = &mut keeping => return kept,
        begun = begun => begun?,
    }
    keeping.await
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use qwex_core::RunStatus;
    use serde_json::json;

    use super::super::log_files;
    use super::*;

    #[test]
    fn trouble_that_lasts_does_not_fill_the_disk() {
        let (mut said, began) = (Said(BTreeMap::new()), Instant::now());
        let written =
            (0..3600_u64).filter(|second| said.is_news("no route", began + Duration::from_secs(*second)));
        assert_eq!(written.count(), 6);
        assert!(said.is_news("another", began) && said.0.len() == 2);
        assert!(said.is_news("later", began + SAME * 20) && said.0.len() == 1);
    }

    #[test]
    fn a_run_whose_keeper_has_just_stored_its_end_gets_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let direct = Direct::at(dir.path()).unwrap();
        let mut read = run();
        read.status = RunStatus::Succeeded;
        let journal = direct.store().create(&read).unwrap();
        let is_foreign = |known: Option<Unkept>| matches!(known, Some(Unkept::Foreign { .. }));
        assert!(is_foreign(ensure(dir.path(), &journal, &read).unwrap()));
        journal
            .seal_logs(log_files::sum_up(&journal, read.attempt).unwrap())
            .unwrap();
        assert_eq!(ensure(dir.path(), &journal, &read).unwrap(), None);
    }

    fn run() -> Run {
        serde_json::from_value(json!({
            "id": RunId::mint(), "project": "default", "spec": {"command": ["true"]}, "status": "pending",
            "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
        }))
        .unwrap()
    }

    #[test]
    fn a_keeper_bears_the_mark_of_a_supervisor_and_of_no_other_run() {
        let run = run();
        let command = command(Path::new("qwexctl"), Path::new("/"), &run);
        let of = |name: &str| command.get_envs().find(|(key, _)| *key == OsStr::new(name));
        assert_eq!(of(RUN_ID).unwrap().1, None, "taken out");
        assert_eq!(of(ATTEMPT).unwrap().1, None, "taken out");
        let object = run.id.object_name(run.attempt);
        assert_eq!(of(SUPERVISES).unwrap().1, Some(OsStr::new(&object)));
    }
}

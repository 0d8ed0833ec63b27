//! The process that keeps a run that no supervisor of its own keeps: `qwexctl __keep DIR RUN`. One per run, by a
//! file lock; whoever looks at a run without a keeper starts another, so that killing one loses nothing.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::fcntl::OFlag;
use qwex_core::RunId;
use qwex_runner::{Journal, StoreError};

use super::drive::Drive;
use super::error::DirectError;
use super::runs::Direct;

/// The hidden subcommand.
pub const KEEP: &str = "__keep";
const LOCK: &str = ".keeper";
const NOTES: &str = "keeper.log";

/// Starts a keeper unless there is one.
///
/// # Errors
/// The lock cannot be looked at, or no process can be started.
pub fn ensure(dir: &Path, journal: &Journal) -> Result<(), DirectError> {
    // Let go at once: the keeper takes it for itself, and of two keepers one leaves.
    if take(journal)?.is_none() {
        return Ok(());
    }
    let surroundings = |source| DirectError::Surroundings {
        what: "the program qwexctl",
        source,
    };
    let own = std::env::current_exe().map_err(surroundings)?;
    let notes = journal.open_file(NOTES, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND)?;
    Command::new(own)
        .arg(KEEP)
        .arg(dir)
        .arg(journal.id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(notes)
        .spawn()
        .map_err(|source| DirectError::Surroundings {
            what: "a process to keep the run",
            source,
        })?;
    Ok(())
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

/// A line for whoever looks why a run is not kept well.
pub fn note(line: &str) {
    eprintln!("{} {line}", jiff::Timestamp::now());
}

async fn keep(dir: &Path, id: RunId) -> Result<(), DirectError> {
    let direct = Direct::at(dir)?;
    let journal = direct.journal(id)?;
    let Some(_lock) = take(&journal)? else {
        return Ok(());
    };
    match Drive::begin(&direct, journal).await? {
        Some(drive) => drive.run().await,
        None => Ok(()),
    }
}

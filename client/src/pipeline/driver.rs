//! The process that drives a pipeline: `qwexctl __drive-pipeline ID`, in the project's directory. It outlives the
//! terminal and whoever started it. One per pipeline, by a file lock: of two, one leaves.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use qwex_runner_local::survivors::{ATTEMPT, RUN_ID, SUPERVISES};

use super::error::PipelineError;
use super::shelf::Shelved;

/// The hidden subcommand.
pub const DRIVE: &str = "__drive-pipeline";

/// Somebody may just look whether there is a driver.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Starts a driver. `flags` are those of every command, for backends that go through a server.
///
/// # Errors
/// No process can be started.
pub fn start(shelved: &Shelved, flags: &[String]) -> Result<(), PipelineError> {
    let broken = |source| PipelineError::io("start a driver in", &shelved.project, source);
    let own = std::env::current_exe().map_err(broken)?;
    let log = shelved.log()?;
    Command::new(own)
        .arg(DRIVE)
        .arg(shelved.id.to_string())
        .args(flags)
        .current_dir(&shelved.project)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Whoever starts it may be the command of a run; a driver outlives that.
        .env_remove(RUN_ID)
        .env_remove(ATTEMPT)
        .env(SUPERVISES, shelved.id.to_string())
        // The terminal's Ctrl-C is for whoever watches.
        .process_group(0)
        .spawn()
        .map_err(broken)?;
    Ok(())
}

/// Whether a driver is at work.
///
/// # Errors
/// The lock cannot be looked at.
pub fn is_driven(shelved: &Shelved) -> Result<bool, PipelineError> {
    shelved.is_locked()
}

/// The right to drive, for a driver that begins; `None`: there is another.
///
/// # Errors
/// The lock cannot be taken.
pub async fn take(shelved: &Shelved) -> Result<Option<File>, PipelineError> {
    for _ in 0..TRIES {
        if let Some(lock) = shelved.lock()? {
            return Ok(Some(lock));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(None)
}

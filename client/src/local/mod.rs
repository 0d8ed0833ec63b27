//! Runs without a server: processes of this machine, recorded in `.qwex/runs` of this directory. Knows no HTTP API.

mod error;
mod runs;

use std::path::Path;
use std::process::ExitCode;

pub use error::LocalError;
pub use runs::{Local, NewRun, handle_of};

/// The hidden subcommand that becomes the supervisor of a detached run.
pub const SUPERVISE: &str = "__supervise";

/// Owns one attempt until it is over; the process was started for nothing else.
#[must_use]
pub fn supervise(dir: &Path) -> ExitCode {
    qwex_runner_local::supervise::main(dir)
}

/// Whether runs can be recorded in this directory: where, or why not.
///
/// # Errors
/// The sentence for people.
pub fn check() -> Result<String, String> {
    let dir = std::env::current_dir().map_err(|error| error.to_string())?;
    let writable = nix::unistd::access(&dir, nix::unistd::AccessFlags::W_OK);
    writable.map_err(|error| format!("{} is not writable: {}", dir.display(), error.desc()))?;
    Ok(format!(
        "runs are recorded in {}",
        dir.join(".qwex/runs").display()
    ))
}

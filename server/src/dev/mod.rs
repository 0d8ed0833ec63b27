//! What `qwexcloud dev` brings along: a Postgres of its own, and the context through which the user's client finds it.
//! Called by `cli::dev`. Never used by a replica for real use.

mod binaries;
pub mod context_file;
mod owner;
mod postgres;
mod previous;
mod spawn;

pub use postgres::{DevError, Postgres};

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Supervises one attempt of the embedded cluster: the hidden subcommand that its runner starts. It must come before
/// any thread.
#[must_use]
pub fn supervise(dir: &Path) -> ExitCode {
    qwex_runner_local::supervise::main(dir)
}

/// The command that starts a supervisor; the directory of the attempt is appended.
///
/// # Errors
/// The path of this binary cannot be found.
pub fn supervisor_command() -> std::io::Result<Vec<OsString>> {
    Ok(vec![std::env::current_exe()?.into_os_string(), SUPERVISE.into()])
}

/// Name of the hidden subcommand.
pub const SUPERVISE: &str = "supervise";

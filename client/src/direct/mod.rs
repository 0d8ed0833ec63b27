//! Runs without a server, on any backend, recorded in `.qwex/runs` of this directory. Knows no HTTP API.
//!
//! `registry` has a line per backend; `runs` is what commands ask, `plain` what is a process of this machine and no
//! more; `keeper` is the process that sees to every other run, `starts` how often it could not begin, `vouch` whether
//! the run is this user's at all; `open`, `hand_over`, `drive` and `outputs` are what it does, `arrive` puts files that came into the workspace, `ask_outputs` has it bring what was given up, `copy_logs` and
//! `log_files` the log beside the record; `follow` reads it all back. `whole` is a run as another keeper of runs takes it, `receive`
//! one as it comes from there, `history` what happened to it, `facts` what this program itself says of one; `beside` reads the small
//! files next to a record.

mod arrive;
mod ask_outputs;
mod beside;
mod copy_logs;
mod drive;
mod error;
mod facts;
mod follow;
mod hand_over;
mod history;
pub mod keeper;
mod log_files;
mod open;
mod outputs;
mod placed;
mod plain;
mod receive;
pub mod registry;
mod runs;
#[cfg(test)]
#[path = "scripted_tests.rs"]
mod scripted;
mod starts;
mod upkeep;
mod vouch;
mod whole;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub use ask_outputs::Asked;
pub use error::DirectError;
pub use follow::{Follow, Followed};
pub use history::History;
pub use keeper::Unkept;
pub use outputs::Outputs;
pub use placed::{Placed, Sent};
pub use plain::handle_of;
pub use receive::Receiving;
pub use registry::Opening;
pub use runs::{Direct, NewRun};
pub use upkeep::Upkeep;
pub use whole::{LogBytes, Whole};

use plain::plain;
use qwex_runner_local::supervise;
use qwex_runner_local::waiting::WAIT;

/// The hidden subcommand that becomes the supervisor of a detached run.
pub const SUPERVISE: &str = "__supervise";

/// Does what the hidden subcommands of this room say, if the arguments are one of them: owns an attempt until it is
/// over, or sees to a run. They are not among what can be typed, and to learn of all that can be takes longer than
/// all a supervisor does before its command runs.
#[must_use]
pub fn own_process(args: &[OsString]) -> Option<ExitCode> {
    match args {
        [_, word, dir] if word == SUPERVISE => Some(supervise::main(Path::new(dir))),
        [_, word, dir, wait] if word == SUPERVISE && wait == WAIT => {
            Some(supervise::main_waiting(Path::new(dir)))
        }
        [_, word, dir, run] if word == keeper::KEEP => {
            let run = run.to_str()?.parse().ok()?;
            Some(keeper::main(Path::new(dir), run))
        }
        _ => None,
    }
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

fn local(opening: Opening) -> Result<qwex_runner_local::LocalBackend, qwex_runner::RunnerError> {
    plain(&opening.runs, opening.dir).map_err(|error| match error {
        DirectError::Runner(error) => error,
        error => qwex_runner::RunnerError::Failed {
            message: error.to_string(),
        },
    })
}

//! `qwexctl`, the command line of qwex: runs commands here or through qwexcloud, and shows what became of them.
//!
//! Rooms: `cli` says what can be typed, `commands` does it, `remote` is the only one that speaks HTTP, `direct` runs
//! without a server, `config` knows contexts and settings, `output` prints data, `progress` talks on stderr,
//! `mark` tells what this user put here from what somebody else did.

pub mod cli;
pub mod commands;
pub mod config;
pub mod direct;
pub mod error;
pub mod help;
mod mark;
pub mod output;
pub mod pipeline;
pub mod policy;
pub mod progress;
pub mod project_file;
pub mod remote;

use std::ffi::OsString;
use std::process::ExitCode;

/// Parses the arguments, does what they ask, prints the error if there is one.
pub fn start(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(ended) = direct::own_process(&args) {
        return ended;
    }
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(refusal) => return cli::refuse(&refusal),
    };
    cli.global.color.apply();
    match commands::dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            error.print();
            ExitCode::from(error.exit.code())
        }
    }
}

//! The command line of `qwexcloud`, and the place where the rooms are wired together.

use std::process::ExitCode;

use clap::Parser;

/// The qwex control plane: records, dispatches and explains runs.
#[derive(Debug, Parser)]
#[command(name = "qwexcloud", version)]
struct Cli {}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Cli {} = Cli::parse();
    ExitCode::SUCCESS
}

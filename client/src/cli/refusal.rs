//! What is printed when the arguments cannot be read: clap's words, and the fix for what people type most.

use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};

use crate::error::Exit;
use crate::progress::talk;

/// Prints help, version or the refusal, and gives the exit code.
#[must_use]
pub fn refuse(refusal: &clap::Error) -> ExitCode {
    refusal.print().ok();
    match refusal.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        ErrorKind::UnknownArgument if is_forgotten_dashes(refusal) => {
            talk("\nfix: put the command behind `--`: qwexctl run [FLAGS] -- CMD…\n");
            ExitCode::from(Exit::Usage.code())
        }
        ErrorKind::InvalidUtf8 => {
            talk("\nfix: arguments must be UTF-8; pass other bytes through a file\n");
            ExitCode::from(Exit::Usage.code())
        }
        _ => ExitCode::from(Exit::Usage.code()),
    }
}

/// `qwexctl run echo hi`.
fn is_forgotten_dashes(refusal: &clap::Error) -> bool {
    let usage = refusal
        .get(ContextKind::Usage)
        .map(ToString::to_string)
        .unwrap_or_default();
    usage.contains("qwexctl run")
}

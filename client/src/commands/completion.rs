//! `completion`: a script for the shell.

use clap::CommandFactory;

use super::Done;
use crate::cli::{Cli, CompletionArgs};
use crate::output::print;

pub fn completion(args: &CompletionArgs) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "qwexctl", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

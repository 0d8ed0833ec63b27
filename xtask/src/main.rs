//! Chores of the repository, run as `cargo xtask <chore>`. Each chore prints what is wrong as
//! `file:line: sentence` and ends with a failure; `make lint` and `.ci/run` call them.
//! Nothing here is part of a shipped binary.

mod arrows;
mod openapi;
mod report;
mod tidy;
mod tree;

use std::process::ExitCode;

use clap::Parser;

/// Chores of the qwex repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Hold every arrow between crates, and between the rooms inside server and client.
    CheckDeps,
    /// Hold lengths, words, and what must not be written anywhere.
    Tidy,
    /// Write openapi/qwex.json from the server, or check it.
    Openapi(openapi::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    let chore = Chore::parse();
    let root = tree::root();
    let breaches = match chore {
        Chore::CheckDeps => arrows::check(&root)?,
        Chore::Tidy => tidy::check(&root)?,
        Chore::Openapi(options) => openapi::run(&root, &options)?,
    };
    Ok(report::print(&breaches))
}

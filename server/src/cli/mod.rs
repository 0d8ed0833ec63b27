//! The command line of `qwexcloud`, and the place where the rooms are wired together.

mod dev;
mod healthcheck;
mod migrate;
mod probe;
mod replica;
mod serve;
mod token;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{DatabaseSettings, LogSettings, Settings};
use crate::telemetry;

/// The qwex control plane: records, dispatches and explains runs.
#[derive(Debug, Parser)]
#[command(name = "qwexcloud", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything on this machine: server, database, an embedded cluster
    Dev(dev::Options),
    /// Runs a replica
    Serve(serve::Options),
    /// Brings the database to the schema of this version
    Migrate(MigrateOptions),
    /// Makes tokens beside the database, for the first one
    #[command(subcommand)]
    Token(token::Command),
    /// Asks a replica on this machine whether it is ready
    Healthcheck(healthcheck::Options),
    /// Prints the OpenAPI document
    Openapi,
    /// Supervises one attempt of the embedded cluster
    #[command(name = crate::dev::SUPERVISE, hide = true)]
    Supervise { dir: PathBuf },
}

#[derive(Debug, clap::Args)]
struct MigrateOptions {
    #[command(flatten)]
    database: DatabaseSettings,
    #[command(flatten)]
    log: LogSettings,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    // Two TLS stacks in one process panic when neither is chosen.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("qwexcloud: a TLS crypto provider is installed already");
        return ExitCode::FAILURE;
    }
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("qwexcloud: {}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each once.
fn in_full(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Openapi => {
            std::io::stdout().write_all(crate::http::document_text().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Supervise { dir } => Ok(crate::dev::supervise(&dir)),
        Command::Dev(options) => {
            telemetry::init_tracing(&options.log)?;
            many_threads()?.block_on(dev::run(options))
        }
        Command::Serve(options) => {
            let Settings { log, .. } = &options.settings;
            telemetry::init_tracing(log)?;
            many_threads()?.block_on(serve::run(options))
        }
        Command::Migrate(MigrateOptions { database, log }) => {
            telemetry::init_tracing(&log)?;
            one_thread()?.block_on(migrate::run(&database))
        }
        Command::Token(command) => one_thread()?.block_on(token::run(command)),
        Command::Healthcheck(options) => one_thread()?.block_on(healthcheck::run(&options)),
    }
}

fn many_threads() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}

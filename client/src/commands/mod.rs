//! What each command does, one file per command. Parses nothing and prints only through `output` and `progress`.

mod attach;
mod auth;
mod cancel;
mod choose;
mod cluster;
mod completion;
mod config;
mod context;
mod describe;
mod diff;
mod direct_logs;
mod direct_run;
mod doctor;
mod download;
mod events;
mod exit_code;
mod foreground;
mod full_disk;
mod get;
mod guard;
mod help;
mod interrupt;
mod logs;
mod outputs;
mod pipeline;
mod printer;
mod project;
mod project_file;
mod provenance;
mod prune;
mod ps;
mod pull;
mod push;
mod remove;
mod request;
mod rerun;
mod resolve;
mod run;
mod session;
mod target;
mod token;
mod transfer;
mod uv;
mod wait;
mod webhook;
mod why;

use std::process::ExitCode;

use session::Session;

use crate::cli::{Cli, ClusterCommand, Command, Global};
use crate::error::{CliError, Exit};

/// What a command gives: the exit code.
type Done = Result<u8, CliError>;

/// Does what was typed.
///
/// # Errors
/// Whatever the user should know; the error carries the exit code.
pub fn dispatch(mut cli: Cli) -> Result<ExitCode, CliError> {
    if let Command::Cluster(ClusterCommand::Add(add)) = &mut cli.command {
        // Beside a kubeconfig, --context means the kubeconfig's.
        add.kube_context = add.kube_context.take().or(cli.global.context.take());
    }
    cli.settle_remote()?;
    match cli.command {
        Command::Completion(args) => completion::completion(&args).map(ExitCode::from),
        Command::Help(args) => help::help(&args).map(ExitCode::from),
        Command::Init(args) => project_file::init(&cli.global, &args).map(ExitCode::from),
        Command::Validate(args) => project_file::validate(&cli.global, &args).map(ExitCode::from),
        Command::Schema => project_file::schema().map(ExitCode::from),
        Command::Context(command) => context::context(&cli.global, command).map(ExitCode::from),
        command => served(&cli.global, command).map(ExitCode::from),
    }
}

/// The commands that need settings and may speak to a server. The runtime is made here and not before.
fn served(global: &Global, command: Command) -> Done {
    let session = Session::new(global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            CliError::new(Exit::Failure, "this process cannot wait for anything")
                .why(error.to_string())
                .fix("look at the limits of open files and threads: ulimit -a")
        })?;
    let done = runtime.block_on(asked(&session, global, command));
    // A question that nobody answered must not keep the process.
    runtime.shutdown_background();
    done
}

async fn asked(session: &Session, global: &Global, command: Command) -> Done {
    match command {
        Command::Run(args) => run::run(session, *args).await,
        Command::Ps(args) => ps::ps(session, &args).await,
        Command::Get(args) => get::get(session, &args).await,
        Command::Describe(args) => describe::describe(session, &args).await,
        Command::Logs(args) => logs::logs(session, &args).await,
        Command::Outputs(args) => outputs::outputs(session, &args).await,
        Command::Attach(args) => attach::attach(session, &args).await,
        Command::Wait(args) => wait::wait(session, &args).await,
        Command::Cancel(args) => cancel::cancel(session, &args).await,
        Command::Rerun(args) => rerun::rerun(session, &args).await,
        Command::Diff(args) => diff::diff(session, &args).await,
        Command::Rm(args) => remove::rm(session, &args).await,
        Command::Prune(args) => prune::prune(session, &args),
        Command::Push(args) => push::push(session, &args).await,
        Command::Pull(args) => pull::pull(session, &args).await,
        Command::Why(args) => why::why(session, &args).await,
        Command::Events(args) => events::events(session, &args).await,
        Command::Cluster(command) => cluster::cluster(session, command).await,
        Command::Token(command) => token::token(session, command).await,
        Command::Project(command) => project::project(session, command).await,
        Command::Webhook(command) => webhook::webhook(session, command).await,
        Command::Pipeline(command) => pipeline::pipeline(session, global, command).await,
        Command::DrivePipeline { id } => pipeline::driver(session, global, &id).await,
        Command::Config(command) => config::config(session, &command),
        Command::Auth(command) => auth::auth(session, command).await,
        Command::Doctor(args) => doctor::doctor(session, &args).await,
        Command::Context(_)
        | Command::Completion(_)
        | Command::Help(_)
        | Command::Init(_)
        | Command::Validate(_)
        | Command::Schema => unreachable!("done without a runtime"),
    }
}

//! What can be typed, one file per noun. Says nothing about how it is done.

mod admin;
mod config;
mod examples;
mod logs;
mod pipeline;
mod place;
mod project_file;
mod refusal;
mod run;
mod runs;
mod transfer;
mod values;

use std::ffi::OsString;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use qwex_core::Project;

pub use admin::{
    ClusterAdd, ClusterCommand, ProjectCommand, TokenCommand, TokenCreate, WebhookAdd, WebhookCommand,
};
pub use config::{
    AuthCommand, CompletionArgs, ConfigCommand, ContextAdd, ContextCommand, DoctorArgs, HelpArgs,
};
pub use logs::{AttachArgs, EventsArgs, LogsArgs};
pub use pipeline::{
    PipelineCommand, PipelineLogs, PipelineLs, PipelineName, PipelinePlan, PipelineResume, PipelineRm,
    PipelineRun, Selection,
};
pub use place::{ContainerArgs, PlaceArgs};
use project_file::SCHEMA_EXAMPLES;
pub use project_file::{FileVariables, InitArgs, ValidateArgs};
pub use refusal::refuse;
pub use run::{AUTO, REMOTE, RunArgs};
pub use runs::{
    CancelArgs, DescribeArgs, DiffArgs, GetArgs, OutputsArgs, PruneArgs, PsArgs, RerunArgs, RmArgs, WaitArgs,
    WaitFor, WhyArgs,
};
pub use transfer::{PullArgs, PushArgs};
pub use values::{Moment, Pair};

use crate::error::CliError;
use crate::output::Format;
use crate::output::color::Color;
use crate::progress;

/// Help begins with what people came for.
const EXAMPLES_FIRST: &str = "{about}{after-help}\n\n{usage-heading} {usage}\n\n{all-args}";

/// Reads the arguments of the process.
///
/// # Errors
/// They cannot be read, or ask for help or the version.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(cli) = RunAlone::parse(&args) {
        return Ok(cli);
    }
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// All that can be typed.
#[must_use]
pub fn command() -> clap::Command {
    examples_first(Cli::command(), &[])
}

fn examples_first(command: clap::Command, words: &[String]) -> clap::Command {
    let command = command.mut_subcommands(|below| {
        let words = [words, &[below.get_name().to_owned()]].concat();
        examples_first(below, &words)
    });
    let command = match examples::of(words) {
        Some(lines) => command.after_help(format!("Examples:\n  {}", lines.join("\n  "))),
        None => command,
    };
    match command.get_after_help() {
        Some(_) => command.help_template(EXAMPLES_FIRST),
        None => command,
    }
}

/// Run a command anywhere and see what became of it.
#[derive(Debug, Parser)]
#[command(
    name = "qwexctl",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  qwexctl run -- echo hello                            here, on this machine
  qwexctl run --remote --image python:3.12 -- python train.py
  qwexctl run --remote -d -- sleep 60                  prints the id and returns
  qwexctl ps                                           what runs, what ran
  qwexctl logs -f @latest                              live or archived, the same
  qwexctl why @last-failed                             why it waits, why it failed

Topics: qwexctl help exit-codes | environment | formatting | policy | spec | ssh"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    /// In front of run, rerun or ps what it is behind them
    #[arg(long, hide = true)]
    pub remote: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Gives a `--remote` in front of the command to the command.
    ///
    /// # Errors
    /// The command has no such flag, or says otherwise itself.
    pub fn settle_remote(&mut self) -> Result<(), CliError> {
        if !std::mem::take(&mut self.remote) {
            return Ok(());
        }
        let refused = |what: &str| {
            Err(CliError::usage(what)
                .fix("leave --remote out, or write it behind run, rerun or ps")
                .code("invalid_flag"))
        };
        match &mut self.command {
            Command::Run(args) if args.backend.is_none() => args.remote = true,
            Command::Rerun(args) if args.backend.is_none() => args.backend = Some(REMOTE.to_owned()),
            Command::Ps(args) if !args.local => args.remote = true,
            Command::Run(_) | Command::Rerun(_) => {
                return refused("--remote and --backend name two backends");
            }
            Command::Ps(_) => return refused("--remote and --local contradict each other"),
            _ => return refused("--remote says where a command is run; this one runs none"),
        }
        Ok(())
    }
}

/// What is typed most often, read without learning first what else can be typed: that takes longer than the program takes
/// to start.
#[derive(Debug, Parser)]
#[command(name = "qwexctl", disable_help_subcommand = true)]
struct RunAlone {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Debug, Subcommand)]
enum RunCommand {
    Run(Box<RunArgs>),
}

impl RunAlone {
    /// `None`: it is something else, or not right; then it is read again among all that can be typed, and told there.
    fn parse(args: &[OsString]) -> Option<Cli> {
        if args.get(1)? != "run" {
            return None;
        }
        let Self {
            global,
            command: RunCommand::Run(run),
        } = Self::try_parse_from(args).ok()?;
        Some(Cli {
            global,
            remote: false,
            command: Command::Run(run),
        })
    }
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Output of data on stdout
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "table",
        help_heading = "Output"
    )]
    pub output: Format,
    /// Print ids or names only (the same as -o name)
    #[arg(short, long, global = true, action = ArgAction::SetTrue, help_heading = "Output")]
    pub quiet: bool,
    /// Leave out the heads of tables
    #[arg(long, global = true, help_heading = "Output")]
    pub no_headers: bool,
    /// Context of the user's context file
    #[arg(long, global = true, value_name = "NAME", help_heading = "Server")]
    pub context: Option<String>,
    /// Address of the server
    #[arg(long, global = true, value_name = "URL", help_heading = "Server")]
    pub server: Option<String>,
    /// Project; without it the token's own
    #[arg(
        short = 'p',
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Server"
    )]
    pub project: Option<Project>,
    /// Colours of words
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub color: Color,
    /// How stages are told on stderr
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "HOW",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub progress: progress::Choice,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command, here or through qwexcloud
    Run(Box<RunArgs>),
    /// List runs, newest first
    #[command(visible_alias = "ls")]
    Ps(Box<PsArgs>),
    /// Print one run
    Get(GetArgs),
    /// Tell all about one run: attempts, events, logs
    Describe(DescribeArgs),
    /// Print the log of a run, live or archived
    Logs(Box<LogsArgs>),
    /// Print which files a run brought back, and bring those that are still where it ran
    Outputs(OutputsArgs),
    /// Come back to a run: log, stages, and its exit code
    Attach(AttachArgs),
    /// Wait until runs are over; the exit code is the run's own
    Wait(WaitArgs),
    /// Ask runs to stop
    #[command(visible_alias = "stop")]
    Cancel(CancelArgs),
    /// Run the same again as a new run
    Rerun(RerunArgs),
    /// Tell what differs between two runs: spec, image, commit, variables, result
    Diff(DiffArgs),
    /// Remove the records of runs of this directory
    Rm(RmArgs),
    /// Remove old records of this directory, and stored files that nothing names; a plan first
    Prune(PruneArgs),
    /// Bring runs of this directory to a server, under their ids
    Push(PushArgs),
    /// Bring runs of a server into this directory, under their ids
    Pull(PullArgs),
    /// Say why a run waits, why it failed, or why it ran where it did
    Why(WhyArgs),
    /// Print the history of a run
    Events(EventsArgs),
    /// Clusters that take runs
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Tokens of a project
    #[command(subcommand)]
    Token(TokenCommand),
    /// Projects: the borders of every right
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Endpoints that are told how runs end
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Servers this user speaks to
    #[command(subcommand)]
    Context(ContextCommand),
    /// Settings and where they come from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Log in and out
    #[command(subcommand)]
    Auth(AuthCommand),
    /// The stages of qwex.yaml as runs that need each other
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// Write a qwex.yaml for what is found here
    Init(InitArgs),
    /// Check a qwex.yaml without running anything
    Validate(ValidateArgs),
    /// Print the JSON Schema of qwex.yaml
    #[command(after_help = SCHEMA_EXAMPLES)]
    Schema,
    /// Check what works here, and say what to do about the rest
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print help on a command or a topic
    Help(HelpArgs),
    /// The process that drives a pipeline
    #[command(name = crate::pipeline::DRIVE, hide = true)]
    DrivePipeline { id: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn a_run_is_read_the_same_alone_as_among_all_commands() {
        for line in [
            "qwexctl run -- true",
            "qwexctl run -d --name n --env A=1 -o json -p team -- sh -c x",
            "qwexctl run --remote --queue q --image i -q -- true",
            "qwexctl run --backend docker --color never -- true --flag",
        ] {
            let alone = RunAlone::parse(&words(line)).unwrap();
            let matches = command().get_matches_from(words(line));
            let among = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(format!("{alone:?}"), format!("{among:?}"), "{line}");
        }
    }

    #[test]
    fn what_is_not_right_is_told_by_the_whole_command_line() {
        for line in [
            "qwexctl run --help",
            "qwexctl run --nonsense",
            "qwexctl ps",
            "qwexctl --remote run -- true",
        ] {
            assert!(RunAlone::parse(&words(line)).is_none(), "{line}");
        }
        let error = parse(words("qwexctl run --nonsense -- true")).unwrap_err();
        assert!(error.to_string().contains("qwexctl run"), "{error}");
    }
}

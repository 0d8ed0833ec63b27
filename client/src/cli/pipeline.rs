//! `pipeline`: the stages of a qwex.yaml.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::project_file::FileVariables;

/// What every `PIPELINE` argument takes.
const PIPELINE_HELP: &str = "Pipeline id, unique prefix of one, name, @latest or @last-failed";

#[derive(Debug, Subcommand)]
#[command(
    after_help = "Every stage is an ordinary run: `qwexctl ps`, `logs`, `why` and `cancel` know it by its id.

Examples:
  qwexctl pipeline plan                  what would run, and what would be reused
  qwexctl pipeline run                   run the stages of qwex.yaml
  qwexctl pipeline run -d                print the id and return
  qwexctl pipeline logs                  of the latest one
  qwexctl pipeline resume @last-failed   only what did not succeed runs again"
)]
pub enum PipelineCommand {
    /// Run the stages of qwex.yaml
    Run(Box<PipelineRun>),
    /// Show what would run, in what order, and what would be reused
    Plan(Box<PipelinePlan>),
    /// List pipelines, newest first
    #[command(visible_alias = "list")]
    Ls(PipelineLs),
    /// Show the stages of a pipeline
    Get(PipelineName),
    /// Print the logs of its stages
    Logs(PipelineLogs),
    /// Ask its runs to stop, and start no more
    Cancel(PipelineName),
    /// Go on after a failure, a cancel or a killed driver; nothing that succeeded runs again
    Resume(PipelineResume),
    /// Remove the records of pipelines that are over; their runs stay
    Rm(PipelineRm),
}

/// Which stages of which file.
#[derive(Debug, Clone, Args)]
pub struct Selection {
    /// Only these stages, and those that they need
    #[arg(value_name = "STAGE")]
    pub stages: Vec<String>,
    /// The project file [default: the nearest qwex.yaml]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub variables: FileVariables,
    /// Backend of stages that name none
    #[arg(long, value_name = "BACKEND")]
    pub backend: Option<String>,
    /// Run every stage, whatever ran before
    #[arg(long)]
    pub no_cache: bool,
    /// Run python commands of this machine as they are, not through uv
    #[arg(long)]
    pub no_uv: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The commands work in the directory of the file. Stages that need each other run in order, the others side by side. Ctrl-C leaves the pipeline running.
A stage that says what it reads (inputs) or makes (outputs) is reused when the same ran before.
Exit code: 0, 1 when a stage failed, 9 when it was cancelled.

Examples:
  qwexctl pipeline run
  qwexctl pipeline run train --set lr=0.1         train and what it needs
  qwexctl pipeline run -d && qwexctl pipeline get
  qwexctl pipeline run --no-cache --max-parallel 2 -o json"
)]
pub struct PipelineRun {
    #[command(flatten)]
    pub selection: Selection,
    /// Most stages at the same time [default: max_parallel of the file, else all that are free]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_parallel: Option<u32>,
    /// Print the id and return
    #[arg(short, long)]
    pub detach: bool,
    /// Ctrl-C and SIGTERM cancel the pipeline (for CI)
    #[arg(long, conflicts_with = "detach")]
    pub cancel_on_interrupt: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  qwexctl pipeline plan
  qwexctl pipeline plan test -o json")]
pub struct PipelinePlan {
    #[command(flatten)]
    pub selection: Selection,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  qwexctl pipeline ls
  qwexctl pipeline ls -n 3 -q")]
pub struct PipelineLs {
    /// At most so many; 0 is all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  qwexctl pipeline get
  qwexctl pipeline get 0199f2 -o json
  qwexctl pipeline cancel @latest")]
pub struct PipelineName {
    #[arg(value_name = "PIPELINE", default_value = "@latest", help = PIPELINE_HELP)]
    pub pipeline: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The stored files that only they name go with the next `qwexctl prune`, which also removes old pipelines by their age.

Examples:
  qwexctl pipeline rm 0199f2
  qwexctl pipeline rm $(qwexctl pipeline ls -n 0 -q)
  qwexctl pipeline rm --force 0199f2             a record that somebody else put here"
)]
pub struct PipelineRm {
    #[arg(value_name = "PIPELINE", required = true, help = PIPELINE_HELP)]
    pub pipelines: Vec<String>,

    /// Also pipelines that are not over and that you did not begin on this machine: nothing drives them
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each line begins with the name of its stage. The log of one stage alone, as it is: qwexctl logs RUN.

Examples:
  qwexctl pipeline logs
  qwexctl pipeline logs @latest test
  qwexctl pipeline logs -f
  qwexctl pipeline logs @last-failed -n 20"
)]
pub struct PipelineLogs {
    #[arg(value_name = "PIPELINE", default_value = "@latest", help = PIPELINE_HELP)]
    pub pipeline: String,
    /// Only these stages
    #[arg(value_name = "STAGE")]
    pub stages: Vec<String>,
    /// Print on what the stages write, until the pipeline is over
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines of each stage
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "follow")]
    pub tail: Option<usize>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A stage that succeeded is kept for as long as its declared inputs and the outputs it was given are the same.
The recorded pipeline goes on: after a change of qwex.yaml, begin another with `qwexctl pipeline run`.

Examples:
  qwexctl pipeline resume
  qwexctl pipeline resume @last-failed
  qwexctl pipeline resume -d 0199f2"
)]
pub struct PipelineResume {
    #[arg(value_name = "PIPELINE", default_value = "@latest", help = PIPELINE_HELP)]
    pub pipeline: String,
    /// Print the id and return
    #[arg(short, long)]
    pub detach: bool,
    /// Ctrl-C and SIGTERM cancel the pipeline (for CI)
    #[arg(long, conflicts_with = "detach")]
    pub cancel_on_interrupt: bool,
}

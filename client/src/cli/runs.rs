//! Commands on runs that exist.

use clap::{Args, ValueEnum};
use qwex_core::{ClusterName, QueueName, RunStatus, Span};

use super::run::among;
use super::values::{Moment, Pair};

/// What every `RUN` argument takes.
pub const RUN_HELP: &str = "Run id, unique prefix of one, name, @latest or @last-failed";

#[derive(Debug, Args)]
pub struct PsArgs {
    /// Only these statuses: pending, running, succeeded, failed, cancelled
    #[arg(short, long, value_delimiter = ',', value_name = "STATUS", value_parser = status)]
    pub status: Vec<RunStatus>,
    /// Only runs of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only runs with this label, repeatable
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Pair>,
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<QueueName>,
    /// Only runs created after: a time or an age like 2h
    #[arg(long, value_name = "WHEN")]
    pub since: Option<Moment>,
    /// Only runs created before: a time or an age like 2h
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// At most so many; 0 is all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Runs of this directory's .qwex/runs
    #[arg(long)]
    pub local: bool,
    /// Runs of the server
    #[arg(long, conflicts_with = "local")]
    pub remote: bool,
}

fn status(word: &str) -> Result<RunStatus, String> {
    RunStatus::from_word(word).ok_or_else(|| among(word, RunStatus::ALL.iter().map(|status| status.as_str())))
}

#[derive(Debug, Args)]
pub struct GetArgs {
    #[arg(value_name = "RUN", required = true, help = RUN_HELP)]
    pub runs: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub run: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A file that was changed in the workspace after the run was submitted is left as it is; what came lies beside the record then, and \
its name is told.

Examples:
  qwexctl outputs @latest                    the files that came back; brings those that are still where it ran
  qwexctl outputs --force train              what came takes the place of what was changed here meanwhile
  qwexctl outputs --timeout 10m train        its host comes back later
  qwexctl outputs train -o json"
)]
pub struct OutputsArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub run: String,

    /// Also over files that were changed here after the run was submitted
    #[arg(long)]
    pub force: bool,
    /// Give up after so long without any word from where it ran, with exit code 8; its keeper goes on
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Span,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// The run is over
    End,
    /// The command runs, or the run is over
    Running,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    #[arg(value_name = "RUN", required = true, help = RUN_HELP)]
    pub runs: Vec<String>,
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value = "end")]
    pub what: WaitFor,
    /// Give up after this time with exit code 7; the run goes on
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    #[arg(value_name = "RUN", required = true, help = RUN_HELP)]
    pub runs: Vec<String>,
    /// Return only when nothing of it runs any more
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct RerunArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub run: String,
    /// On this backend instead: one of `run --backend`, but not auto
    #[arg(long, value_name = "BACKEND", conflicts_with = "cluster")]
    pub backend: Option<String>,
    /// In this container image, where the other backend takes one
    #[arg(long, value_name = "IMAGE", requires = "backend")]
    pub image: Option<String>,
    /// On this cluster instead
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    /// In this queue instead
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<QueueName>,
    /// Print the id and return
    #[arg(short, long)]
    pub detach: bool,
    /// Ctrl-C and SIGTERM cancel the run (for CI)
    #[arg(long, conflicts_with = "detach")]
    pub cancel_on_interrupt: bool,
}

#[derive(Debug, Args)]
pub struct WhyArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub run: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  qwexctl rm 01a1feca
  qwexctl rm $(qwexctl ps -q --status failed --local)
  qwexctl rm --force 01a1feca                what could not be brought back is given up")]
pub struct RmArgs {
    #[arg(value_name = "RUN", required = true, help = RUN_HELP)]
    pub runs: Vec<String>,

    /// Also runs that are over and whose log or outputs are not all here, and runs that nobody can keep
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true, args = ["older_than", "keep_last"])]
#[command(
    after_help = "Runs and pipelines that are over go; the runs of a pipeline that stays, stay with it. Then what nothing names any more: cached \
results, stored files, and what commands that were killed left behind; of these nothing that was written or used in the last day, \
and nothing at all while a pipeline is under way here.

Examples:
  qwexctl prune --older-than 30d                       what would go, nothing is removed
  qwexctl prune --older-than 30d --keep-last 20 --yes
  qwexctl prune --keep-last 20 -o json                 every file of it, with its bytes"
)]
pub struct PruneArgs {
    /// Only runs and pipelines that ended before: a time or an age like 30d
    #[arg(long, value_name = "WHEN")]
    pub older_than: Option<Moment>,
    /// Leave the newest so many runs and the newest so many pipelines, whatever their age
    #[arg(long, value_name = "N")]
    pub keep_last: Option<usize>,
    /// Remove them; without it the plan is printed
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  qwexctl diff @last-failed @latest
  qwexctl diff train-1 train-2 -o json

Exit codes: 0 the same, 1 something differs, more than 1 an error. Values of variables are not shown.")]
pub struct DiffArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub a: String,
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub b: String,
}

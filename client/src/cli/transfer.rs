//! Commands that carry whole runs between this directory and a server.

use clap::Args;

use super::runs::RUN_HELP;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  qwexctl push @latest                     the server keeps it as well, under the same id
  qwexctl push --all                       every run of this directory that is over
  qwexctl push train-7 --project vision

Record, history and every byte of the log go over, in one step: a push that was cut is simply done again. The server marks \
the run as imported, gives it to no cluster and tells no webhook of it. A run that is there already is left alone.")]
pub struct PushArgs {
    #[arg(value_name = "RUN", required_unless_present = "all", help = RUN_HELP)]
    pub runs: Vec<String>,
    /// Every run of this directory that is over
    #[arg(long, conflicts_with = "runs")]
    pub all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  qwexctl pull @latest                     the newest run of the server, into .qwex/runs of this directory
  qwexctl pull 01a1feca --wait             when it is over
  qwexctl logs 01a1feca                    from then on also without the server

The run is here when it is whole and not before. A run that is here already is left alone.")]
pub struct PullArgs {
    #[arg(value_name = "RUN", required = true, help = RUN_HELP)]
    pub runs: Vec<String>,
    /// Wait until the runs are over and their logs are sealed
    #[arg(long)]
    pub wait: bool,
}

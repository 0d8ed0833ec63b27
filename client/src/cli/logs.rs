//! `logs`, `attach`, `events`.

use std::path::PathBuf;

use clap::Args;
use qwex_core::Span;

use super::runs::RUN_HELP;
use super::values::Moment;

#[derive(Debug, Args)]
#[command(
    after_help = "The same while the run runs, after it, and after its cluster is gone.

Examples:
  qwexctl logs -f @latest
  qwexctl logs -n 100 train
  qwexctl logs --stderr --grep 'ERROR|panic' @last-failed
  qwexctl logs --since 10m -t 0199f2            a run of a server: its lines have times
  qwexctl logs --download train.log train       every byte, checked against the stored hash"
)]
pub struct LogsArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub run: String,
    /// Go on until the run is over
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines of the last while: 90s, 10m
    #[arg(long, value_name = "TIME", conflicts_with = "since_time")]
    pub since: Option<Span>,
    /// Only lines after this time: RFC 3339
    #[arg(long, value_name = "WHEN")]
    pub since_time: Option<Moment>,
    /// Only lines before this time: RFC 3339 or an age
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Moment>,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub tail: Option<u64>,
    /// Time before each line
    #[arg(short = 't', long)]
    pub timestamps: bool,
    /// Only this attempt
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// Only stdout
    #[arg(long, conflicts_with = "stderr")]
    pub stdout: bool,
    /// Only stderr
    #[arg(long)]
    pub stderr: bool,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// Write every byte into a file, or into a directory as RUN.log
    #[arg(long, value_name = "PATH", conflicts_with_all = ["follow", "timestamps", "grep"])]
    pub download: Option<PathBuf>,
    /// Do not escape control bytes on a terminal
    #[arg(long)]
    pub raw: bool,
    /// With -f: end with the run's own exit code
    #[arg(long, requires = "follow")]
    pub exit_status: bool,
}

#[derive(Debug, Args)]
pub struct AttachArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub run: String,
    /// Begin with the last N lines, for runs of a server [default: all]
    #[arg(short = 'n', long, value_name = "N")]
    pub tail: Option<u64>,
    /// Do not escape control bytes on a terminal
    #[arg(long)]
    pub raw: bool,
    /// Ctrl-C and SIGTERM cancel the run (for CI)
    #[arg(long)]
    pub cancel_on_interrupt: bool,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub run: String,
    /// Go on until the run is over
    #[arg(short, long)]
    pub follow: bool,
}

//! `run`: what can be asked of a run.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, ValueHint};
use qwex_core::spec::PullPolicy;
use qwex_core::{ClusterName, FailureCode, PriorityClass, QueueName, RunId, RunName, Span};

use super::place::{ContainerArgs, PlaceArgs};
use super::values::Pair;
use crate::direct::registry;

/// Words of `--backend` that are no backend of this program.
pub const REMOTE: &str = "remote";
pub const AUTO: &str = "auto";

pub(super) fn backends() -> PossibleValuesParser {
    let own = registry::REGISTRY
        .iter()
        .map(|entry| PossibleValue::new(entry.name).help(entry.about));
    let others = [
        PossibleValue::new(REMOTE).help("through qwexcloud, which chooses the cluster"),
        PossibleValue::new(AUTO).help("the first that works and has what is asked"),
    ];
    PossibleValuesParser::new(own.chain(others))
}

#[derive(Debug, Args)]
#[command(
    after_help = "The log streams here and the exit code is the command's own. Ctrl-C leaves the run running.

Examples:
  qwexctl run -- make test
  qwexctl run --backend docker --image python:3.12-slim -- python train.py
  qwexctl run --backend ssh --host build1 --outputs 'dist/**' -- make release
  qwexctl run --remote --image python:3.12-slim --cpu 2 --memory 4Gi -- python train.py
  qwexctl run --remote -d --name train --queue gpu --gpu 1 --timeout 2h -- python train.py
  id=$(qwexctl run --remote -d -q -- ./build.sh) && qwexctl wait $id"
)]
pub struct RunArgs {
    /// The same as --backend remote
    #[arg(long, conflicts_with = "backend")]
    pub remote: bool,
    /// Where it runs [default: of qwex.yaml, else of the context, else local]
    #[arg(short, long, value_parser = backends(), value_name = "BACKEND")]
    pub backend: Option<String>,
    /// Container image; not used by the backend local
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// A name for people; need not be unique
    #[arg(long, value_name = "NAME")]
    pub name: Option<RunName>,
    /// Label, repeatable
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Pair>,
    /// Environment variable, repeatable; without a value it is taken from here
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Environment variable from a secret of the cluster, repeatable
    #[arg(long = "secret", value_name = "VAR=SECRET[/KEY]")]
    pub secrets: Vec<Pair>,
    /// Absolute path in which the command starts
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Processors: 2, 0.5 or 500m
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<String>,
    /// Memory: 512Mi, 4Gi
    #[arg(long, value_name = "MEMORY")]
    pub memory: Option<String>,
    /// Whole GPUs
    #[arg(long, value_name = "N")]
    pub gpu: Option<u32>,
    /// Kueue queue
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<QueueName>,
    /// Kueue priority class (WorkloadPriorityClass) in that queue
    #[arg(long, value_name = "CLASS")]
    pub priority_class: Option<PriorityClass>,
    /// The only cluster that may take it
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    #[command(flatten)]
    pub place: PlaceArgs,
    #[command(flatten)]
    pub container: ContainerArgs,
    /// Label that the cluster must have, repeatable
    #[arg(long = "require", value_name = "KEY=VALUE")]
    pub require: Vec<Pair>,
    /// Longest time it may run: 90s, 15m, 1h30m
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,
    /// Attempts after the first [default: of qwex.yaml, else 0]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Failures worth another attempt, repeatable: oom, evicted, node_lost, exit_code…
    #[arg(long = "retry-on", value_name = "REASON", value_parser = failure_code)]
    pub retry_on: Vec<FailureCode>,
    /// When the image is pulled: always, if_not_present, never
    #[arg(long = "pull", value_name = "WHEN", value_parser = pull_policy)]
    pub pull: Option<PullPolicy>,
    /// Print the id and return
    #[arg(short, long)]
    pub detach: bool,
    /// Ctrl-C and SIGTERM cancel the run (for CI)
    #[arg(long, conflicts_with = "detach")]
    pub cancel_on_interrupt: bool,
    /// Run id (UUIDv7): a repeat with the same id and the same run is the same run
    #[arg(long, value_name = "UUID")]
    pub id: Option<RunId>,
    /// The command, untouched
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<String>,
}

fn failure_code(word: &str) -> Result<FailureCode, String> {
    FailureCode::from_word(word).ok_or_else(|| among(word, FailureCode::ALL.iter().map(|code| code.as_str())))
}

fn pull_policy(word: &str) -> Result<PullPolicy, String> {
    PullPolicy::from_word(word)
        .ok_or_else(|| among(word, PullPolicy::ALL.iter().map(|policy| policy.as_str())))
}

/// The sentence for a word that is not of a list.
pub(super) fn among(word: &str, words: impl Iterator<Item = &'static str>) -> String {
    format!("{word:?} is none of {}", words.collect::<Vec<_>>().join(", "))
}

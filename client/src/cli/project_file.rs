//! `init`, `validate`, `schema`, and what fills in a project file.

use std::path::PathBuf;

use clap::Args;

use super::values::Pair;

/// Values for the names in a project file.
#[derive(Debug, Clone, Default, Args)]
pub struct FileVariables {
    /// Value of ${var.NAME}, repeatable
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<Pair>,
    /// File of NAME=value lines for ${env.NAME}, repeatable; beats the environment
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
}

/// Of `schema`, which takes no arguments.
pub const SCHEMA_EXAMPLES: &str = "Draft 2020-12, made from the model that reads the file.

Examples:
  qwexctl schema > qwex.schema.json
  # first line of a qwex.yaml, for editors with the YAML language server:
  # yaml-language-server: $schema=./qwex.schema.json";

#[derive(Debug, Args)]
#[command(
    after_help = "Looks for pyproject.toml, uv.lock, requirements.txt, package.json, Cargo.toml, Dockerfile and Makefile.

Examples:
  qwexctl init
  qwexctl init --stdout              only show it
  qwexctl init && qwexctl pipeline run"
)]
pub struct InitArgs {
    /// Overwrite the file that is here
    #[arg(long)]
    pub force: bool,
    /// Print the file instead of writing it
    #[arg(long, conflicts_with = "force")]
    pub stdout: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Reads, checks names, needs, circles, backends, conditions and matrices, and fills in every variable.
Nothing is run, nobody is asked. Exit code 0, or 2 with every problem and its place.

Examples:
  qwexctl validate
  qwexctl validate ci/qwex.yaml --set lr=0.1
  qwexctl validate -o json           problems with line and column, for an editor"
)]
pub struct ValidateArgs {
    /// The file [default: the nearest qwex.yaml]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub variables: FileVariables,
}

//! Nouns of this machine: context, config, auth, doctor, completion, help.

use clap::{Args, Subcommand};
use clap_complete::Shell;
use qwex_core::Project;

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List contexts; the one in use has a star
    #[command(visible_alias = "list")]
    Ls,
    /// Use a context from now on
    Use { name: String },
    /// Add a context; its token comes from stdin with --with-token
    Add(ContextAdd),
    /// Forget a context
    Rm { name: String },
}

#[derive(Debug, Args)]
pub struct ContextAdd {
    pub name: String,
    /// Read the token from stdin
    #[arg(long)]
    pub with_token: bool,
    /// Use it from now on
    #[arg(long)]
    pub r#use: bool,
    /// Project of its runs [default: the token's own]
    #[arg(long = "default-project", value_name = "NAME")]
    pub default_project: Option<Project>,
    /// Where runs go that name no backend [default: local]
    #[arg(long = "default-backend", value_name = "BACKEND", value_parser = super::run::backends())]
    pub default_backend: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting
    View {
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Check a token and store it in the context in use
    Login {
        /// Read the token from stdin
        #[arg(long, required = true)]
        with_token: bool,
    },
    /// Say who this user is to the server
    Status,
    /// Remove the token from the context in use
    Logout,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0, or 1 when a check failed. A backend that is not there is no failure: nobody has them all.
--fix does only what is safe and can be undone, here and for this user, and prints each thing first.

Examples:
  qwexctl doctor
  qwexctl doctor --fix
  qwexctl doctor --json | jq '.items[] | select(.verdict != \"ok\")'"
)]
pub struct DoctorArgs {
    /// Mend what can be mended safely
    #[arg(long)]
    pub fix: bool,
    /// The same as -o json
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompletionArgs {
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command (`help cluster add`) or a topic: exit-codes, environment, formatting, policy, spec, ssh
    pub about: Vec<String>,
}

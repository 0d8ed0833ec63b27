//! `qwexcloud token create`: the first token, made beside the database.

use std::process::ExitCode;

use anyhow::Context;
use qwex_api::token::{CreateToken, Role};
use qwex_core::{Project, Span};

use crate::auth::Auth;
use crate::config::DatabaseSettings;
use crate::db::{PoolSizes, Pools};
use crate::projects::Projects;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Makes a token and prints it, once
    Create(Create),
}

#[derive(Debug, clap::Args)]
pub struct Create {
    #[command(flatten)]
    database: DatabaseSettings,
    /// Project the token is for
    #[arg(long, default_value = "default")]
    project: Project,
    /// What it may do: viewer, submitter or admin
    #[arg(long, default_value = "submitter", value_parser = role)]
    role: Role,
    /// Its name, unique among the live tokens of the project
    #[arg(long)]
    name: String,
    /// How long it is valid, like 30d [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<Span>,
}

fn role(word: &str) -> Result<Role, String> {
    Role::from_word(word).ok_or_else(|| "it is viewer, submitter or admin".to_owned())
}

pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Create(create) = command;
    let sizes = PoolSizes {
        api: 1,
        record: 1,
        work: 1,
    };
    let pools = Pools::open(&create.database.url, sizes).context("the database URL is not valid")?;
    let projects = Projects::new(pools.api.clone(), Auth::new(pools.api.clone()));
    let request = CreateToken {
        name: create.name,
        role: create.role,
        project: None,
        expires_in: create.expires_in,
    };
    let made = projects
        .issue(&create.project, &request, "qwexcloud token create")
        .await?;
    println!("{}", made.token);
    eprintln!(
        "token {} ({} of project {}): keep it, it is not shown again",
        made.info.id,
        made.info.role.as_str(),
        made.info.project
    );
    pools.close().await;
    Ok(ExitCode::SUCCESS)
}

//! Nouns of people who run the place: cluster, token, project, webhook.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use qwex_api::token::Role;
use qwex_api::webhook::WebhookEvent;
use qwex_core::{ClusterName, Project, QueueName, Span};

use super::run::among;
use super::values::Pair;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Check a cluster and register it
    Add(Box<ClusterAdd>),
    /// List clusters
    #[command(visible_alias = "list")]
    Ls,
    /// Print one cluster
    Get { name: ClusterName },
    /// Give it no new runs; those it has go on
    Drain { name: ClusterName },
    /// Give it runs again
    Undrain { name: ClusterName },
    /// Forget it; the history of its runs stays
    Rm { name: ClusterName },
}

#[derive(Debug, Args)]
pub struct ClusterAdd {
    pub name: ClusterName,
    /// Kubeconfig file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long = "kube-context", value_name = "NAME")]
    pub kube_context: Option<String>,
    /// Namespace in which Jobs are made
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Label for placement, repeatable
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Pair>,
    /// Kueue queue of runs that name none
    #[arg(long, value_name = "QUEUE")]
    pub default_queue: Option<QueueName>,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create(TokenCreate),
    /// List tokens
    #[command(visible_alias = "list")]
    Ls,
    /// Make a token useless for ever
    Revoke {
        /// Id of the token
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct TokenCreate {
    pub name: String,
    /// viewer, submitter or admin
    #[arg(long, value_name = "ROLE", default_value = "submitter", value_parser = role)]
    pub role: Role,
    /// Lifetime: 90d, 12h [default: no end]
    #[arg(long, value_name = "TIME")]
    pub expires_in: Option<Span>,
}

fn role(word: &str) -> Result<Role, String> {
    Role::from_word(word).ok_or_else(|| among(word, Role::ALL.iter().map(|role| role.as_str())))
}

#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Make a project
    Create { name: Project },
    /// List projects
    #[command(visible_alias = "list")]
    Ls,
}

#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Register an endpoint; its signing secret is shown once
    Add(WebhookAdd),
    /// List endpoints
    #[command(visible_alias = "list")]
    Ls,
    /// Print one endpoint
    Get { id: String },
    /// Remove an endpoint
    Rm { id: String },
    /// Send a test event to it
    Test { id: String },
    /// List what was and will be sent to it
    Deliveries { id: String },
    /// Send a delivery again
    Replay { id: String, delivery: String },
    /// Make a new signing secret; the old one stays valid for a while
    Rotate { id: String },
}

#[derive(Debug, Args)]
pub struct WebhookAdd {
    pub url: String,
    /// run.started, run.succeeded, run.failed, run.cancelled; repeatable [default: the last three]
    #[arg(long = "event", value_delimiter = ',', value_name = "EVENT", value_parser = event)]
    pub events: Vec<WebhookEvent>,
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
}

fn event(word: &str) -> Result<WebhookEvent, String> {
    WebhookEvent::OF_RUNS
        .iter()
        .copied()
        .find(|event| event.as_str() == word)
        .ok_or_else(|| among(word, WebhookEvent::OF_RUNS.iter().map(|event| event.as_str())))
}

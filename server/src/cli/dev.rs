//! `qwexcloud dev`: everything embedded, for one person on one machine.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use qwex_api::token::{CreateToken, Role};
use qwex_core::Project;
use tokio::net::TcpListener;

use super::replica::{self, Replica, ReplicaConfig};
use crate::auth::Auth;
use crate::config::{
    DatabaseSettings, HttpSettings, LogSettings, SecretKey, StorageSettings, user_config_dir,
};
use crate::db::{lease, migrate};
use crate::dev::{Postgres, context_file};
use crate::projects::Projects;
use crate::telemetry::Metrics;
use crate::webhooks::{RETENTION_DAYS, WebhooksConfig};

/// Name of the embedded cluster.
const CLUSTER: &str = "local";

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    http: HttpSettings,
    #[command(flatten)]
    storage: StorageSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options {
        mut http,
        storage,
        log: _,
    } = options;
    let metrics = Metrics::install()?;
    // One person stops it with Ctrl-C: nobody sends requests elsewhere meanwhile.
    http.drain_delay = 0;
    let listener = TcpListener::bind(http.listen).await.with_context(|| {
        format!(
            "failed to listen on {}: choose another address with --listen",
            http.listen
        )
    })?;
    http.listen = listener.local_addr()?;
    let data_dir = storage.data_dir()?;
    let mut postgres = Postgres::start(&data_dir).await?;
    let served = serve(&mut postgres, listener, http, &storage, &data_dir, metrics).await;
    postgres.stop().await;
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(
    postgres: &mut Postgres,
    listener: TcpListener,
    http: HttpSettings,
    storage: &StorageSettings,
    data_dir: &Path,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let database = DatabaseSettings {
        url: postgres.url(),
        connections: 24,
    };
    let pools = replica::open_pools(&database)?;
    migrate::migrate(&pools.work)
        .await
        .context("failed to migrate the embedded database")?;
    let secret_key = match storage.secret_key() {
        Ok(key) => key,
        Err(crate::config::SecretKeyError::Missing) => {
            SecretKey::load_or_create(&data_dir.join("secret-key"))?
        }
        Err(error) => return Err(error.into()),
    };
    let url = format!("http://{}", replica::reachable(http.listen));
    let auth = Auth::new(pools.api.clone());
    let projects = Projects::new(pools.api.clone(), auth.clone());
    let local = super::serve::local_settings(data_dir)?;
    // A server that was killed held its clusters for some seconds more.
    lease::expire_all(&pools.work).await?;
    let replica = Replica::start(ReplicaConfig {
        pools,
        http,
        archive_url: storage.archive_url()?,
        secret_key,
        metrics,
        local: Some(local),
        webhooks: WebhooksConfig::new(true, RETENTION_DAYS),
        dev: true,
    })
    .await?;
    replica.clusters().ensure_local(&CLUSTER.parse()?).await?;
    match write_context(&auth, &projects, &url).await {
        Ok(place) => welcome(&url, data_dir, &place),
        Err(error) => return Err(error.context("failed to give the client its token")),
    }
    replica
        .run(listener, async { anyhow::Error::from(postgres.ended().await) })
        .await
}

/// Gives the user's client an admin token, the one it has where that is still valid. Returns where.
async fn write_context(auth: &Auth, projects: &Projects, url: &str) -> anyhow::Result<String> {
    let dir = user_config_dir().ok_or(context_file::ContextError::NoPlace)?;
    let file = context_file::file_in(&dir);
    let token = match context_file::find_token(&file)? {
        Some(token) if auth.authenticate(&token).await.is_ok_and(|who| who.is_root()) => token,
        Some(_) | None => new_token(projects).await?,
    };
    if let Some(before) = context_file::write(&file, url, &token)? {
        println!("The current context was {before}; `qwexctl context use {before}` goes back to it.");
    }
    Ok(file.display().to_string())
}

async fn new_token(projects: &Projects) -> anyhow::Result<String> {
    let project: Project = "default".parse()?;
    // The name is ours: a token that got lost with its file opens nothing any more.
    projects.revoke_named(&project, context_file::NAME).await?;
    let request = CreateToken {
        name: context_file::NAME.to_owned(),
        role: Role::Admin,
        project: None,
        expires_in: None,
    };
    Ok(projects.issue(&project, &request, "qwexcloud dev").await?.token)
}

fn welcome(url: &str, data_dir: &Path, context: &str) {
    println!("qwexcloud dev at {url}  (API: {url}/docs)");
    println!("  data      {}", data_dir.display());
    println!("  context   {} in {context}", context_file::NAME);
    println!("Now, in another terminal:");
    println!("  qwexctl run --remote -- echo hello");
    println!("  qwexctl ps");
    println!("Ctrl-C ends all of it; the next start finds the history again.");
}

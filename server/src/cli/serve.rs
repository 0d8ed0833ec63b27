//! `qwexcloud serve`: a replica for real use.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use qwex_core::ClusterName;
use tokio::net::TcpListener;

use crate::cli::replica::{Replica, ReplicaConfig};
use crate::clusters::LocalSettings;
use crate::config::Settings;
use crate::db::Pools;
use crate::db::migrate::{self, SchemaError};
use crate::dev;
use crate::telemetry::Metrics;
use crate::webhooks::{RETENTION_DAYS, WebhooksConfig};

/// Postgres may start at the same time as the replica.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub settings: Settings,
    /// Migrates the database at start, if it is behind
    #[arg(long, env = "QWEX_MIGRATE")]
    migrate: bool,
    /// Also serves a cluster of this name which runs commands as processes of this machine, under this user:
    /// for machines whose users are trusted
    #[arg(long, env = "QWEX_LOCAL_CLUSTER", value_name = "NAME")]
    local_cluster: Option<ClusterName>,
    /// Lets webhooks lead to this machine's loopback, which `dev` always does: for machines whose users are trusted
    #[arg(long, env = "QWEX_WEBHOOK_ALLOW_LOOPBACK")]
    webhook_allow_loopback: bool,
    /// Days after which webhook deliveries that have arrived are forgotten; dead letters stay
    #[arg(
        long,
        env = "QWEX_WEBHOOK_RETENTION_DAYS",
        default_value_t = RETENTION_DAYS,
        value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=36_500)
    )]
    webhook_retention_days: u32,
}

pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options {
        settings,
        migrate,
        local_cluster,
        webhook_allow_loopback,
        webhook_retention_days,
    } = options;
    let metrics = Metrics::install()?;
    let secret_key = settings.storage.secret_key()?;
    let archive_url = settings.storage.archive_url()?;
    // Bound first: a port that is taken is told before anything starts.
    let listener = TcpListener::bind(settings.http.listen)
        .await
        .with_context(|| format!("failed to listen on {}", settings.http.listen))?;
    let pools = super::replica::open_pools(&settings.database)?;
    ready_schema(&pools, migrate).await?;
    let local = match local_cluster {
        Some(_) => Some(local_settings(&settings.storage.data_dir()?)?),
        None => None,
    };
    let replica = Replica::start(ReplicaConfig {
        pools,
        http: settings.http,
        archive_url,
        secret_key,
        metrics,
        local,
        webhooks: WebhooksConfig::new(webhook_allow_loopback, webhook_retention_days),
        dev: false,
    })
    .await?;
    if let Some(name) = &local_cluster {
        replica.clusters().ensure_local(name).await?;
    }
    replica.run(listener, std::future::pending()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Where an embedded cluster keeps its attempts, and who supervises them.
pub fn local_settings(data_dir: &Path) -> anyhow::Result<LocalSettings> {
    Ok(LocalSettings {
        root: data_dir.join("local"),
        supervisor: dev::supervisor_command()?,
    })
}

/// Waits for the database, and for a schema that this version can use.
async fn ready_schema(pools: &Pools, migrate: bool) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + DATABASE_PATIENCE;
    loop {
        match migrate::check(&pools.work).await {
            Ok(()) => return Ok(()),
            Err(SchemaError::Behind { found, needed }) if migrate => {
                tracing::info!(found, needed, "migrating");
                migrate::migrate(&pools.work).await?;
            }
            Err(error @ (SchemaError::Behind { .. } | SchemaError::Migrate(_))) => return Err(error.into()),
            Err(error @ SchemaError::Read(_)) => {
                if tokio::time::Instant::now() >= deadline {
                    bail!(anyhow::Error::from(error).context("the database did not answer for a minute"));
                }
                tracing::warn!(cause = %anyhow::Error::from(error), "waiting for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

//! `qwexcloud serve`: a replica for real use.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::cli::replica::{Replica, ReplicaConfig};
use crate::config::Settings;
use crate::db::Pools;
use crate::db::migrate::{self, SchemaError};
use crate::telemetry::Metrics;

/// Postgres may start at the same time as the replica.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub settings: Settings,
    /// Migrates the database at start, if it is behind
    #[arg(long, env = "QWEX_MIGRATE")]
    migrate: bool,
}

pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { settings, migrate } = options;
    let metrics = Metrics::install()?;
    let secret_key = settings.storage.secret_key()?;
    let archive_url = settings.storage.archive_url()?;
    // Bound first: a port that is taken is told before anything starts.
    let listener = TcpListener::bind(settings.http.listen)
        .await
        .with_context(|| format!("failed to listen on {}", settings.http.listen))?;
    let pools = super::replica::open_pools(&settings.database)?;
    ready_schema(&pools, migrate).await?;
    let replica = Replica::start(ReplicaConfig {
        pools,
        http: settings.http,
        archive_url,
        secret_key,
        metrics,
        local: None,
        dev: false,
    })
    .await?;
    replica.run(listener, std::future::pending()).await?;
    Ok(ExitCode::SUCCESS)
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

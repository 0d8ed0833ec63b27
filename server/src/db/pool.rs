//! Connections to Postgres: one pool a lane, so that a flood of requests starves no watcher.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use super::error::DbResult;

/// Pools of one server process.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Requests: reads, tokens, settings.
    pub api: PgPool,
    /// The writers of runs: submit and Recorder.
    pub record: PgPool,
    /// Background work: dispatch, logs, webhooks, leases.
    pub work: PgPool,
}

/// How many connections each lane may hold.
#[derive(Debug, Clone, Copy)]
pub struct PoolSizes {
    pub api: u32,
    pub record: u32,
    pub work: u32,
}

impl Default for PoolSizes {
    fn default() -> Self {
        Self {
            api: 12,
            record: 4,
            work: 8,
        }
    }
}

impl Pools {
    /// Opens the pools; connections are made when needed, so this does not fail on a database that is
    /// not there yet.
    pub fn open(database_url: &str, sizes: PoolSizes) -> DbResult<Self> {
        let options = PgConnectOptions::from_str(database_url)?
            .application_name("qwexcloud")
            // Optional filters (`$1 IS NULL OR …`) are only planned well when their values are known.
            .options([
                ("plan_cache_mode", "force_custom_plan"),
                ("statement_timeout", "20s"),
            ]);
        let pool = |max: u32, wait: u64| {
            PgPoolOptions::new()
                .max_connections(max)
                .acquire_timeout(Duration::from_secs(wait))
                .connect_lazy_with(options.clone())
        };
        Ok(Self {
            api: pool(sizes.api, 3),
            record: pool(sizes.record, 5),
            work: pool(sizes.work, 10),
        })
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> DbResult<()> {
        sqlx::query_scalar!("SELECT 1 AS one")
            .fetch_one(&self.api)
            .await?;
        Ok(())
    }

    pub async fn close(&self) {
        tokio::join!(self.api.close(), self.record.close(), self.work.close());
    }
}

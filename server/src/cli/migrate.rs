//! `qwexcloud migrate`.

use std::process::ExitCode;

use anyhow::Context;

use crate::config::DatabaseSettings;
use crate::db::{PoolSizes, Pools, migrate};

pub async fn run(settings: &DatabaseSettings) -> anyhow::Result<ExitCode> {
    let sizes = PoolSizes {
        api: 1,
        record: 1,
        work: 1,
    };
    let pools = Pools::open(&settings.url, sizes).context("the database URL is not valid")?;
    migrate::migrate(&pools.work).await.context("failed to migrate")?;
    println!("the database is at schema {}", migrate::needed_version());
    pools.close().await;
    Ok(ExitCode::SUCCESS)
}

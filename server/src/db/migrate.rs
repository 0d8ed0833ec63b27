//! Brings a database to this version's schema, and tells whether it is there.

use sqlx::migrate::Migrator;
use sqlx::postgres::PgPool;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Why a schema cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("a migration failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the schema is at {found}, this version needs {needed}: run `qwexcloud migrate`")]
    Behind { found: i64, needed: i64 },
    #[error("the database cannot be read")]
    Read(#[from] sqlx::Error),
}

/// Applies what is missing. Several replicas may call it at once; newer migrations than ours are left alone.
pub async fn migrate(pool: &PgPool) -> Result<(), SchemaError> {
    let mut migrator = Migrator {
        migrations: MIGRATOR.migrations.clone(),
        ..Migrator::DEFAULT
    };
    migrator.set_ignore_missing(true);
    migrator.run(pool).await?;
    Ok(())
}

/// The newest migration that this version knows.
#[must_use]
pub fn needed_version() -> i64 {
    MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Refuses a database that is older than this version.
pub async fn check(pool: &PgPool) -> Result<(), SchemaError> {
    let present: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    let found: i64 = if present {
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(pool)
            .await?
    } else {
        0
    };
    let needed = needed_version();
    if found < needed {
        Err(SchemaError::Behind { found, needed })
    } else {
        Ok(())
    }
}

/// Makes the partitions of this month and the next ones. Idempotent; called at start and daily.
pub async fn ensure_partitions(pool: &PgPool) -> Result<(), SchemaError> {
    sqlx::query("SELECT ensure_partitions(now() + n * interval '1 month') FROM generate_series(-1, 2) AS n")
        .execute(pool)
        .await?;
    Ok(())
}

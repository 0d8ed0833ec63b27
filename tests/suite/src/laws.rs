//! The laws of `design.md`, asked of the database by one SQL file. Each row it yields is a broken law.

use anyhow::{Context, Result, ensure};
use sqlx::{Connection, Row};

const LAWS: &str = include_str!("../laws.sql");

/// Tables in which no secret may be found.
const TABLES: &[&str] = &[
    "run",
    "run_event",
    "attempt",
    "episode",
    "dispatch",
    "cleanup",
    "cluster",
    "token",
    "idempotency",
    "log_stream",
    "log_chunk",
    "webhook_endpoint",
    "webhook_delivery",
];

/// Checks every law, and that none of `canaries` (secrets that the test handed in) is found anywhere.
///
/// # Errors
/// A law is broken; the error names it and the row.
pub async fn check(database_url: &str, canaries: &[&str]) -> Result<()> {
    let mut connection = sqlx::PgConnection::connect(database_url)
        .await
        .context("no database to check")?;
    let rows = sqlx::query(LAWS)
        .fetch_all(&mut connection)
        .await
        .context("the laws cannot be asked")?;
    let broken: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{}: {}",
                row.get::<String, _>("law"),
                row.get::<String, _>("detail")
            )
        })
        .collect();
    ensure!(broken.is_empty(), "laws are broken:\n{}", broken.join("\n"));
    for canary in canaries {
        for table in TABLES {
            let query = format!("SELECT count(*) FROM {table} AS one WHERE position($1 IN one::text) > 0");
            let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .bind(canary)
                .fetch_one(&mut connection)
                .await?;
            ensure!(
                found == 0,
                "law 10 is broken: a secret stands in {found} rows of {table}"
            );
        }
    }
    Ok(())
}

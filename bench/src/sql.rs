//! The raw limit of Postgres: what the same machine does without qwex, by prepared statements on kept connections.

use std::str::FromStr;

use anyhow::Result;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

use crate::load::Client;

/// A row as wide as a run: key, project, state, version, 190 bytes of JSON, two times, two indexes.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS bench_row (
        id uuid PRIMARY KEY, project text NOT NULL, state text NOT NULL, rv bigint NOT NULL, spec jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX IF NOT EXISTS bench_row_by_project ON bench_row (project, id DESC);
    CREATE INDEX IF NOT EXISTS bench_row_by_state ON bench_row (project, state, id DESC);";
const INSERT: &str = "INSERT INTO bench_row (id, project, state, rv, spec) VALUES ($1, 'default', 'pending', 1, $2::text::jsonb)";

/// # Errors
/// The database is not there.
pub async fn connect(url: &str) -> Result<PgConnection> {
    let options = PgConnectOptions::from_str(url)?.disable_statement_logging();
    Ok(options.connect().await?)
}

/// `SELECT 1` on one connection.
pub struct SelectOne(PgConnection);

impl SelectOne {
    /// # Errors
    /// The database is not there.
    pub async fn many(url: &str, count: usize) -> Result<Vec<Self>> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(Self(connect(url).await?));
        }
        Ok(all)
    }
}

impl Client for SelectOne {
    async fn once(&mut self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut self.0).await?;
        Ok(())
    }
}

/// One row a commit, durable, on one connection.
pub struct InsertOne {
    connection: PgConnection,
    spec: String,
}

impl InsertOne {
    /// Makes the table where it is not there, and so many clients of it.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn many(url: &str, count: usize) -> Result<Vec<Self>> {
        let mut connection = connect(url).await?;
        sqlx::raw_sql(TABLE).execute(&mut connection).await?;
        connection.close().await?;
        let spec = format!(r#"{{"command":["sh","-c","{}"]}}"#, "x".repeat(162));
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let (connection, spec) = (connect(url).await?, spec.clone());
            all.push(Self { connection, spec });
        }
        Ok(all)
    }
}

impl Client for InsertOne {
    async fn once(&mut self) -> Result<()> {
        let insert = sqlx::query(INSERT).bind(Uuid::now_v7()).bind(&self.spec);
        insert.execute(&mut self.connection).await?;
        Ok(())
    }
}

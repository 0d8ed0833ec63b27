//! A long history of runs, made in SQL from one that was really submitted.

use anyhow::Result;
use jiff::{Timestamp, ToSpan};
use qwex_suite::Server;
use serde_json::json;

use crate::sql;

/// Runs are spread evenly over the twenty days before now. 1 of 20 failed, 1 of 1,000 is running; 1,000 names, 50 teams,
/// 4 clusters.
const FILL: &str = r#"
    INSERT INTO run (id, project, name, labels, spec, spec_hash, status, failure, exit_code, cluster,
        created_at, dispatched_at, started_at, finished_at, created_by)
    SELECT (lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))::uuid,
        'default', 'train-' || n % 1000, jsonb_build_object('team', 't' || n % 50), seed.spec, seed.spec_hash, status,
        CASE WHEN status = 'failed' THEN '{"code":"exit_nonzero","message":"exit code 1","exit_code":1}'::jsonb END,
        CASE status WHEN 'failed' THEN 1 WHEN 'succeeded' THEN 0 END, 'c' || n % 4,
        at, at, at, CASE WHEN status <> 'running' THEN at + interval '5 minutes' END, 'bench'
    FROM generate_series(1::bigint, $1) AS n
    CROSS JOIN LATERAL (SELECT $2::bigint + n * (20 * 86400000::bigint) / $1 AS ms) AS instant
    CROSS JOIN LATERAL (SELECT to_timestamp(ms / 1000.0) AS at,
        CASE WHEN n % 1000 = 500 THEN 'running' WHEN n % 20 = 3 THEN 'failed' ELSE 'succeeded' END AS status) AS facts
    CROSS JOIN (SELECT spec, spec_hash FROM run LIMIT 1) AS seed"#;

/// Fills the server's database; gives the instant in the middle of the history.
///
/// # Errors
/// The seed is refused, or SQL is.
pub async fn fill(server: &Server, rows: u32) -> Result<Timestamp> {
    let seed = json!({ "command": ["python", "-m", "train"], "image": "registry.example/train:2026-01", "env": { "SEED": "17" } });
    server.api.submit(&seed).await?;
    // Ids are in milliseconds: no instant of this history lies between two of them.
    let from = Timestamp::now() - (20 * 24 + 1).hours();
    let from = Timestamp::from_millisecond(from.as_millisecond())?;
    let mut connection = sql::connect(&server.database_url).await?;
    sqlx::query(FILL)
        .bind(i64::from(rows))
        .bind(from.as_millisecond())
        .execute(&mut connection)
        .await?;
    sqlx::raw_sql("VACUUM ANALYZE run")
        .execute(&mut connection)
        .await?;
    Ok(from + (10 * 24).hours())
}

//! NOTIFY as a hint: something changed, look again. Never the only way to learn it.

use qwex_core::RunId;
use sqlx::postgres::{PgListener, PgPool};

use super::error::DbResult;

/// Channel that carries ids of runs that changed, separated by commas.
pub const RUNS: &str = "qwex_run";
/// Channel that says that there is something to dispatch, clean up or deliver.
pub const WORK: &str = "qwex_work";

/// A NOTIFY payload is limited to 8,000 bytes; an id takes 37.
const IDS_PER_NOTIFY: usize = 200;

/// Tells every replica that these runs changed, in a transaction of its own.
pub async fn notify_runs(pool: &PgPool, runs: &[RunId]) -> DbResult<()> {
    for part in runs.chunks(IDS_PER_NOTIFY) {
        let payload = part.iter().map(RunId::to_string).collect::<Vec<_>>().join(",");
        sqlx::query!("SELECT pg_notify($1, $2)", RUNS, payload)
            .execute(pool)
            .await?;
    }
    Ok(())
}

/// Tells every replica that there is new work.
pub async fn notify_work(pool: &PgPool) -> DbResult<()> {
    sqlx::query!("SELECT pg_notify($1, '')", WORK)
        .execute(pool)
        .await?;
    Ok(())
}

/// A connection that hears both channels. It loses what is told while it reconnects.
pub async fn listen(pool: &PgPool) -> DbResult<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all([RUNS, WORK]).await?;
    Ok(listener)
}

//! Leases: a time-bound right to write, among replicas. The database's clock decides, the epoch fences.

use std::time::Duration;

use sqlx::PgExecutor;

use super::DbResult;

/// Takes a free or expired lease, or renews one's own. Returns its epoch; `None`: somebody else holds it.
pub async fn acquire(
    executor: impl PgExecutor<'_>,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> DbResult<Option<i64>> {
    let epoch = sqlx::query_scalar!(
        r#"
        INSERT INTO lease (name, holder, epoch, expires_at)
        VALUES ($1, $2, 1, now() + $3::double precision * interval '1 second')
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at,
            epoch = CASE WHEN lease.holder = excluded.holder THEN lease.epoch ELSE lease.epoch + 1 END
        WHERE lease.holder = excluded.holder OR lease.expires_at < now()
        RETURNING epoch
        "#,
        name,
        holder,
        ttl.as_secs_f64(),
    )
    .fetch_optional(executor)
    .await?;
    Ok(epoch)
}

/// Gives up every lease of a holder, so that another replica need not wait.
pub async fn release_all(executor: impl PgExecutor<'_>, holder: &str) -> DbResult<()> {
    sqlx::query!(
        "UPDATE lease SET expires_at = now() - interval '1 second' WHERE holder = $1",
        holder
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Ends every lease at once: for a server that knows that it is alone with its database.
pub async fn expire_all(executor: impl PgExecutor<'_>) -> DbResult<()> {
    sqlx::query!("UPDATE lease SET expires_at = now() - interval '1 second'")
        .execute(executor)
        .await?;
    Ok(())
}

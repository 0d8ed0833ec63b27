//! Streams whose bytes wait because the archive does not take them. Written by the follower of the stream alone.

use jiff::Timestamp;
use qwex_api::log::ArchiveTrouble;
use qwex_core::RunId;
use sqlx::{PgConnection, PgExecutor};

use super::{DbResult, Ts};

/// What waits, of one run or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The latest refusal of all.
    pub trouble: ArchiveTrouble,
    pub since: Timestamp,
    pub seen_at: Timestamp,
    pub streams: u64,
    pub runs: u64,
}

/// Notes that the archive refused bytes of a stream just now.
pub async fn tell_refused(
    conn: &mut PgConnection,
    run: RunId,
    ordinal: i32,
    trouble: ArchiveTrouble,
) -> DbResult<()> {
    sqlx::query!(
        r#"
        UPDATE log_stream SET waiting_for = $3, waiting_since = coalesce(waiting_since, now()), waiting_seen_at = now()
        WHERE run_id = $1 AND ordinal = $2 AND sealed_at IS NULL
        "#,
        run.as_uuid(),
        ordinal,
        trouble.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What waits of one run.
pub async fn find_of_run(executor: impl PgExecutor<'_>, run: RunId) -> DbResult<Option<Waiting>> {
    let row = sqlx::query!(
        r#"
        SELECT (array_agg(waiting_for ORDER BY waiting_seen_at DESC))[1] AS waiting_for, min(waiting_since) AS "since: Ts",
            max(waiting_seen_at) AS "seen_at: Ts", count(*) AS "streams!"
        FROM log_stream WHERE run_id = $1 AND waiting_for IS NOT NULL AND sealed_at IS NULL
        "#,
        run.as_uuid(),
    )
    .fetch_one(executor)
    .await?;
    Ok(
        read(row.waiting_for, row.since, row.seen_at).map(|waiting| Waiting {
            streams: u64::try_from(row.streams).unwrap_or(0),
            runs: 1,
            ..waiting
        }),
    )
}

/// What the archive refused of any run within the last `seconds`. A log that is damaged is no trouble of the archive as a whole.
pub async fn find_recent(executor: impl PgExecutor<'_>, seconds: f64) -> DbResult<Option<Waiting>> {
    let row = sqlx::query!(
        r#"
        SELECT (array_agg(waiting_for ORDER BY waiting_seen_at DESC))[1] AS waiting_for, min(waiting_since) AS "since: Ts",
            max(waiting_seen_at) AS "seen_at: Ts", count(*) AS "streams!", count(DISTINCT run_id) AS "runs!"
        FROM log_stream
        WHERE waiting_for <> 'damaged' AND sealed_at IS NULL
            AND waiting_seen_at > now() - $1::double precision * interval '1 second'
        "#,
        seconds,
    )
    .fetch_one(executor)
    .await?;
    Ok(
        read(row.waiting_for, row.since, row.seen_at).map(|waiting| Waiting {
            streams: u64::try_from(row.streams).unwrap_or(0),
            runs: u64::try_from(row.runs).unwrap_or(0),
            ..waiting
        }),
    )
}

/// Without counts; `None` where nothing waits.
fn read(word: Option<String>, since: Option<Ts>, seen_at: Option<Ts>) -> Option<Waiting> {
    Some(Waiting {
        trouble: ArchiveTrouble::from_word(&word?),
        since: since?.to_jiff(),
        seen_at: seen_at?.to_jiff(),
        streams: 0,
        runs: 0,
    })
}

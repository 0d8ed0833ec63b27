//! Whether the archive takes what it is given: of all replicas by the rows of logs that wait, of this process by what it
//! met itself. Told by `why`, `/readyz` and metrics; decides nothing.

use std::time::Duration;

use jiff::Timestamp;
use qwex_api::log::ArchiveTrouble;

use super::Archive;
use super::trouble::{RECENT, Refusal};
use crate::db::log::StreamRow;
use crate::db::waiting::{self, Waiting};
use crate::db::{DbError, DbResult, record};
use crate::recorder::LeaseGuard;

/// How often the metrics are brought up to date.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// The archive refuses what it is given. Nothing is lost by it: logs wait where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    pub trouble: ArchiveTrouble,
    pub since: Timestamp,
    /// Runs whose logs wait.
    pub runs: u64,
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.since.strftime("%Y-%m-%dT%H:%M:%SZ");
        write!(f, "failing since {since}: {}", self.trouble.words())?;
        match self.runs {
            0 => Ok(()),
            1 => write!(f, "; the log of 1 run waits for it"),
            more => write!(f, "; the logs of {more} runs wait for it"),
        }
    }
}

impl Archive {
    /// Whether the archive refuses now what it is given, here or on another replica.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn failing(&self) -> DbResult<Option<Failing>> {
        let rows = waiting::find_recent(&self.pools.api, RECENT.as_secs_f64()).await?;
        Ok(join(rows, self.store.refusal()))
    }

    /// Notes that the archive refused bytes of a stream, unless the lease of its follower has passed on.
    pub(super) async fn tell_refused(
        &self,
        guard: &LeaseGuard,
        row: &StreamRow,
        trouble: ArchiveTrouble,
    ) -> DbResult<()> {
        let mut tx = self.pools.work.begin().await.map_err(DbError::from)?;
        record::check_lease(&mut tx, guard).await?;
        waiting::tell_refused(&mut tx, row.source.run_id, row.ordinal, trouble).await?;
        tx.commit().await.map_err(DbError::from)
    }

    /// Keeps the metrics of the archive up to date, for ever.
    pub async fn measure(self) {
        metrics::describe_gauge!(
            "qwex_archive_failing_seconds",
            metrics::Unit::Seconds,
            "For how long the log archive has refused what it is given; 0 while it takes it"
        );
        metrics::describe_gauge!(
            "qwex_archive_waiting_runs",
            "Runs whose logs wait for the archive, of all replicas"
        );
        metrics::describe_counter!(
            "qwex_archive_refusals_total",
            "Writes that the log archive refused to this replica, by trouble"
        );
        let mut ticks = tokio::time::interval(MEASURE_EVERY);
        loop {
            ticks.tick().await;
            // Without the database nothing is known anew.
            if let Ok(failing) = self.failing().await {
                let seconds = failing.map_or(0.0, |failing| {
                    Timestamp::now().duration_since(failing.since).as_secs_f64()
                });
                metrics::gauge!("qwex_archive_failing_seconds").set(seconds.max(0.0));
                metrics::gauge!("qwex_archive_waiting_runs")
                    .set(failing.map_or(0.0, |failing| failing.runs as f64));
            }
        }
    }
}

fn join(rows: Option<Waiting>, own: Option<Refusal>) -> Option<Failing> {
    let of_rows = rows.map(|rows| Failing {
        trouble: rows.trouble,
        since: rows.since,
        runs: rows.runs,
    });
    let of_own = own.map(|own| Failing {
        trouble: own.trouble,
        since: own.since,
        runs: 0,
    });
    match (of_rows, of_own) {
        (Some(rows), Some(own)) => Some(Failing {
            since: rows.since.min(own.since),
            ..rows
        }),
        (rows, own) => rows.or(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_tells_what_since_when_and_how_many_wait() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let rows = Waiting {
            trouble: ArchiveTrouble::NoSpace,
            since: at(60),
            seen_at: at(90),
            streams: 3,
            runs: 2,
        };
        let own = Refusal {
            trouble: ArchiveTrouble::Denied,
            since: at(0),
            seen_at: at(90),
        };
        let told = |rows, own| join(rows, own).map(|failing| failing.to_string());
        assert_eq!(
            told(Some(rows), Some(own)).unwrap(),
            "failing since 1970-01-01T00:00:00Z: no space left on its device; the logs of 2 runs wait for it"
        );
        assert_eq!(
            told(None, Some(own)).unwrap(),
            "failing since 1970-01-01T00:00:00Z: the server may not write there"
        );
        assert_eq!(told(None, None), None);
    }
}

//! What happens after a try that failed.

use anyhow::{Result, ensure};
use qwex_testbed::wait;
use qwex_testbed::webhook_sink::{Answer, WebhookSink};

use crate::support::{Bed, LIMIT, header};

/// Seconds after each failed try, as the documents say.
const SCHEDULE: [f64; 7] = [5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0];

#[tokio::test]
async fn e05_eight_tries_over_a_day_through_a_restart_then_dead_then_replayed() -> Result<()> {
    let mut bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.otherwise(Answer::status(500));
    bed.run(0).await?;
    for (failed, base) in (1..).zip(SCHEDULE) {
        let one = bed
            .delivery(&endpoint, "failed again", |one| {
                one.tries == failed && !one.claimed
            })
            .await?;
        ensure!(one.status == "pending" && one.last_status == Some(500), "{one:?}");
        // The clock went on a little since; the spread is a fifth.
        ensure!(
            (base * 0.8 - 4.0..=base * 1.2).contains(&one.due_in),
            "after {failed}: {one:?}"
        );
        if failed == 4 {
            bed.server.kill().await?;
            bed.server.start_again().await?;
        }
        bed.pass_time().await?;
    }
    let dead = bed
        .delivery(&endpoint, "dead", |one| one.status == "dead")
        .await?;
    ensure!(dead.tries == 8 && dead.last_error.as_deref() == Some("answered 500 Internal Server Error"));

    bed.sink.otherwise(Answer::status(204));
    bed.ask(&endpoint, &format!("deliveries/{}/replay", dead.id), 202)
        .await?;
    bed.delivery(&endpoint, "delivered", |one| one.status == "delivered")
        .await?;
    let requests = bed.requests(9).await?;
    for request in &requests {
        ensure!(request.body == requests[0].body && header(request, "webhook-id")? == dead.id);
    }
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn what_has_arrived_is_forgotten_in_time_and_dead_letters_are_not() -> Result<()> {
    let mut bed = Bed::with_env(&[("QWEX_WEBHOOK_RETENTION_DAYS", "2")]).await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    for exit_code in 0..3 {
        bed.run(exit_code).await?;
    }
    bed.requests(3).await?;
    let delivered = || async {
        let all = bed.deliveries(&endpoint).await.ok()?;
        all.iter().all(|one| one.status == "delivered").then_some(all)
    };
    let all = wait::until(LIMIT, "everything to be delivered", delivered).await?;
    let age = "UPDATE webhook_delivery SET created_at = now() - interval '9 days',
        delivered_at = now() - make_interval(hours => $2), status = $3 WHERE id = $1";
    for (one, hours, status) in [
        (&all[0], 49, "delivered"),
        (&all[1], 47, "delivered"),
        (&all[2], 99, "dead"),
    ] {
        sqlx::query(age)
            .bind(&one.id)
            .bind(hours)
            .bind(status)
            .execute(&bed.db)
            .await?;
    }
    bed.server.kill().await?;
    bed.server.start_again().await?;
    let kept = || async {
        let left = bed.deliveries(&endpoint).await.ok()?;
        (left.len() < 3).then_some(left)
    };
    let left = wait::until(LIMIT, "the oldest to be forgotten", kept).await?;
    let left: Vec<&str> = left.iter().map(|one| one.id.as_str()).collect();
    ensure!(!left.contains(&all[0].id.as_str()), "{left:?}");
    ensure!(
        left.contains(&all[1].id.as_str()) && left.contains(&all[2].id.as_str()),
        "{left:?}"
    );
    // The laws know of no retention: to them it must be as if the endpoint had come after the runs.
    bed.sql("UPDATE webhook_endpoint SET created_at = now()").await?;
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn e06_retry_after_is_heard_and_cannot_stall() -> Result<()> {
    let bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.script([
        Answer::status(503).header("retry-after", "86400"),
        Answer::status(429).header("retry-after", "Fri, 31 Dec 2100 23:59:59 GMT"),
        Answer::status(502).header("retry-after", "0"),
    ]);
    bed.run(0).await?;
    for (failed, wanted) in [(1, 6.0..=10.0), (2, 590.0..=600.0), (3, 1_430.0..=2_160.0)] {
        let one = bed
            .delivery(&endpoint, "failed again", |one| {
                one.tries == failed && !one.claimed
            })
            .await?;
        ensure!(wanted.contains(&one.due_in), "{failed}: {one:?}");
        bed.pass_time().await?;
    }
    bed.delivery(&endpoint, "delivered", |one| one.status == "delivered")
        .await?;
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn e06_a_redirect_is_a_failure_and_leads_nowhere() -> Result<()> {
    let bed = Bed::new().await?;
    let other = WebhookSink::start().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink
        .script([Answer::status(307).header("location", &other.url("/"))]);
    bed.run(0).await?;
    let one = bed
        .delivery(&endpoint, "failed once", |one| one.tries == 1)
        .await?;
    ensure!(one.status == "pending" && one.last_status == Some(307), "{one:?}");
    ensure!(
        one.last_error
            .as_deref()
            .is_some_and(|text| text.contains("not followed")),
        "{one:?}"
    );
    ensure!(other.received().is_empty());
    bed.pass_time().await?;
    bed.delivery(&endpoint, "delivered", |one| one.status == "delivered")
        .await?;
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn e08_an_endless_answer_is_cut_and_counts() -> Result<()> {
    let bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.otherwise(Answer::status(200).endless());
    let before = resident(&bed)?;
    bed.run(0).await?;
    bed.delivery(&endpoint, "delivered", |one| one.status == "delivered")
        .await?;
    let grown = resident(&bed)?.saturating_sub(before);
    ensure!(grown < 64 << 10, "the server grew by {grown} KiB");
    bed.finish(&[&endpoint.secret]).await
}

/// Resident memory of the server, in KiB.
fn resident(bed: &Bed) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bed.server.pid()?))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

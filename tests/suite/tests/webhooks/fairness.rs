//! Endpoints that harm only themselves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qwex_testbed::webhook_sink::{Answer, WebhookSink};

use crate::support::Bed;

/// With the good one as many as a project may have.
const DEAD: usize = 99;
/// What a try at a dead endpoint takes is 20 s: a delivery behind one of them would come later than this.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn e11_black_holes_do_not_delay_a_good_endpoint() -> Result<()> {
    let bed = Bed::new().await?;
    let hole = WebhookSink::start().await?;
    hole.otherwise(Answer::silence());
    for number in 0..DEAD {
        bed.endpoint_at(&hole.url(&format!("/{number}")), &[]).await?;
    }
    let good = bed.endpoint("/good", &[]).await?;
    for expected in 1..=8 {
        bed.run(0).await?;
        let over = Instant::now();
        let requests = bed.requests(expected).await?;
        let late = requests[expected - 1].at.saturating_duration_since(over);
        ensure!(late < SOON, "delivery {expected} came {late:?} after the end");
    }
    let busy = hole.most_at_once();
    ensure!(
        (DEAD / 2..=DEAD).contains(&busy),
        "{busy} tries at once at {DEAD} dead endpoints"
    );
    let all = bed.deliveries(&good).await?;
    ensure!(all.iter().all(|one| one.tries <= 1), "{all:?}");
    drop(hole);
    bed.finish(&[&good.secret]).await
}

//! Endpoints that want no more, or have been dead for days.

use anyhow::{Result, ensure};
use qwex_testbed::wait;
use qwex_testbed::webhook_sink::Answer;

use crate::support::{Bed, LIMIT, header};

#[tokio::test]
async fn e06_gone_disables_and_a_test_that_arrives_enables_again() -> Result<()> {
    let bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.script([Answer::status(410)]);
    bed.run(0).await?;
    let dead = bed
        .delivery(&endpoint, "dead", |one| one.status == "dead")
        .await?;
    ensure!(dead.tries == 1, "{dead:?}");
    let shown = bed.shown(&endpoint).await?;
    ensure!(
        shown["enabled"] == false && shown["disabled_reason"] == "the endpoint answered 410 Gone",
        "{shown}"
    );

    // What happens meanwhile is kept for a replay, which says what must come first.
    bed.run(1).await?;
    let kept = || async {
        let last = bed.deliveries(&endpoint).await.ok()?.pop()?;
        (last.id != dead.id && last.status == "dead").then_some(last)
    };
    let kept = wait::until(LIMIT, "the second event is kept", kept).await?;
    ensure!(
        kept.tries == 0 && kept.last_error.as_deref() == Some("the endpoint is disabled"),
        "{kept:?}"
    );
    let replay = format!("deliveries/{}/replay", kept.id);
    let refused = bed.ask(&endpoint, &replay, 409).await?;
    ensure!(
        refused["detail"]
            .as_str()
            .is_some_and(|text| text.contains("test")),
        "{refused}"
    );

    bed.ask(&endpoint, "test", 202).await?;
    bed.requests(2).await?;
    let enabled = || async { (bed.shown(&endpoint).await.ok()?["enabled"] == true).then_some(()) };
    wait::until(LIMIT, "the endpoint is enabled", enabled).await?;
    bed.ask(&endpoint, &replay, 202).await?;
    let requests = bed.requests(3).await?;
    ensure!(header(&requests[2], "webhook-id")? == kept.id);
    bed.run(0).await?;
    bed.requests(4).await?;
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn e07_an_endpoint_that_fails_for_days_is_disabled_and_all_it_is_owed_is_seen() -> Result<()> {
    let bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.otherwise(Answer::status(500));
    bed.run(0).await?;
    bed.delivery(&endpoint, "failed once", |one| one.tries == 1 && !one.claimed)
        .await?;
    bed.run(1).await?;
    let both = || async {
        let all = bed.deliveries(&endpoint).await.ok()?;
        (all.len() == 2 && all.iter().all(|one| one.tries > 0 && !one.claimed)).then_some(())
    };
    wait::until(LIMIT, "both deliveries failed", both).await?;
    // Five days go by, and one of the two comes to its last try.
    bed.sql("UPDATE webhook_endpoint SET failing_since = now() - interval '5 days'")
        .await?;
    bed.sql(
        "UPDATE webhook_delivery SET tries = 7, next_try_at = now()
        WHERE id = (SELECT min(id) FROM webhook_delivery)",
    )
    .await?;
    let disabled = || async { (bed.shown(&endpoint).await.ok()?["enabled"] == false).then_some(()) };
    wait::until(LIMIT, "the endpoint is disabled", disabled).await?;
    let buried = || async {
        let all = bed.deliveries(&endpoint).await.ok()?;
        all.iter().all(|one| one.status == "dead").then_some(all)
    };
    let dead = wait::until(LIMIT, "nothing is owed any more", buried).await?;
    ensure!(
        dead[1].last_error.as_deref() == Some("the endpoint is disabled"),
        "{dead:?}"
    );
    let listed = bed
        .server
        .api
        .get(&format!("/v1/webhooks/{}/deliveries", endpoint.id))
        .await?;
    let listed = listed.expect(200)?.json();
    let statuses: Vec<&str> = listed["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["status"].as_str())
        .collect();
    ensure!(statuses == ["dead", "dead"], "{listed}");
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn a_removed_endpoint_gets_nothing_more() -> Result<()> {
    let bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.otherwise(Answer::status(500));
    bed.run(0).await?;
    bed.delivery(&endpoint, "failed once", |one| one.tries == 1 && !one.claimed)
        .await?;
    let path = format!("/v1/webhooks/{}", endpoint.id);
    let api = &bed.server.api;
    api.send(reqwest::Method::DELETE, &path, None, &[])
        .await?
        .expect(204)?;
    api.get(&path).await?.expect(404)?;
    bed.pass_time().await?;
    bed.delivery(&endpoint, "laid to the dead", |one| one.status == "dead")
        .await?;
    bed.run(0).await?;
    ensure!(bed.sink.received().len() == 1);
    bed.finish(&[&endpoint.secret]).await
}

//! What is sent: headers, signature, payload; and how a secret is rotated.

use anyhow::{Result, ensure};
use qwex_api::webhook::{WebhookEvent, WebhookPayload};
use qwex_core::RunStatus;
use qwex_testbed::webhook_sink::Answer;

use crate::support::{Bed, header, verifies};

#[tokio::test]
async fn e03_the_official_library_verifies_what_arrives() -> Result<()> {
    let bed = Bed::new().await?;
    let all = ["run.started", "run.succeeded", "run.failed", "run.cancelled"];
    let endpoint = bed.endpoint("/in?key=1", &all).await?;
    let run = bed.run(3).await?;
    let requests = bed.requests(2).await?;
    for request in &requests {
        ensure!(verifies(&endpoint.secret, request), "{request:?}");
        let (id, signature) = (
            header(request, "webhook-id")?,
            header(request, "webhook-signature")?,
        );
        ensure!(id.starts_with("msg_") && !id.contains('.'), "{id}");
        ensure!(
            signature.starts_with("v1,") && !signature.contains(' '),
            "{signature}"
        );
        ensure!(header(request, "content-type")? == "application/json");
        ensure!(request.method == "POST" && request.target == "/in?key=1");
        let mut forged = request.clone();
        forged.body = [b" ", request.body.as_ref()].concat().into();
        ensure!(!verifies(&endpoint.secret, &forged), "other bytes verify");
        let mut forged = request.clone();
        forged.headers.insert("webhook-id", "msg_other".parse()?);
        ensure!(!verifies(&endpoint.secret, &forged), "another id verifies");
    }
    let payloads = requests
        .iter()
        .map(|one| serde_json::from_slice(&one.body))
        .collect::<Result<Vec<WebhookPayload>, _>>()?;
    let ended = payloads
        .iter()
        .find(|one| one.event == WebhookEvent::RunFailed)
        .expect("the end is told");
    let started = payloads
        .iter()
        .find(|one| one.event == WebhookEvent::RunStarted)
        .expect("the start is told");
    ensure!(ended.data.run_id == Some(run.id) && ended.data.status == Some(RunStatus::Failed));
    ensure!(ended.data.exit_code == Some(3) && ended.data.failure.as_deref() == Some("exit_code"));
    ensure!(
        started.data.sequence < ended.data.sequence,
        "order is told by the sequence"
    );
    let link = ended.data.link.as_deref().unwrap_or_default();
    let path = link
        .strip_prefix(bed.server.api.base.as_str())
        .unwrap_or_default();
    let linked = bed.server.api.get(path).await?.expect(200)?.json();
    ensure!(linked["id"] == run.id.to_string(), "{link} leads to {linked}");
    bed.finish(&[&endpoint.secret]).await
}

#[tokio::test]
async fn e04_a_rotation_between_two_tries_breaks_no_receiver() -> Result<()> {
    let bed = Bed::new().await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.sink.script([Answer::status(500)]);
    bed.run(0).await?;
    bed.delivery(&endpoint, "failed once", |one| one.tries == 1)
        .await?;
    let rotated = bed.ask(&endpoint, "rotate", 200).await?;
    let new = rotated["secret"].as_str().unwrap_or_default().to_owned();
    ensure!(new.starts_with("whsec_") && new != endpoint.secret);
    bed.pass_time().await?;
    let requests = bed.requests(2).await?;
    ensure!(verifies(&endpoint.secret, &requests[0]) && !verifies(&new, &requests[0]));
    ensure!(verifies(&endpoint.secret, &requests[1]) && verifies(&new, &requests[1]));
    let signatures = header(&requests[1], "webhook-signature")?;
    ensure!(signatures.split(' ').count() == 2, "{signatures}");
    ensure!(requests[0].body == requests[1].body);

    bed.sql("UPDATE webhook_endpoint SET previous_until = now()")
        .await?;
    bed.ask(&endpoint, "test", 202).await?;
    let requests = bed.requests(3).await?;
    ensure!(
        verifies(&new, &requests[2]) && !verifies(&endpoint.secret, &requests[2]),
        "the day is over"
    );
    bed.finish(&[&endpoint.secret, &new]).await
}

#[tokio::test]
async fn e04_every_endpoint_has_its_own_secret_and_shows_it_once() -> Result<()> {
    let bed = Bed::new().await?;
    let (one, two) = (bed.endpoint("/one", &[]).await?, bed.endpoint("/two", &[]).await?);
    ensure!(one.secret != two.secret);
    bed.run(0).await?;
    for request in bed.requests(2).await? {
        let (own, other) = if request.target == "/one" {
            (&one, &two)
        } else {
            (&two, &one)
        };
        ensure!(verifies(&own.secret, &request) && !verifies(&other.secret, &request));
    }
    let shown = format!(
        "{} {}",
        bed.shown(&one).await?,
        bed.server.api.get("/v1/webhooks").await?.json()
    );
    ensure!(!shown.contains("whsec_") && !shown.contains("sealed"), "{shown}");
    bed.finish(&[&one.secret, &two.secret]).await
}

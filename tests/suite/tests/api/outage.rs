//! Postgres goes away and comes back: requests are refused with a reason, nothing is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::postgres::Postgres;
use qwex_testbed::wait;
use serde_json::json;

#[tokio::test]
async fn b06_without_postgres_every_request_says_so_and_it_recovers_by_itself() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let postgres = Postgres::start().await?;
    let database_url = Some(postgres.database().await?);
    let server = Server::start_with(ServerSetup {
        database_url,
        ..Default::default()
    })
    .await?;
    let api = &server.api;
    let run = api.submit(&json!({"command": ["true"]})).await?;
    api.until_sealed(run.id, Duration::from_secs(30)).await?;
    postgres.crash().await?;
    let limit = Duration::from_secs(15);
    let refused = wait::until(limit, "a 503", || async {
        api.get("/v1/whoami")
            .await
            .ok()
            .filter(|reply| reply.status == 503)
    })
    .await?;
    ensure!(refused.headers.contains_key("retry-after"), "{refused:?}");
    let problem = refused.json();
    ensure!(
        problem["code"] == "unavailable" && problem["retryable"] == true,
        "{problem}"
    );
    ensure!(
        !problem.to_string().contains("postgres"),
        "the cause stays inside: {problem}"
    );
    let submitted = api.post("/v1/runs", &json!({"command": ["true"]})).await?;
    ensure!(submitted.status == 503, "{submitted:?}");
    ensure!(
        api.get("/livez").await?.status == 200,
        "a server without a database lives"
    );
    ensure!(api.get("/readyz").await?.status == 503, "and is not ready");
    // F01: what is no token is refused without the database.
    api.with_token("qwx_nonsense")
        .get("/v1/whoami")
        .await?
        .expect(401)?;
    postgres.start_again().await?;
    wait::until(limit, "the server to be ready again", || async {
        api.get("/readyz").await.ok().filter(|reply| reply.status == 200)
    })
    .await?;
    ensure!(api.run(run.id).await?.status.is_terminal());
    let run = api.submit(&json!({"command": ["true"]})).await?;
    api.until_sealed(run.id, Duration::from_secs(30)).await?;
    server.settle(&[]).await
}

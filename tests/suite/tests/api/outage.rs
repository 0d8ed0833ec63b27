//! Postgres goes away and comes back: requests are refused with a reason, nothing is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use qwex_core::RunId;
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::postgres::Postgres;
use qwex_testbed::tcp_proxy::{Cut, Fault, Faults, TcpProxy};
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

/// The database goes away while requests are on their way through it: each is answered with a problem that says what
/// to do, and a submit that is sent again is the same run, whether or not the first one was recorded.
#[tokio::test]
async fn b08_postgres_gone_in_the_middle_of_a_request() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let postgres = Postgres::start().await?;
    let proxy = TcpProxy::start(std::net::SocketAddr::from(([127, 0, 0, 1], postgres.port()))).await?;
    let direct = postgres.database().await?;
    let through = direct.replace(&postgres.port().to_string(), &proxy.addr().port().to_string());
    let server = Server::start_with(ServerSetup {
        database_url: Some(through),
        ..Default::default()
    })
    .await?;
    let api = &server.api;
    let limit = Duration::from_secs(60);
    let mut ids = Vec::new();
    for round in 0..6_u64 {
        // The statements still reach Postgres; of the replies only a part comes back, another part each time.
        let cut = Fault::CutAfter {
            bytes: round * 40,
            how: Cut::Reset,
        };
        let faults = if round % 2 == 0 {
            Faults::down(cut)
        } else {
            Faults::both(cut)
        };
        let id = RunId::mint();
        let body = json!({ "id": id, "command": ["true"] });
        proxy.set(faults);
        let reply = api.post("/v1/runs", &body).await?;
        if reply.status == 503 {
            let problem = reply.json();
            ensure!(
                problem["code"] == "unavailable" && problem["retryable"] == true,
                "{problem}"
            );
            let request_id = problem["instance"].as_str().unwrap_or_default();
            ensure!(!request_id.is_empty(), "no request id: {problem}");
            ensure!(reply.headers.contains_key("retry-after"), "{reply:?}");
            ensure!(
                server.log()?.contains(request_id),
                "the log does not know request {request_id}"
            );
        } else {
            ensure!(reply.status == 201, "{reply:?}");
        }
        ensure!(
            api.get("/v1/runs").await?.status == 503,
            "round {round}: it reads without a database"
        );
        proxy.set(Faults::NONE);
        // The same request, again and again, until it is taken.
        let again = wait::until(limit, "the submit to be taken", || async {
            let reply = api.post("/v1/runs", &body).await.ok()?;
            [200, 201].contains(&reply.status.as_u16()).then_some(reply)
        })
        .await?;
        ensure!(again.json()["id"] == json!(id), "{again:?}");
        ids.push(id);
    }
    for id in &ids {
        let run = api.until_sealed(id, limit).await?;
        ensure!(run.attempt.0 == 1 && run.exit_code == Some(0), "{run:#?}");
    }
    let all = api.get("/v1/runs?page_size=100").await?.expect(200)?.json();
    ensure!(
        all["items"]
            .as_array()
            .is_some_and(|runs| runs.len() == ids.len()),
        "{all}"
    );
    server.settle(&[]).await
}

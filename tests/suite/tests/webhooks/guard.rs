//! Addresses that a webhook must not lead to, at registration and at the dial.

use anyhow::{Result, ensure};
use qwex_testbed::webhook_sink::WebhookSink;
use serde_json::json;

use crate::support::Bed;

const STRICT: &[(&str, &str)] = &[("QWEX_WEBHOOK_ALLOW_LOOPBACK", "false")];

#[tokio::test]
async fn e09_private_addresses_are_refused_at_registration() -> Result<()> {
    let bed = Bed::with_env(STRICT).await?;
    let refused = [
        "http://127.0.0.1/",
        "http://0177.0.0.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1%25eth0]/",
        "http://localhost:8080/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[fd00:ec2::254]/",
        "http://user:pass@example.com/",
        "http://example.com/#fragment",
        "ftp://example.com/",
        "not a url",
    ];
    for url in refused {
        let answer = bed
            .server
            .api
            .post("/v1/webhooks", &json!({ "url": url }))
            .await?;
        let status = answer.status.as_u16();
        ensure!((400..500).contains(&status), "{url}: {status}");
        let problem = answer.json();
        ensure!(problem["code"] == "endpoint_refused", "{url}: {problem}");
        ensure!(problem["errors"][0]["pointer"] == "/url", "{url}: {problem}");
    }
    let listed = bed.server.api.get("/v1/webhooks").await?.expect(200)?.json();
    ensure!(listed["items"] == json!([]), "{listed}");
    bed.finish(&[]).await
}

#[tokio::test]
async fn e10_an_address_is_checked_again_when_it_is_dialled() -> Result<()> {
    let bed = Bed::with_env(STRICT).await?;
    let port = bed.sink.addr().port();
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "localhost."] {
        let endpoint = bed.endpoint_at("https://example.com/", &[]).await?;
        // As if the name had been public when it was registered and leads here now.
        sqlx::query("UPDATE webhook_endpoint SET url = $2 WHERE id = $1")
            .bind(&endpoint.id)
            .bind(format!("http://{host}:{port}/"))
            .execute(&bed.db)
            .await?;
        bed.ask(&endpoint, "test", 202).await?;
        let dead = bed
            .delivery(&endpoint, "dead", |one| one.status == "dead")
            .await?;
        let error = dead.last_error.unwrap_or_default();
        ensure!(error.contains("public internet"), "{host}: {error}");
    }
    ensure!(bed.sink.received().is_empty(), "{:?}", bed.sink.received());
    bed.finish(&[]).await
}

#[tokio::test]
async fn e10_no_proxy_is_asked() -> Result<()> {
    let proxy = WebhookSink::start().await?;
    let url = proxy.url("");
    let env = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ]
    .map(|key| (key, url.as_str()));
    let bed = Bed::with_env(&env).await?;
    let endpoint = bed.endpoint("/", &[]).await?;
    bed.ask(&endpoint, "test", 202).await?;
    bed.requests(1).await?;
    ensure!(proxy.received().is_empty(), "{:?}", proxy.received());
    bed.finish(&[&endpoint.secret]).await
}

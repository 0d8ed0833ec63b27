//! What the tests of webhooks share: a server, a receiver, the outbox as it is in SQL.

use std::time::Duration;

use anyhow::{Context, Result};
use qwex_core::Run;
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::wait;
use qwex_testbed::webhook_sink::{Received, WebhookSink};
use serde_json::{Value, json};
use sqlx::PgPool;
use standardwebhooks::Webhook;

/// For whatever should take a second on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(45);

pub struct Bed {
    pub server: Server,
    pub sink: WebhookSink,
    pub db: PgPool,
}

/// An endpoint as it was answered when it was made.
pub struct Endpoint {
    pub id: String,
    pub secret: String,
}

/// A delivery as SQL has it.
#[derive(Debug, sqlx::FromRow)]
pub struct Delivery {
    pub id: String,
    pub status: String,
    pub tries: i32,
    pub last_status: Option<i32>,
    pub last_error: Option<String>,
    /// Seconds until it is due.
    pub due_in: f64,
    pub claimed: bool,
}

impl Bed {
    pub async fn new() -> Result<Self> {
        Self::with_env(&[]).await
    }

    pub async fn with_env(env: &[(&str, &str)]) -> Result<Self> {
        let env = env
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let server = Server::start_with(ServerSetup {
            env: env.collect(),
            ..ServerSetup::default()
        })
        .await?;
        let db = PgPool::connect(&server.database_url).await?;
        let sink = WebhookSink::start().await?;
        Ok(Self { server, sink, db })
    }

    /// Makes an endpoint that leads to the receiver.
    pub async fn endpoint(&self, path: &str, events: &[&str]) -> Result<Endpoint> {
        self.endpoint_at(&self.sink.url(path), events).await
    }

    pub async fn endpoint_at(&self, url: &str, events: &[&str]) -> Result<Endpoint> {
        let body = json!({ "url": url, "events": events });
        let made = self.server.api.post("/v1/webhooks", &body).await?.expect(201)?;
        let made = made.json();
        Ok(Endpoint {
            id: text(&made["webhook"]["id"])?,
            secret: text(&made["secret"])?,
        })
    }

    /// The endpoint as the API shows it.
    pub async fn shown(&self, endpoint: &Endpoint) -> Result<Value> {
        let path = format!("/v1/webhooks/{}", endpoint.id);
        Ok(self.server.api.get(&path).await?.expect(200)?.json())
    }

    /// Calls a verb of an endpoint.
    pub async fn ask(&self, endpoint: &Endpoint, verb: &str, status: u16) -> Result<Value> {
        let path = format!("/v1/webhooks/{}/{verb}", endpoint.id);
        Ok(self
            .server
            .api
            .post(&path, &json!({}))
            .await?
            .expect(status)?
            .json())
    }

    /// A run that ends with this code, to its end.
    pub async fn run(&self, exit_code: u8) -> Result<Run> {
        let command = ["sh", "-c", &format!("exit {exit_code}")];
        let run = self.server.api.submit(&json!({ "command": command })).await?;
        self.server
            .api
            .until(run.id, LIMIT, "over", |run| run.status.is_terminal())
            .await
    }

    pub async fn requests(&self, count: usize) -> Result<Vec<Received>> {
        let waited = self.sink.wait_for(count, LIMIT).await;
        waited.with_context(|| self.server.log_tail())
    }

    /// Waits until the only delivery of an endpoint is as wanted.
    pub async fn delivery(
        &self,
        endpoint: &Endpoint,
        what: &str,
        wanted: impl Fn(&Delivery) -> bool,
    ) -> Result<Delivery> {
        let probe = || async {
            let found = self
                .deliveries(endpoint)
                .await
                .map_err(|error| error.to_string())?;
            match <[Delivery; 1]>::try_from(found) {
                Ok([one]) if wanted(&one) => Ok(one),
                Ok([one]) => Err(format!("{one:?}")),
                Err(several) => Err(format!("not one: {several:?}")),
            }
        };
        Ok(wait::until_ok(LIMIT, what, probe).await?)
    }

    /// The deliveries of an endpoint, oldest first.
    pub async fn deliveries(&self, endpoint: &Endpoint) -> Result<Vec<Delivery>> {
        let sql = "SELECT id, status, tries, last_status, last_error,
                extract(epoch FROM next_try_at - now())::float8 AS due_in,
                coalesce(claimed_until > now(), false) AS claimed
            FROM webhook_delivery WHERE endpoint_id = $1 ORDER BY created_at, id";
        Ok(sqlx::query_as(sql).bind(&endpoint.id).fetch_all(&self.db).await?)
    }

    /// Lets the time pass until every delivery that waits is due and every claim has run out.
    pub async fn pass_time(&self) -> Result<()> {
        self.sql(
            "UPDATE webhook_delivery SET next_try_at = now(), claimed_until = NULL WHERE status = 'pending'",
        )
        .await
    }

    pub async fn sql(&self, sql: &'static str) -> Result<()> {
        sqlx::query(sql).execute(&self.db).await?;
        Ok(())
    }

    /// Checks the laws, that no secret is in the log of the server, and ends it.
    pub async fn finish(mut self, secrets: &[&str]) -> Result<()> {
        self.server.settle(secrets).await?;
        let log = self.server.log()?;
        for secret in secrets {
            anyhow::ensure!(!log.contains(secret), "a secret stands in the log of the server");
        }
        self.db.close().await;
        self.server.terminate(Duration::from_secs(25)).await?;
        Ok(())
    }
}

/// Whether the official library takes a request as signed with this secret.
pub fn verifies(secret: &str, request: &Received) -> bool {
    let webhook = Webhook::new(secret).expect("a secret that the server made");
    webhook.verify(&request.body, &request.headers).is_ok()
}

/// A header that must be there.
pub fn header<'r>(request: &'r Received, name: &str) -> Result<&'r str> {
    request
        .header(name)
        .with_context(|| format!("no {name} in {request:?}"))
}

/// The payload that was received.
pub fn payload(request: &Received) -> Result<Value> {
    serde_json::from_slice(&request.body).context("the payload is no JSON")
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("no string in the answer")?.to_owned())
}

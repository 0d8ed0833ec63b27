//! Clients that submit runs over the wire, and the proof that each run is there once.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use qwex_suite::Server;
use uuid::Uuid;

use crate::bench::address;
use crate::load::Client;
use crate::sql;
use crate::wire::{self, Wire};

/// A run of usual size.
const BODY: &str = r#"{"command":["python","-m","train","--epochs","3","--lr","0.001"],"image":"registry.example/train:2026-01","env":{"SEED":"17","MODE":"full"},"labels":{"team":"vision","kind":"nightly"},"resources":{"cpu":"2","memory":"4Gi"}}"#;

/// Submits run after run on one connection, each with a key of its own.
pub struct Submitter {
    wire: Wire,
    token: String,
    body: String,
    /// The runs that the server said it has.
    pub acknowledged: Vec<Uuid>,
}

impl Submitter {
    /// So many connections to a server.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn many(server: &Server, count: usize) -> Result<Vec<Self>> {
        Self::many_of(server, count, BODY).await
    }

    /// As [`Submitter::many`], each submitting `body`.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn many_of(server: &Server, count: usize, body: &str) -> Result<Vec<Self>> {
        let address: SocketAddr = address(server)?;
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(Self {
                wire: Wire::connect(address).await?,
                token: server.api.token.clone(),
                body: body.to_owned(),
                acknowledged: Vec::new(),
            });
        }
        Ok(all)
    }
}

impl Client for Submitter {
    async fn once(&mut self) -> Result<()> {
        let headers = [
            format!("authorization: Bearer {}", self.token),
            format!("idempotency-key: {}", Uuid::now_v7()),
        ];
        let request = wire::request("POST", "/v1/runs", &headers, &self.body);
        let answer = self.wire.exchange(&request).await?;
        ensure!(
            answer.status == 201,
            "{}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        let id = wire::string_of(answer.body, "id").context("no id in the answer")?;
        self.acknowledged.push(id.parse()?);
        Ok(())
    }
}

/// Every acknowledged run is in SQL, and nothing else: once as a run, once as an intent, once in the history, once under
/// its key.
///
/// # Errors
/// A run is lost or doubled.
pub async fn check(server: &Server, clients: &[Submitter]) -> Result<()> {
    let mut ids: Vec<Uuid> = clients
        .iter()
        .flat_map(|client| client.acknowledged.iter().copied())
        .collect();
    let told = i64::try_from(ids.len())?;
    ids.sort_unstable();
    ids.dedup();
    ensure!(i64::try_from(ids.len())? == told, "an id was given twice");
    let mut connection = sql::connect(&server.database_url).await?;
    for question in [
        "SELECT count(*) FROM run WHERE id = ANY ($1)",
        "SELECT count(*) FROM run WHERE $1::uuid[] IS NOT NULL",
        "SELECT count(*) FROM dispatch WHERE run_id = ANY ($1)",
        "SELECT count(*) FROM run_event WHERE kind = 'submitted' AND run_id = ANY ($1)",
        "SELECT count(DISTINCT run_id) FROM idempotency WHERE run_id = ANY ($1)",
    ] {
        let count: i64 = sqlx::query_scalar(question)
            .bind(&ids)
            .fetch_one(&mut connection)
            .await?;
        ensure!(
            count == told,
            "{told} runs were acknowledged, yet {question} is {count}"
        );
    }
    Ok(())
}

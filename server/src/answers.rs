//! Answers kept for a day under an Idempotency-Key, so that a repeated POST does nothing twice. Called by `http` for
//! every POST but submit, whose key stands in the transaction of the run.

use std::time::Duration;

use sqlx::PgPool;

use crate::db::idempotency;
use crate::db::{DbError, DbResult};

pub use crate::db::idempotency::KeyedRequest;

/// Keys forgotten in one statement.
const SWEEP: i64 = 1000;
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// What a key stands for when a request comes with it.
#[derive(Debug)]
pub enum Claim {
    /// Nothing yet: the request is to be carried out and its answer kept.
    New,
    /// The same request was answered before.
    Answered { status: u16, response: Vec<u8> },
    /// The same request was answered before, with a secret that is shown only once.
    Secret,
    /// The first request with this key is being carried out.
    InFlight,
    /// The key was used with another request.
    Mismatch,
}

/// The store of answers.
#[derive(Clone)]
pub struct Answers {
    pool: PgPool,
}

impl Answers {
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Takes a key for a request, or says what it stands for.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn claim(&self, request: &KeyedRequest) -> DbResult<Claim> {
        // A key can be freed between the two questions; then it is asked again.
        for _ in 0..3 {
            if idempotency::claim(&self.pool, request).await? {
                return Ok(Claim::New);
            }
            if let Some(stored) = idempotency::find_answer(&self.pool, request).await? {
                return read(request, stored);
            }
        }
        Ok(Claim::InFlight)
    }

    /// Keeps the answer of a request that took its key. `None`: it holds a secret and is not kept.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn keep(&self, request: &KeyedRequest, status: u16, response: Option<&[u8]>) -> DbResult<()> {
        idempotency::update_answer(&self.pool, request, i32::from(status), response).await
    }

    /// Frees the key of a request that changed nothing.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn release(&self, request: &KeyedRequest) -> DbResult<()> {
        idempotency::release(&self.pool, request).await
    }

    /// Forgets old answers, for ever. Every replica may do it.
    pub async fn sweep(self) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            loop {
                match idempotency::delete_old(&self.pool, SWEEP).await {
                    Ok(gone) if gone < SWEEP as u64 => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "old answers were not forgotten");
                        break;
                    }
                }
            }
        }
    }
}

fn read(request: &KeyedRequest, stored: idempotency::StoredAnswer) -> DbResult<Claim> {
    if stored.hash != request.hash {
        return Ok(Claim::Mismatch);
    }
    let Some(status) = stored.status else {
        return Ok(Claim::InFlight);
    };
    let status = u16::try_from(status).map_err(|_| DbError::Unreadable {
        column: "status",
        value: status.to_string(),
    })?;
    Ok(match stored.response {
        Some(response) => Claim::Answered { status, response },
        None => Claim::Secret,
    })
}

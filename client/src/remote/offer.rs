//! What the backend `remote` says of itself before a run and of a run after its end. What it offers is what a server
//! takes for any of its clusters; whether one of them fits is the server's to say.

use std::time::Duration;

use async_trait::async_trait;
use qwex_runner::backend::SERVER_FEATURES;
use qwex_runner::{Details, Feature, Handle, Probe, RunnerError};

use super::backend::{Backend, refused};

#[async_trait]
impl qwex_runner::Backend for Backend {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn features(&self) -> &[Feature] {
        SERVER_FEATURES
    }

    async fn probe(&self) -> Result<Probe, RunnerError> {
        let meta = self.client.meta().await.map_err(refused)?.value;
        let who = self.client.whoami().await.map_err(refused)?.value;
        Ok(Probe {
            version: Some(meta.server_version),
            detail: format!("{} as {}", self.client.server(), who.principal),
            notes: Vec::new(),
            // `doctor` compares the server's clock by itself, as it does without this.
            skew: None,
        })
    }

    /// Each look is a request.
    fn cancel_pause(&self) -> Duration {
        Duration::from_millis(250)
    }

    async fn details(&self, handle: &Handle) -> Result<Details, RunnerError> {
        let run = self
            .client
            .get_run(handle.run_id, None)
            .await
            .map_err(refused)?
            .value;
        let provenance = run.provenance.unwrap_or_default();
        Ok(Details {
            image_digest: provenance.image_digest,
            host: provenance.host,
            usage: run.usage,
        })
    }

    /// Nothing: the server releases what lies on its clusters, and keeps its history.
    async fn remove(&self, _handle: &Handle) -> Result<(), RunnerError> {
        Ok(())
    }
}

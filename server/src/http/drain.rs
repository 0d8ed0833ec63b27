//! How a replica leaves: first it says that it is not ready, then it closes.

use tokio_util::sync::CancellationToken;

/// The two steps of leaving, shared by everything that serves.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: CancellationToken,
    closing: CancellationToken,
}

impl Drain {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `/readyz` says 503 from now on, so that no new work is sent here.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// No connection is accepted from now on, and streams end.
    pub fn close(&self) {
        self.draining.cancel();
        self.closing.cancel();
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Resolves once it closes.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }
}

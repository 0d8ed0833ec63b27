//! One cluster of each kind for all tests of a binary, started by the first that asks. They end with the test process.
//! A test that harms its cluster starts its own.

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use crate::Cluster;
use crate::queue::{self, QueueStandIn};

static ALPHA: OnceCell<Cluster> = OnceCell::const_new();
static BETA: OnceCell<Cluster> = OnceCell::const_new();
static QUEUE: OnceCell<QueueStandIn> = OnceCell::const_new();

/// The shared cluster with a real node: the one running in `$QWEX_TESTBED_ALPHA` where that is set, as `qwex-testbed up`
/// prints it, else one started here.
///
/// # Errors
/// As [`Cluster::alpha`] and [`Cluster::attach`].
pub async fn alpha() -> Result<&'static Cluster> {
    ALPHA
        .get_or_try_init(async || attached_or("QWEX_TESTBED_ALPHA", Cluster::alpha()).await)
        .await
}

/// The shared cluster with simulated nodes: the one running in `$QWEX_TESTBED_BETA` where that is set, else one started
/// here.
///
/// # Errors
/// As [`Cluster::beta`] and [`Cluster::attach`].
pub async fn beta() -> Result<&'static Cluster> {
    BETA.get_or_try_init(async || attached_or("QWEX_TESTBED_BETA", Cluster::beta("beta")).await)
        .await
}

/// Kubeconfig (YAML) of the shared cluster with a queue: the one in `$QWEX_TEST_KUEUE_KUBECONFIG` with the real Kueue where
/// that is set, else [`beta`] with the queue stand-in.
///
/// # Errors
/// As [`beta`] and [`QueueStandIn::start`].
pub async fn queued() -> Result<String> {
    if let Some(path) = queue::real_kueue() {
        return std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()));
    }
    let beta = beta().await?;
    QUEUE
        .get_or_try_init(|| QueueStandIn::start(beta.kubeconfig()))
        .await?;
    Ok(beta.kubeconfig().to_owned())
}

async fn attached_or(variable: &str, start: impl Future<Output = Result<Cluster>>) -> Result<Cluster> {
    match std::env::var_os(variable).filter(|dir| !dir.is_empty()) {
        Some(dir) => Cluster::attach(dir.as_ref()),
        None => start.await,
    }
}

//! Keeps the queues of a cluster in step with what the cluster has: placement looks at them.

use std::time::Duration;

use qwex_runner_k8s::K8sBackend;
use tokio_util::sync::CancellationToken;

use super::Backend;
use crate::db::{Pools, cluster};
use crate::hints::Hints;

/// A queue that was made is known after so long at most.
const LOOK: Duration = Duration::from_secs(10);

/// Looks until told to stop. A cluster that does not answer keeps the queues it had.
pub(super) async fn keep(pools: Pools, hints: Hints, backend: Backend, stop: CancellationToken) {
    let Some(kubernetes) = &backend.kubernetes else {
        return;
    };
    loop {
        if let Some(queues) = look(&backend, kubernetes).await {
            match cluster::note_queues(&pools.work, &backend.name, &queues).await {
                Ok(true) => hints.tell(&[], true).await,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(cluster = %backend.name, error = &error as &dyn std::error::Error, "queues were not noted");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look(backend: &Backend, kubernetes: &K8sBackend) -> Option<Vec<String>> {
    match super::within(kubernetes.queues()).await {
        Ok(queues) => {
            let mut names: Vec<String> = queues.into_iter().map(|queue| queue.name).collect();
            names.sort_unstable();
            names.dedup();
            Some(names)
        }
        Err(error) => {
            tracing::debug!(cluster = %backend.name, error = &error as &dyn std::error::Error, "queues cannot be read");
            None
        }
    }
}

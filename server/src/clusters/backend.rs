//! A cluster as the server works with it: a Runner and a Watcher, and what is known of it.

use std::sync::Arc;
use std::time::Duration;

use qwex_core::{ClusterName, JobSpec, QueueName};
use qwex_runner::{Runner, RunnerError, Watcher};
use qwex_runner_k8s::K8sBackend;

use crate::recorder::SeenOn;

/// A connected cluster. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    pub name: ClusterName,
    pub runner: Arc<dyn Runner>,
    pub watcher: Arc<dyn Watcher>,
    /// Where Jobs are made; `None` where there are no namespaces.
    pub namespace: Option<String>,
    /// LocalQueue of runs that name none.
    pub default_queue: Option<QueueName>,
    /// The same cluster where it is Kubernetes: it has queues.
    pub(super) kubernetes: Option<K8sBackend>,
}

impl Backend {
    /// How the Recorder knows it.
    #[must_use]
    pub fn seen_on(&self) -> SeenOn {
        SeenOn {
            kind: self.runner.kind(),
            cluster: self.name.clone(),
            namespace: self.namespace.clone(),
        }
    }

    /// A run's spec as it is handed to this cluster.
    #[must_use]
    pub fn spec_for(&self, spec: &JobSpec) -> JobSpec {
        JobSpec {
            queue: spec.queue.clone().or_else(|| self.default_queue.clone()),
            ..spec.clone()
        }
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// No call to a cluster takes longer.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Bounds a call to a cluster.
///
/// # Errors
/// Those of the call, and `Unreachable` when it takes too long.
pub async fn within<T>(call: impl Future<Output = Result<T, RunnerError>>) -> Result<T, RunnerError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(result) => result,
        Err(_) => Err(RunnerError::Unreachable {
            message: format!("no answer within {} s", CALL_DEADLINE.as_secs()),
        }),
    }
}

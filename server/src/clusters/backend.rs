//! A cluster as the server works with it: a Runner and a Watcher, and what is known of it.

use std::sync::Arc;

use qwex_core::{ClusterName, QueueName};
use qwex_runner::{Runner, Watcher};

/// A connected cluster. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    pub name: ClusterName,
    pub runner: Arc<dyn Runner>,
    pub watcher: Arc<dyn Watcher>,
    /// LocalQueue of runs that name none.
    pub default_queue: Option<QueueName>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

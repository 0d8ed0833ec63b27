//! Registered clusters: checked, stored sealed, connected, and given a task group while this replica holds
//! their lease. Each cluster is a bulkhead: its own client, its own loops, its own deadlines.
//!
//! Called by `http` (the service [`Clusters`]) and by `cli` (the [`Supervisor`]).

mod backend;
mod connect;
mod queues;
mod reach;
mod register;
mod supervisor;

use qwex_api::cluster::{ClusterCheck, ClusterInfo, ClusterStatus};
use qwex_core::ClusterName;

pub use backend::{Backend, within};
pub use connect::{ConnectFailure, Connector, LocalSettings};
pub use qwex_runner_k8s::Tuning;
pub use reach::{Reach, Verdict};
pub use supervisor::Supervisor;

use crate::db::{DbError, Pools, cluster, dispatch};
use crate::hints::Hints;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clusters {
    pools: Pools,
    hints: Hints,
    connector: Connector,
}

/// Why the service refuses.
#[derive(Debug, thiserror::Error)]
pub enum ClustersError {
    #[error("there is no cluster {0}")]
    NotFound(ClusterName),
    #[error("a cluster {0} exists")]
    Exists(ClusterName),
    /// The kubeconfig cannot be used; the message says why and how to mend it.
    #[error("the kubeconfig cannot be used: {0}")]
    BadKubeconfig(String),
    /// It was reached and did not pass.
    #[error("the cluster did not pass the checks")]
    CheckFailed(Vec<ClusterCheck>),
    /// Runs are on it.
    #[error("cluster {name} has {open_runs} open runs")]
    InUse { name: ClusterName, open_runs: i64 },
    #[error("failed to reach the database")]
    Database(#[from] DbError),
}

impl Clusters {
    #[must_use]
    pub fn new(pools: &Pools, hints: Hints, connector: Connector) -> Self {
        Self {
            pools: pools.clone(),
            hints,
            connector,
        }
    }

    /// Every cluster that is not removed, by name.
    ///
    /// # Errors
    /// The database is not there.
    pub async fn list(&self) -> Result<Vec<ClusterInfo>, ClustersError> {
        Ok(cluster::list_clusters(&self.pools.api, None, false).await?)
    }

    /// One cluster.
    ///
    /// # Errors
    /// It does not exist, or the database is not there.
    pub async fn get(&self, name: &ClusterName) -> Result<ClusterInfo, ClustersError> {
        let found = cluster::list_clusters(&self.pools.api, Some(name.as_str()), false).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| ClustersError::NotFound(name.clone()))
    }

    /// Lets a cluster take no new runs; those it has go on, those not yet handed over are placed anew.
    ///
    /// # Errors
    /// It does not exist, or the database is not there.
    pub async fn drain(&self, name: &ClusterName) -> Result<ClusterInfo, ClustersError> {
        self.set_status(name, ClusterStatus::Draining).await?;
        let moved = dispatch::take_back_from(&self.pools.work, name.as_str()).await?;
        tracing::info!(cluster = %name, moved, "drained");
        self.hints.tell(&[], true).await;
        self.get(name).await
    }

    /// Lets a drained cluster take runs again.
    ///
    /// # Errors
    /// It does not exist, or the database is not there.
    pub async fn undrain(&self, name: &ClusterName) -> Result<ClusterInfo, ClustersError> {
        self.set_status(name, ClusterStatus::Active).await?;
        self.hints.tell(&[], true).await;
        self.get(name).await
    }

    /// Forgets a cluster on which no runs are. Its history stays.
    ///
    /// # Errors
    /// It does not exist, has runs, or the database is not there.
    pub async fn remove(&self, name: &ClusterName) -> Result<(), ClustersError> {
        let known = self.get(name).await?;
        if known.open_runs > 0 {
            return Err(ClustersError::InUse {
                name: name.clone(),
                open_runs: known.open_runs,
            });
        }
        self.set_status(name, ClusterStatus::Removed).await
    }

    async fn set_status(&self, name: &ClusterName, status: ClusterStatus) -> Result<(), ClustersError> {
        if cluster::set_status(&self.pools.api, name, status).await? {
            return Ok(());
        }
        Err(ClustersError::NotFound(name.clone()))
    }
}

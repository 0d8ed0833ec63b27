//! From a stored row to a connected backend.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use qwex_core::ClusterName;
use qwex_runner::RunnerError;
use qwex_runner_k8s::{Access, ConnectError, K8sBackend, K8sConfig, Tuning};
use qwex_runner_local::{LocalBackend, LocalConfig};

use super::Backend;
use crate::db::cluster::Connection;
use crate::sealing::{SealError, Sealer};

/// Where the embedded cluster keeps its attempts, and the program that supervises them.
#[derive(Debug, Clone)]
pub struct LocalSettings {
    pub root: PathBuf,
    pub supervisor: Vec<OsString>,
}

/// Makes backends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector {
    sealer: Sealer,
    /// `None`: this replica serves no embedded cluster.
    local: Option<LocalSettings>,
    tuning: Tuning,
}

/// Why a cluster cannot be connected.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    #[error("its kubeconfig cannot be opened")]
    Sealed(#[from] SealError),
    #[error("its kubeconfig is not stored")]
    NoKubeconfig,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the embedded cluster cannot be used")]
    Local(#[from] RunnerError),
    #[error("this replica serves no embedded cluster")]
    NoLocal,
    #[error("a cluster of kind {0} is not known to this version")]
    Kind(String),
}

/// The place a kubeconfig is sealed for.
pub(super) fn sealed_place(name: &ClusterName) -> String {
    format!("cluster/{name}/kubeconfig")
}

impl Connector {
    #[must_use]
    pub fn new(sealer: Sealer, local: Option<LocalSettings>, tuning: Tuning) -> Self {
        Self {
            sealer,
            local,
            tuning,
        }
    }

    pub(super) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Whether this replica can serve clusters of this kind.
    #[must_use]
    pub fn serves(&self, kind: &str) -> bool {
        kind != "local" || self.local.is_some()
    }

    pub(super) async fn connect_kubernetes(
        &self,
        name: &ClusterName,
        kubeconfig: String,
        context: Option<String>,
        namespace: String,
        identity: Option<String>,
    ) -> Result<K8sBackend, ConnectError> {
        let access = Access::Kubeconfig {
            yaml: kubeconfig.into(),
            context,
        };
        let config = K8sConfig {
            cluster: Some(name.clone()),
            namespace: Some(namespace),
            identity,
            tuning: self.tuning.clone(),
            ..K8sConfig::new(access)
        };
        K8sBackend::connect(config).await
    }

    /// Connects a stored cluster.
    ///
    /// # Errors
    /// Its kubeconfig cannot be opened or used, or the cluster behind it is another one.
    pub async fn connect(&self, stored: &Connection) -> Result<Backend, ConnectFailure> {
        match stored.kind.as_str() {
            "k8s" => {
                let sealed = stored
                    .sealed_kubeconfig
                    .as_ref()
                    .ok_or(ConnectFailure::NoKubeconfig)?;
                let opened = self.sealer.open(&sealed_place(&stored.name), sealed)?;
                let kubeconfig = String::from_utf8_lossy(&opened).into_owned();
                let namespace = stored.namespace.clone().unwrap_or_else(|| "default".to_owned());
                let backend = self
                    .connect_kubernetes(
                        &stored.name,
                        kubeconfig,
                        stored.context.clone(),
                        namespace,
                        stored.identity.clone(),
                    )
                    .await?;
                Ok(Backend {
                    kubernetes: Some(backend.clone()),
                    ..both(stored, Arc::new(backend))
                })
            }
            "local" => {
                let settings = self.local.as_ref().ok_or(ConnectFailure::NoLocal)?;
                let config = LocalConfig::embedded(
                    settings.root.clone(),
                    settings.supervisor.clone(),
                    stored.name.clone(),
                );
                Ok(both(stored, Arc::new(LocalBackend::new(config)?)))
            }
            other => Err(ConnectFailure::Kind(other.to_owned())),
        }
    }
}

fn both<B>(stored: &Connection, backend: Arc<B>) -> Backend
where
    B: qwex_runner::Runner + qwex_runner::Watcher + 'static,
{
    Backend {
        name: stored.name.clone(),
        runner: backend.clone(),
        watcher: backend,
        namespace: stored.namespace.clone(),
        default_queue: stored.default_queue.clone(),
        kubernetes: None,
    }
}

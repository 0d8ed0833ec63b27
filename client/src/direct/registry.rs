//! Every backend of this program. A new one is a crate and a line here.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use qwex_core::RunId;
use qwex_runner::{Backend, RunnerError};
use qwex_runner_container::{ContainerBackend, ContainerConfig};
use qwex_runner_k8s::{ConnectError, K8sBackend, K8sDirectConfig, Word};
use qwex_runner_ssh::SshBackend;

use super::SUPERVISE;
use super::error::DirectError;
use super::placed::Placed;

/// What a backend is opened with.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The directory of all records: `.qwex/runs`.
    pub runs: PathBuf,
    /// Where commands of this machine start.
    pub dir: PathBuf,
    pub placed: Placed,
    /// The only run that is looked after; `None`: all there are.
    pub only: Option<RunId>,
}

impl Opening {
    /// For the keeper of one run: what others do on the same backend is none of its business.
    #[must_use]
    pub fn for_run(mut self, run: RunId) -> Self {
        self.only = Some(run);
        self
    }
}

pub type Opened = BoxFuture<'static, Result<Arc<dyn Backend>, RunnerError>>;

/// A backend by its word.
pub struct Entry {
    pub name: &'static str,
    /// One line for help and for `doctor`.
    pub about: &'static str,
    pub open: fn(Opening) -> Opened,
}

pub const REGISTRY: &[Entry] = &[
    Entry {
        name: "local",
        about: "a process of this machine",
        open: |opening| Box::pin(async move { whole(super::local(opening)) }),
    },
    Entry {
        name: "docker",
        about: "a container of docker",
        open: |opening| Box::pin(async move { engine(ContainerConfig::docker, "docker", opening) }),
    },
    Entry {
        name: "podman",
        about: "a container of podman",
        open: |opening| Box::pin(async move { engine(ContainerConfig::podman, "podman", opening) }),
    },
    Entry {
        name: "ssh",
        about: "a process of another machine, by your own ssh",
        open: |opening| Box::pin(async move { whole(host(&opening)) }),
    },
    Entry {
        name: "k8s",
        about: "a Kubernetes Job, with your own kubeconfig",
        open: |opening| Box::pin(cluster(Word::K8s, opening)),
    },
    Entry {
        name: "kueue",
        about: "a Kubernetes Job that waits in a queue of Kueue",
        open: |opening| Box::pin(cluster(Word::Kueue, opening)),
    },
];

fn whole(backend: Result<impl Backend + 'static, RunnerError>) -> Result<Arc<dyn Backend>, RunnerError> {
    Ok(Arc::new(backend?))
}

fn engine(
    config: fn(PathBuf) -> ContainerConfig,
    name: &str,
    opening: Opening,
) -> Result<Arc<dyn Backend>, RunnerError> {
    let beside = opening.runs.parent().unwrap_or(&opening.runs);
    let mut config = config(beside.join("engines").join(name)).at(opening.placed.address);
    config.only = opening.only;
    whole(ContainerBackend::open(config))
}

fn host(opening: &Opening) -> Result<SshBackend, RunnerError> {
    let address = opening.placed.address.as_deref();
    let settings = opening.placed.ssh.clone().unwrap_or_default();
    SshBackend::open(address, SUPERVISE, &settings)
}

async fn cluster(word: Word, opening: Opening) -> Result<Arc<dyn Backend>, RunnerError> {
    whole(connected(word, opening).await.map_err(Into::into))
}

async fn connected(word: Word, opening: Opening) -> Result<K8sBackend, ConnectError> {
    let config = K8sDirectConfig {
        word,
        context: opening.placed.address,
        namespace: opening.placed.namespace,
        identity: opening.placed.cluster,
        host_paths: opening.placed.node_paths,
        ..K8sDirectConfig::default()
    };
    K8sBackend::connect_direct(config).await
}

/// The backend, and the same place by names that mean it tomorrow as well: on a cluster the context and the namespace that are
/// now the current ones, and which cluster that is. What is pinned already stays as it is.
///
/// # Errors
/// As [`open`]; and that a kubeconfig lacks what is named, which for a run that is still to be made is a mistake to mend.
pub async fn pinned(opening: Opening) -> Result<(Arc<dyn Backend>, Placed), DirectError> {
    let placed = opening.placed.clone();
    let word = match placed.backend.as_str() {
        "k8s" => Word::K8s,
        "kueue" => Word::Kueue,
        _ => return Ok((open(opening).await?, placed)),
    };
    let backend = connected(word, opening).await.map_err(|error| match error {
        ConnectError::Incomplete { missing, known } => DirectError::NotInKubeconfig { missing, known },
        other => DirectError::Runner(other.into()),
    })?;
    let found = match placed.cluster {
        Some(_) => None,
        None => backend.placement().await,
    };
    let placed = match found {
        None => placed,
        Some(found) => Placed {
            address: Some(found.context),
            namespace: Some(found.namespace),
            cluster: Some(found.identity),
            ..placed
        },
    };
    Ok((Arc::new(backend), placed))
}

/// The backend of a word.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}

/// Opens the backend that a run was asked to run on.
///
/// # Errors
/// It is not built into this version, or it cannot be set up.
pub async fn open(opening: Opening) -> Result<Arc<dyn Backend>, RunnerError> {
    match find(&opening.placed.backend) {
        Some(entry) => (entry.open)(opening).await,
        None => Err(RunnerError::Unsupported {
            message: format!(
                "there is no backend {:?} in this version of qwexctl",
                opening.placed.backend
            ),
        }),
    }
}

//! What a [`K8sBackend`](crate::K8sBackend) needs to know about a cluster and how patient it is.

use std::time::Duration;

use kube::config::Kubeconfig;
use qwex_core::{ClusterName, Project, QueueName};
use secrecy::SecretString;

use crate::direct::Word;

/// One cluster, as a backend.
#[derive(Debug, Clone)]
pub struct K8sConfig {
    pub word: Word,
    /// Name under which the cluster is registered; it goes into `BackendInfo`.
    pub cluster: Option<ClusterName>,
    /// What the user knows the cluster by: the context of the kubeconfig; `None` on a server.
    pub address: Option<String>,
    pub access: Access,
    /// The one namespace of all runs, or `None`: each project has its own, `qwex-<project>`, and the
    /// watch goes over all namespaces.
    pub namespace: Option<String>,
    /// UID of the namespace `kube-system` when the cluster was registered. With it a connection to
    /// another cluster behind the same address is refused.
    pub identity: Option<String>,
    /// LocalQueue of runs that name none.
    pub queue: Option<QueueName>,
    /// Of which runs it is measured what they use, while they are watched.
    pub measured: Measured,
    pub policy: Policy,
    pub tuning: Tuning,
}

/// Runs of which it is measured what they use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Measured {
    /// Those that this process submitted or was asked about: others of the namespace are measured by whoever watches them.
    #[default]
    Asked,
    /// All that are seen: whoever watches is here for all.
    All,
}

/// What runs may ask of the cluster beyond what every run may. The default is the server's: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Runs have the image's own user, root too, or the one they name. Else [`Tuning::run_as_user`], never root.
    pub any_user: bool,
    /// Directories of nodes that runs may mount, with all that is below. Empty: none.
    pub host_paths: Vec<String>,
    /// Runs may have secrets out of the environment of this process (`env:VARIABLE`).
    pub env_secrets: bool,
    /// Service accounts that runs may name.
    pub service_accounts: Names,
    /// How files of the workspace go over and back; `None`: not at all.
    pub files: Option<FilesPolicy>,
}

/// Names that a policy lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Names {
    #[default]
    None,
    Any,
    Only(Vec<String>),
}

impl Names {
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::Only(names) => names.iter().any(|allowed| allowed == name),
        }
    }
}

/// The helper containers beside a run whose workspace goes over or whose outputs come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesPolicy {
    /// Their image, with `sh`, `tar` and `find`; `None`: the run's own.
    pub image: Option<String>,
    /// How long a started pod waits for the files of the workspace.
    pub send_limit: Duration,
    /// How long outputs wait to be fetched: after the run's timeout, or after its start where it has none.
    pub keep: Duration,
}

impl Default for FilesPolicy {
    fn default() -> Self {
        Self {
            image: None,
            send_limit: Duration::from_secs(15 * 60),
            keep: Duration::from_secs(24 * 3600),
        }
    }
}

/// How to reach the API server and who we are there.
#[derive(Debug, Clone)]
pub enum Access {
    /// A self-contained kubeconfig: no `exec`, no `auth-provider`, no files.
    Kubeconfig {
        yaml: SecretString,
        /// `None`: its current context.
        context: Option<String>,
    },
    /// The user's own kubeconfig, on the user's own machine: programs that log in are run, files are read.
    Own {
        kubeconfig: Box<Kubeconfig>,
        context: String,
        /// For people: where it was found.
        origin: String,
    },
    /// The service account of the pod we run in.
    InCluster,
}

/// Deadlines and defaults. The defaults suit a production cluster; tests shorten them.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// To open a connection.
    pub connect_timeout: Duration,
    /// For one whole call (not for watches and log streams, there only until the answer begins).
    pub call_deadline: Duration,
    /// How long the API server keeps one watch request open. Twice that without an event or a
    /// bookmark and the watch counts as deaf.
    pub watch_timeout: Duration,
    /// How long an image may fail to be pulled before the attempt fails.
    pub start_deadline: Duration,
    /// How long a container may be refused for its configuration (a missing secret) before the
    /// attempt fails.
    pub config_grace: Duration,
    /// How long an ended or deleted Job may wait for the last word of its pods.
    pub settle: Duration,
    /// A followed log that is silent for so long is checked against the newest line.
    pub log_stall: Duration,
    /// `ttlSecondsAfterFinished` of a released Job.
    pub released_ttl: Duration,
    /// Objects per page of a list.
    pub page_size: u32,
    /// User of the container's processes; `None`: the image's own, which must not be root.
    pub run_as_user: Option<i64>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            call_deadline: Duration::from_secs(15),
            watch_timeout: Duration::from_secs(60),
            start_deadline: Duration::from_secs(300),
            config_grace: Duration::from_secs(30),
            settle: Duration::from_secs(45),
            log_stall: Duration::from_secs(15),
            released_ttl: Duration::from_secs(3600),
            page_size: 500,
            run_as_user: Some(65532),
        }
    }
}

impl K8sConfig {
    /// A cluster with default patience, one namespace per project, and no more rights for runs than a server gives.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self {
            word: Word::default(),
            cluster: None,
            address: None,
            access,
            namespace: None,
            identity: None,
            queue: None,
            measured: Measured::All,
            policy: Policy::default(),
            tuning: Tuning::default(),
        }
    }

    /// The same by the current context of a kubeconfig.
    #[must_use]
    pub fn from_kubeconfig(yaml: impl Into<SecretString>) -> Self {
        Self::new(Access::Kubeconfig {
            yaml: yaml.into(),
            context: None,
        })
    }

    /// The namespace in which a project's runs live.
    #[must_use]
    pub fn namespace_of(&self, project: &Project) -> String {
        self.namespace
            .clone()
            .unwrap_or_else(|| format!("qwex-{project}"))
    }
}

//! What a [`K8sBackend`](crate::K8sBackend) needs to know about a cluster and how patient it is.

use std::time::Duration;

use qwex_core::{ClusterName, Project};
use secrecy::SecretString;

/// One cluster, as a backend.
#[derive(Debug, Clone)]
pub struct K8sConfig {
    /// Name under which the cluster is registered; it goes into `BackendInfo`.
    pub cluster: Option<ClusterName>,
    pub access: Access,
    /// The one namespace of all runs, or `None`: each project has its own, `qwex-<project>`, and the
    /// watch goes over all namespaces.
    pub namespace: Option<String>,
    /// UID of the namespace `kube-system` when the cluster was registered. With it a connection to
    /// another cluster behind the same address is refused.
    pub identity: Option<String>,
    pub tuning: Tuning,
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
    /// A cluster by kubeconfig with default patience, one namespace per project.
    #[must_use]
    pub fn from_kubeconfig(yaml: impl Into<SecretString>) -> Self {
        Self {
            cluster: None,
            access: Access::Kubeconfig {
                yaml: yaml.into(),
                context: None,
            },
            namespace: None,
            identity: None,
            tuning: Tuning::default(),
        }
    }

    /// The namespace in which a project's runs live.
    #[must_use]
    pub fn namespace_of(&self, project: &Project) -> String {
        self.namespace
            .clone()
            .unwrap_or_else(|| format!("qwex-{project}"))
    }
}

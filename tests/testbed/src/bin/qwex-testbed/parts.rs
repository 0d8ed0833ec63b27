//! The parts a bed can have: how each is started and what it tells others.

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use qwex_testbed::Cluster;
use qwex_testbed::cluster::Spec;
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::podman::Podman;
use qwex_testbed::postgres::Postgres;
use qwex_testbed::queue::QueueStandIn;
use qwex_testbed::sshd::Sshd;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartName {
    /// Cluster with a real node
    Alpha,
    /// Cluster with simulated nodes
    Beta,
    /// Database server
    Postgres,
    /// Docker
    Docker,
    /// Podman
    Podman,
    /// A host to reach by ssh
    Ssh,
}

impl PartName {
    /// What is started when nothing is said.
    pub const USUAL: [Self; 3] = [Self::Alpha, Self::Beta, Self::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
            Self::Postgres => "postgres",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Ssh => "ssh",
        }
    }

    /// Starts it in `dir`, which exists for no other; it runs until the value is dropped.
    pub async fn start(self, dir: PathBuf) -> Result<Part> {
        match self {
            Self::Alpha => Part::cluster(Spec::real(self.name()).dir(dir)).await,
            Self::Beta => Part::cluster(Spec::simulated(self.name()).dir(dir)).await,
            Self::Postgres => Ok(Part::Postgres(Box::new(Postgres::start().await?))),
            Self::Docker => {
                let docker = Dockerd::start().await?;
                docker.load_busybox().await?;
                Ok(Part::Docker(docker))
            }
            Self::Podman => {
                let podman = Podman::start().await?;
                podman.load_busybox().await?;
                Ok(Part::Podman(podman))
            }
            Self::Ssh => Ok(Part::Ssh(Sshd::start().await?)),
        }
    }
}

/// A running part.
pub enum Part {
    Cluster {
        cluster: Box<Cluster>,
        _queue: QueueStandIn,
    },
    Postgres(Box<Postgres>),
    Docker(Dockerd),
    Podman(Podman),
    Ssh(Sshd),
}

impl Part {
    async fn cluster(spec: Spec) -> Result<Self> {
        let cluster = Cluster::start(spec).await?;
        let _queue = QueueStandIn::start(cluster.kubeconfig()).await?;
        Ok(Self::Cluster {
            cluster: Box::new(cluster),
            _queue,
        })
    }

    /// What to export to use it: variable and value.
    pub fn exports(&self) -> Vec<(String, String)> {
        match self {
            Self::Cluster { cluster, .. } => {
                let name = cluster.name().to_uppercase();
                vec![
                    export(format!("QWEX_TESTBED_{name}"), cluster.dir().display()),
                    export(
                        format!("QWEX_{name}_KUBECONFIG"),
                        cluster.kubeconfig_path().display(),
                    ),
                ]
            }
            Self::Postgres(postgres) => vec![export("QWEX_TESTBED_POSTGRES", postgres.url())],
            Self::Docker(docker) => vec![export("DOCKER_HOST", docker.host())],
            Self::Podman(podman) => vec![export("CONTAINER_HOST", podman.host())],
            Self::Ssh(ssh) => vec![export("QWEX_TESTBED_SSH_CONFIG", ssh.config().display())],
        }
    }
}

fn export(variable: impl Into<String>, value: impl Display) -> (String, String) {
    (variable.into(), value.to_string())
}

//! The parts a bed can have: how each is started and what it tells others.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use qwex_testbed::Cluster;
use qwex_testbed::cluster::Spec;
use qwex_testbed::postgres::Postgres;
use qwex_testbed::queue::QueueStandIn;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartName {
    /// Cluster with a real node
    Alpha,
    /// Cluster with simulated nodes
    Beta,
    /// Database server
    Postgres,
}

impl PartName {
    pub const ALL: [Self; 3] = [Self::Alpha, Self::Beta, Self::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
            Self::Postgres => "postgres",
        }
    }

    /// Starts it in `dir`, which exists for no other; it runs until the value is dropped.
    pub async fn start(self, dir: PathBuf) -> Result<Part> {
        match self {
            Self::Alpha => Part::cluster(Spec::real(self.name()).dir(dir)).await,
            Self::Beta => Part::cluster(Spec::simulated(self.name()).dir(dir)).await,
            Self::Postgres => Ok(Part::Postgres(Box::new(Postgres::start().await?))),
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
                    (
                        format!("QWEX_TESTBED_{name}"),
                        cluster.dir().display().to_string(),
                    ),
                    (
                        format!("QWEX_{name}_KUBECONFIG"),
                        cluster.kubeconfig_path().display().to_string(),
                    ),
                ]
            }
            Self::Postgres(postgres) => vec![("QWEX_TESTBED_POSTGRES".to_owned(), postgres.url())],
        }
    }
}

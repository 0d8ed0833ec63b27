//! What a cluster shall be made of.

use std::path::PathBuf;

use serde_json::Value;

/// A process of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    /// Real clusters only.
    Containerd,
    /// Real clusters only.
    Kubelet,
    /// Simulated clusters only.
    Kwok,
}

impl Component {
    /// Its name in logs: `logs/<name>.log`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Kwok => "kwok",
        }
    }
}

/// Who runs the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nodes {
    Real,
    Simulated(usize),
}

/// A cluster to start with [`crate::Cluster::start`].
#[derive(Debug, Clone)]
pub struct Spec {
    pub(super) name: String,
    pub(super) nodes: Nodes,
    pub(super) dir: Option<PathBuf>,
    pub(super) kubelet_config: Vec<(String, Value)>,
    pub(super) by_address: bool,
    flags: Vec<(Component, String)>,
}

impl Spec {
    /// One real node: kubelet and containerd. Needs root.
    pub fn real(name: &str) -> Self {
        Self::new(name, Nodes::Real)
    }

    /// Three simulated nodes.
    pub fn simulated(name: &str) -> Self {
        Self::new(name, Nodes::Simulated(3))
    }

    fn new(name: &str, nodes: Nodes) -> Self {
        Self {
            name: name.to_owned(),
            nodes,
            dir: None,
            kubelet_config: Vec::new(),
            by_address: false,
            flags: Vec::new(),
        }
    }

    /// This many simulated nodes of 32 CPUs and 256 GiB; no effect on a real cluster.
    pub fn nodes(mut self, count: usize) -> Self {
        if let Nodes::Simulated(nodes) = &mut self.nodes {
            *nodes = count;
        }
        self
    }

    /// The directory to use, which is removed with the cluster; a new temporary one otherwise.
    pub fn dir(mut self, dir: PathBuf) -> Self {
        self.dir = Some(dir);
        self
    }

    /// A flag more for a part, such as `--kube-api-qps=1`; the last of a kind wins.
    pub fn flag(mut self, component: Component, flag: &str) -> Self {
        self.flags.push((component, flag.to_owned()));
        self
    }

    /// A field of the kubelet's configuration, such as `containerLogMaxSize`.
    pub fn kubelet_config(mut self, field: &str, value: Value) -> Self {
        self.kubelet_config.push((field.to_owned(), value));
        self
    }

    /// The API server reaches the kubelet by an address of this machine that is none of the loopback: it forwards requests
    /// to nodes (`nodes/proxy`) to no other.
    pub fn by_address(mut self) -> Self {
        self.by_address = true;
        self.kubelet_config("address", "0.0.0.0".into())
    }

    pub(super) fn extra_flags(&self, component: Component) -> impl Iterator<Item = String> {
        self.flags
            .iter()
            .filter(move |(of, _)| *of == component)
            .map(|(_, flag)| flag.clone())
    }
}

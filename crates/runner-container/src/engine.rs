//! The two engines, and where they differ. Private to this crate: for everybody else the difference is a
//! [`BackendKind`].

use qwex_core::BackendKind;

/// Which engine the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Docker,
    Podman,
}

/// Which program answers on the socket: podman is often reached through `DOCKER_HOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    Docker,
    Podman,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    pub fn kind(self) -> BackendKind {
        match self {
            Self::Docker => BackendKind::Docker,
            Self::Podman => BackendKind::Podman,
        }
    }
}

impl Flavor {
    /// From the components that `/version` lists.
    pub fn of(components: &[bollard::models::SystemVersionComponents]) -> Self {
        let podman = components
            .iter()
            .any(|component| component.name == "Podman Engine");
        if podman { Self::Podman } else { Self::Docker }
    }

    /// A log driver that keeps every byte: Docker's `json-file` replaces what is no UTF-8, `local` does not; podman's
    /// `k8s-file` keeps lines as they are.
    pub fn log_driver(self) -> &'static str {
        match self {
            Self::Docker => "local",
            Self::Podman => "k8s-file",
        }
    }
}

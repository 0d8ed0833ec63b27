//! What a run sees beside its image: [`Mount`], the same shape on every backend. Which kinds a backend has
//! is the backend's to say, before anything starts.

use serde::{Deserialize, Serialize};

use crate::status::word_enum;

word_enum!(
    /// Where the content of a mount comes from.
    MountKind {
        /// A path of the machine that executes the run; `hostPath` on Kubernetes.
        Bind = "bind",
        /// A named volume of a container engine.
        Volume = "volume",
        /// Scratch space that ends with the run.
        EmptyDir = "empty_dir",
        /// A PersistentVolumeClaim of the namespace.
        Pvc = "pvc",
        /// A ConfigMap of the namespace, one file per key.
        ConfigMap = "config_map",
        /// A Secret of the namespace, one file per key.
        Secret = "secret",
    } Unknown
);

impl MountKind {
    /// Whether the kind names something that must be there already.
    #[must_use]
    pub fn needs_source(self) -> bool {
        match self {
            Self::Bind | Self::Volume | Self::Pvc | Self::ConfigMap | Self::Secret => true,
            Self::EmptyDir | Self::Unknown => false,
        }
    }
}

/// Files that appear at `target`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Mount {
    pub kind: MountKind,
    /// A path for `bind`, else a name; none for `empty_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Absolute path inside.
    pub target: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Most bytes of an `empty_dir`, as a Kubernetes quantity (`512Mi`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

impl Mount {
    /// Where it appears: `/data/` is `/data`. Two mounts at one place are one too many.
    #[must_use]
    pub fn place(&self) -> &str {
        self.target.trim_end_matches('/')
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

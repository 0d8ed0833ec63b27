//! Which cluster a context led to when a run was given to it: the names of contexts are the user's, and lead elsewhere once they
//! are changed. Kept beside a run; called by `connect_direct` and by whoever places a run.

use std::time::Duration;

use kube::config::Kubeconfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::backend::K8sBackend;
use crate::config::Access;
use crate::connect::ConnectError;
use crate::probe;

/// How long a cluster may take to say which it is before a run is placed; it goes without then.
const PATIENCE: Duration = Duration::from_secs(5);

/// One particular cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Address of its API server.
    pub server: String,
    /// SHA-256 of what the kubeconfig says of its certificate authority, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// UID of the namespace `kube-system`. Where it can be read it counts alone; `None`: it was not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// Where exactly a run goes: with this a later process finds the same place, whatever the current context is by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub context: String,
    pub namespace: String,
    pub identity: Identity,
}

/// What the kubeconfig alone tells of a context's cluster.
pub(super) fn of(kubeconfig: &Kubeconfig, context: &str) -> Identity {
    let named = kubeconfig.contexts.iter().find(|named| named.name == context);
    let cluster = named
        .and_then(|named| named.context.as_ref())
        .and_then(|context| {
            let of_name = |named: &&kube::config::NamedCluster| named.name == context.cluster;
            kubeconfig.clusters.iter().find(of_name)
        })
        .and_then(|named| named.cluster.as_ref());
    let authority = cluster.and_then(|cluster| {
        let inline = cluster.certificate_authority_data.as_ref();
        let file = cluster.certificate_authority.as_ref();
        inline
            .map(|data| data.trim().as_bytes().to_vec())
            .or_else(|| std::fs::read(file?).ok())
    });
    Identity {
        server: cluster
            .and_then(|cluster| cluster.server.clone())
            .unwrap_or_default(),
        authority: authority.map(|bytes| hex(&Sha256::digest(bytes))),
        uid: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Identity {
    /// Whether a context that leads to `here` leads to this cluster. `uid`: what the cluster there says of itself.
    fn is(&self, here: &Self, uid: Option<&str>) -> bool {
        match (self.uid.as_deref(), uid) {
            (Some(expected), Some(found)) => expected == found,
            // Who cannot be asked is known by the way there.
            (Some(_), None) | (None, _) => self.server == here.server && self.authority == here.authority,
        }
    }
}

impl K8sBackend {
    /// Where runs of this backend go: context and namespace by their names, and which cluster that is. A cluster that does not
    /// answer is known by its address and its certificate authority.
    pub async fn placement(&self) -> Option<Placement> {
        let Access::Own {
            kubeconfig, context, ..
        } = &self.config().access
        else {
            return None;
        };
        let asked = tokio::time::timeout(PATIENCE, probe::identity(&self.shared.clients.acts)).await;
        Some(Placement {
            context: context.clone(),
            namespace: self
                .config()
                .namespace
                .clone()
                .unwrap_or_else(|| "default".to_owned()),
            identity: Identity {
                uid: asked.ok().and_then(Result::ok).flatten(),
                ..of(kubeconfig, context)
            },
        })
    }

    /// Refuses a context that leads to another cluster than the one that a run was given to.
    pub(super) async fn must_be(&self, expected: &Identity) -> Result<(), ConnectError> {
        let Some(placement) = self.placement().await else {
            return Ok(());
        };
        let Placement {
            context, identity, ..
        } = placement;
        if expected.is(&identity, identity.uid.as_deref()) {
            return Ok(());
        }
        Err(ConnectError::OtherContext {
            context,
            expected: expected.server.clone(),
            found: identity.server,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(server: &str, authority: &str, uid: Option<&str>) -> Identity {
        Identity {
            server: server.to_owned(),
            authority: Some(authority.to_owned()),
            uid: uid.map(str::to_owned),
        }
    }

    #[test]
    fn a15_the_uid_counts_alone_where_it_can_be_read() {
        let known = identity("https://a", "ca", Some("u-1"));
        let moved = identity("https://b", "rotated", None);
        assert!(
            known.is(&moved, Some("u-1")),
            "the same cluster at another address"
        );
        let same_door = identity("https://a", "ca", None);
        assert!(
            !known.is(&same_door, Some("u-2")),
            "another cluster was built there"
        );
    }

    #[test]
    fn a15_who_cannot_be_asked_is_known_by_address_and_authority() {
        for uid in [None, Some("u-1")] {
            let known = identity("https://a", "ca", uid);
            assert!(known.is(&identity("https://a", "ca", None), None));
            assert!(!known.is(&identity("https://b", "ca", None), None));
            assert!(!known.is(&identity("https://a", "another", None), None));
        }
    }

    #[test]
    fn the_authority_of_a_context_is_that_of_its_cluster() {
        let yaml = "
current-context: two
clusters:
- {name: one, cluster: {server: 'https://one', certificate-authority-data: QQ==}}
- {name: two, cluster: {server: 'https://two', certificate-authority-data: Qg==}}
contexts:
- {name: a, context: {cluster: one}}
- {name: two, context: {cluster: two}}
";
        let kubeconfig = Kubeconfig::from_yaml(yaml).unwrap();
        let (one, two) = (of(&kubeconfig, "a"), of(&kubeconfig, "two"));
        assert_eq!(
            (one.server.as_str(), two.server.as_str()),
            ("https://one", "https://two")
        );
        assert_ne!(one.authority, two.authority);
        assert_eq!(one.authority.map(|hash| hash.len()), Some(64));
        assert_eq!(of(&kubeconfig, "none").authority, None);
    }
}

//! Kubeconfig files as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::certs::Identity;

/// A kubeconfig with everything inline and one context, called like the cluster, so that files of several clusters can
/// be joined in `KUBECONFIG`.
pub(super) fn render(cluster: &str, server: &str, authority: &str, identity: &Identity) -> String {
    let [authority, cert, key] = [authority, &identity.cert, &identity.key].map(|pem| STANDARD.encode(pem));
    let user = format!("{}@{cluster}", identity.name);
    format!(
        "apiVersion: v1
kind: Config
current-context: {cluster}
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: \"{user}\"
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: \"{user}\"
"
    )
}

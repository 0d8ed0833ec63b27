//! Kubeconfig files as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::certs::Identity;

/// A kubeconfig with everything inline and one context, for `user` at `server`.
pub(super) fn render(server: &str, authority: &str, identity: &Identity, user: &str) -> String {
    let (authority, cert, key) = (
        STANDARD.encode(authority),
        STANDARD.encode(&identity.cert),
        STANDARD.encode(&identity.key),
    );
    format!(
        "apiVersion: v1
kind: Config
current-context: testbed
clusters:
- name: testbed
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: \"{user}\"
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: testbed
  context:
    cluster: testbed
    user: \"{user}\"
"
    )
}

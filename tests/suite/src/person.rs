//! A person on a cluster: a user of one namespace with the rights of `deploy/k8s/user.yaml`, or with all of them but one.
//!
//! Used by tests of what the command line may do there, and of what it says where it may not.

use anyhow::{Result, ensure};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, PostParams};
use qwex_testbed::Cluster;
use serde_json::json;

/// Makes a user with the name of `namespace`, and gives the kubeconfig. `without` names a resource that the role has a rule
/// for, of which the user has no right. Rights take a moment to be known.
///
/// # Errors
/// The cluster refuses, or no rule of the role is about that resource alone.
pub async fn person(cluster: &Cluster, namespace: &str, without: Option<&str>) -> Result<String> {
    let mut role: Role = serde_saphyr::from_str(include_str!("../../../deploy/k8s/user.yaml"))?;
    if let Some(resource) = without {
        take_away(&mut role, resource)?;
    }
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "qwex-user" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "qwex-user" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": namespace }],
    }))?;
    let client = cluster.client().await?;
    let post = PostParams::default();
    Api::namespaced(client.clone(), namespace)
        .create(&post, &role)
        .await?;
    Api::namespaced(client, namespace).create(&post, &binding).await?;
    cluster.mint_user(namespace, &[])
}

fn take_away(role: &mut Role, resource: &str) -> Result<()> {
    let rules = role.rules.get_or_insert_default();
    let all = rules.len();
    rules.retain(|rule| rule.resources.as_deref() != Some(&[resource.to_owned()]));
    ensure!(rules.len() + 1 == all, "no rule of its own gives {resource}");
    Ok(())
}

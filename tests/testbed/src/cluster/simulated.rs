//! Simulated nodes: kwok plays kubelets by the stages in `kwok_stages.yaml`, which read from a pod's annotations how it
//! shall end. Node objects are made here.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, ObjectMeta, PostParams};

use super::control_plane::part;
use super::layout::Layout;
use super::warden::Part;
use super::{Component, Spec};

const STAGES: &str = include_str!("kwok_stages.yaml");

/// What every simulated pod has printed, in the format of a container runtime.
const LOG: &str = "2026-01-01T00:00:00.000000001Z stdout F simulated line 1
2026-01-01T00:00:00.000000002Z stderr F simulated line 2
2026-01-01T00:00:01.000000000Z stdout F simulated line 3
";

pub(super) fn kwok(program: &str, layout: &Layout, spec: &Spec) -> Result<Part> {
    fs::write(layout.dir.join("pod.log"), LOG)?;
    let logs = format!(
        "---\napiVersion: kwok.x-k8s.io/v1alpha1\nkind: ClusterLogs\nmetadata:\n  name: all\nspec:\n  logs:\n  - logsFile: {}\n",
        layout.path("pod.log")
    );
    fs::write(layout.dir.join("kwok.yaml"), format!("{STAGES}{logs}"))?;
    let mut argv = vec![
        format!("--kubeconfig={}", layout.path("kwok.kubeconfig")),
        format!("--config={}", layout.path("kwok.yaml")),
        "--manage-all-nodes=true".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
        "--node-ip=127.0.0.1".to_owned(),
        "--node-name=localhost".to_owned(),
        format!("--node-port={}", layout.node_port),
        format!("--tls-cert-file={}", layout.path("pki/server.crt")),
        format!("--tls-private-key-file={}", layout.path("pki/server.key")),
        "--v=WARN".to_owned(),
    ];
    argv.extend(spec.extra_flags(Component::Kwok));
    Ok(part(Component::Kwok, program, argv))
}

/// Makes `node-0` and so on: 32 CPUs, 256 GiB, and 8 GPUs on the first.
pub(super) async fn create_nodes(client: &kube::Client, count: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    for number in 0..count {
        nodes.create(&PostParams::default(), &node(number)).await?;
    }
    Ok(())
}

fn node(number: usize) -> Node {
    let name = format!("node-{number}");
    let mut capacity: BTreeMap<String, Quantity> = [("cpu", "32"), ("memory", "256Gi"), ("pods", "1000")]
        .map(|(resource, amount)| (resource.to_owned(), Quantity(amount.to_owned())))
        .into();
    if number == 0 {
        capacity.insert("nvidia.com/gpu".to_owned(), Quantity("8".to_owned()));
    }
    let labels = [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("type", "kwok"),
    ];
    // The API server asks for logs at the node's Hostname, where kwok answers for all of them.
    let address = NodeAddress {
        type_: "Hostname".to_owned(),
        address: "localhost".to_owned(),
    };
    Node {
        metadata: ObjectMeta {
            labels: Some(
                labels
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            annotations: Some([("kwok.x-k8s.io/node".to_owned(), "fake".to_owned())].into()),
            name: Some(name),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(NodeStatus {
            addresses: Some(vec![address]),
            allocatable: Some(capacity.clone()),
            capacity: Some(capacity),
            ..NodeStatus::default()
        }),
    }
}

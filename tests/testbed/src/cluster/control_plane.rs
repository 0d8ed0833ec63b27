//! The command lines of etcd, API server, controller manager and scheduler.

use anyhow::Result;
use serde_json::json;

use super::layout::{Layout, write_json};
use super::warden::Part;
use super::{Component, Spec};

pub(super) fn etcd(kubelab: &str, layout: &Layout) -> Part {
    let client = format!("http://127.0.0.1:{}", layout.etcd_port);
    let peer = format!("http://127.0.0.1:{}", layout.etcd_peer_port);
    part(
        Component::Etcd,
        kubelab,
        vec![
            "etcd".to_owned(),
            "--name=testbed".to_owned(),
            format!("--data-dir={}", layout.path("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=testbed={peer}"),
            "--log-level=warn".to_owned(),
            // Nothing here outlives the machine, and syncing is most of what etcd costs.
            "--unsafe-no-fsync".to_owned(),
        ],
    )
}

pub(super) fn api_server(kubelab: &str, layout: &Layout, spec: &Spec) -> Result<Part> {
    write_json(&layout.dir.join("audit-policy.yaml"), &audit_policy())?;
    let pki = |name: &str| layout.path(&format!("pki/{name}"));
    let mut argv = vec![
        "kube-apiserver".to_owned(),
        format!("--etcd-servers=http://127.0.0.1:{}", layout.etcd_port),
        format!("--secure-port={}", layout.api_port),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", pki("generated")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("server.crt")),
        format!("--tls-private-key-file={}", pki("server.key")),
        format!("--kubelet-client-certificate={}", pki("apiserver-kubelet.crt")),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet.key")),
        format!("--service-account-key-file={}", pki("service-account.pub")),
        format!(
            "--service-account-signing-key-file={}",
            pki("service-account.key")
        ),
        format!("--service-account-issuer={}", layout.api_url()),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        // Resource versions age fast, so that 410 Gone is seen and not only imagined.
        "--etcd-compaction-interval=10s".to_owned(),
        format!("--audit-log-path={}", layout.path("logs/audit.log")),
        format!("--audit-policy-file={}", layout.path("audit-policy.yaml")),
        "--profiling=false".to_owned(),
    ];
    argv.extend(match spec.by_address {
        // Its certificate is for names of the loopback.
        true => vec!["--kubelet-preferred-address-types=InternalIP".to_owned()],
        false => vec![
            "--kubelet-preferred-address-types=Hostname".to_owned(),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        ],
    });
    argv.extend(spec.extra_flags(Component::ApiServer));
    Ok(part(Component::ApiServer, kubelab, argv))
}

pub(super) fn controller_manager(kubelab: &str, layout: &Layout, spec: &Spec) -> Part {
    let config = layout.path("controller-manager.kubeconfig");
    let mut argv = vec![
        "kube-controller-manager".to_owned(),
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        format!("--root-ca-file={}", layout.path("pki/ca.crt")),
        format!(
            "--service-account-private-key-file={}",
            layout.path("pki/service-account.key")
        ),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        "--profiling=false".to_owned(),
    ];
    argv.extend(spec.extra_flags(Component::ControllerManager));
    part(Component::ControllerManager, kubelab, argv)
}

pub(super) fn scheduler(kubelab: &str, layout: &Layout, spec: &Spec) -> Result<Part> {
    let config = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": { "kubeconfig": layout.path("scheduler.kubeconfig"), "qps": 200, "burst": 400 },
        "leaderElection": { "leaderElect": false },
    });
    write_json(&layout.dir.join("scheduler.yaml"), &config)?;
    let mut argv = vec![
        "kube-scheduler".to_owned(),
        format!("--config={}", layout.path("scheduler.yaml")),
        "--secure-port=0".to_owned(),
    ];
    argv.extend(spec.extra_flags(Component::Scheduler));
    Ok(part(Component::Scheduler, kubelab, argv))
}

pub(super) fn part(component: Component, program: &str, arguments: Vec<String>) -> Part {
    let mut argv = vec![program.to_owned()];
    argv.extend(arguments);
    Part {
        name: component.name(),
        argv,
        env: Vec::new(),
    }
}

/// Who did what to which object, once per request: the ledger that tests compare with what qwex believes it did.
/// The cluster's own parts are left out, they would bury the rest.
fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "None",
                "users": [
                    "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler",
                    "system:node:localhost", "kwok",
                ],
            },
            { "level": "Metadata" },
        ],
    })
}

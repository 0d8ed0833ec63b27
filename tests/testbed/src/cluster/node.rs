//! A real node: containerd with its own root, state, socket and bridge, and a kubelet that runs pods in it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::control_plane::part;
use super::layout::{Layout, write_json};
use super::warden::{Part, Warden};
use super::{Component, Spec};
use crate::images;
use crate::process::find;
use crate::wait;

/// An import takes a second; a machine that builds Go at the same time needs its patience.
const IMPORT_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn containerd(layout: &Layout) -> Result<Part> {
    let (own, cni) = (layout.path("ctd"), layout.path("cni"));
    fs::create_dir_all(&own)?;
    fs::create_dir_all(&cni)?;
    fs::write(layout.dir.join("ctd/config.toml"), containerd_config(&own, &cni)?)?;
    write_json(&layout.dir.join("cni/10-bridge.conflist"), &bridge(layout)?)?;
    let program =
        find("containerd").context("containerd is missing: install the Debian package containerd")?;
    Ok(part(
        Component::Containerd,
        &program.display().to_string(),
        vec![
            format!("--config={own}/config.toml"),
            "--log-level=warn".to_owned(),
        ],
    ))
}

fn socket(layout: &Layout) -> String {
    layout.path("ctd/ctd.sock")
}

fn containerd_config(own: &str, cni: &str) -> Result<String> {
    let plugins = ["/usr/lib/cni", "/opt/cni/bin"]
        .into_iter()
        .find(|dir| PathBuf::from(dir).join("bridge").exists());
    let plugins = plugins.context("the CNI plugins are missing: install containernetworking-plugins")?;
    Ok(format!(
        r#"version = 2
root = "{own}/root"
state = "{own}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "{own}/ctd.sock"

[plugins."io.containerd.internal.v1.opt"]
path = "{own}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
"#,
        pause = images::PAUSE,
    ))
}

/// A bridge with addresses handed out from files. No masquerading: pods reach each other and this machine, and so no
/// rule is left in the packet filter.
fn bridge(layout: &Layout) -> Result<serde_json::Value> {
    Ok(json!({
        "cniVersion": "0.4.0",
        "name": layout.bridge(),
        "plugins": [
            {
                "type": "bridge",
                "bridge": layout.bridge(),
                "isGateway": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": free_subnet(&layout.id)? }]],
                    "dataDir": layout.path("cni/ipam"),
                },
            },
        ],
    }))
}

/// One of 4096 networks in 10.224.0.0/12 that no route of this machine leads to yet, chosen by the cluster's id.
fn free_subnet(id: &str) -> Result<String> {
    let routes = fs::read_to_string("/proc/net/route").context("failed to read the routes")?;
    // The third column is the network as the kernel keeps it: bytes from last to first, in hex.
    let taken: Vec<u32> = routes
        .lines()
        .filter_map(|line| u32::from_str_radix(line.split_whitespace().nth(1)?, 16).ok())
        .map(u32::swap_bytes)
        .collect();
    let start = u32::from_str_radix(id, 16).context("the id is not hexadecimal")?;
    let network = |step: u32| (10 << 24) | (224 << 16) | ((start.wrapping_add(step) % 4096) << 8);
    let free = (0..4096)
        .map(network)
        .find(|network| !taken.contains(network))
        .context("no network is free")?;
    Ok(format!("{}/24", std::net::Ipv4Addr::from(free)))
}

/// Waits for containerd and gives it the images of [`crate::images`].
pub(super) async fn import_images(layout: &Layout, warden: &Warden) -> Result<()> {
    let archives = [images::busybox().await?, images::pause().await?];
    let ctr = find("ctr")
        .context("ctr is missing: install the Debian package containerd")?
        .display()
        .to_string();
    let socket = socket(layout);
    wait::until(IMPORT_LIMIT, "containerd's socket", || async {
        tokio::net::UnixStream::connect(&socket).await.ok()
    })
    .await?;
    for (name, archive) in ["import-busybox", "import-pause"].into_iter().zip(archives) {
        let argv = [
            &ctr,
            "--address",
            &socket,
            "--namespace",
            "k8s.io",
            "images",
            "import",
        ]
        .map(str::to_owned);
        let mut argv = Vec::from(argv);
        argv.push(archive.display().to_string());
        warden
            .run(
                &Part {
                    name,
                    argv,
                    env: Vec::new(),
                },
                IMPORT_LIMIT,
            )
            .await?;
    }
    Ok(())
}

pub(super) fn kubelet(kubelab: &str, layout: &Layout, spec: &Spec) -> Result<Part> {
    let mut config = kubelet_config(layout);
    for (key, value) in &spec.kubelet_config {
        config[key] = value.clone();
    }
    write_json(&layout.dir.join("kubelet.yaml"), &config)?;
    fs::write(layout.dir.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    fs::create_dir_all(layout.dir.join("pods"))?;
    let mut argv = vec![
        "kubelet".to_owned(),
        format!("--config={}", layout.path("kubelet.yaml")),
        format!("--kubeconfig={}", layout.path("kubelet.kubeconfig")),
        format!("--root-dir={}", layout.path("kubelet")),
        format!("--cert-dir={}", layout.path("pki/generated-kubelet")),
        // With Hostname preferred by the API server, logs and exec go over loopback.
        "--hostname-override=localhost".to_owned(),
        "--v=1".to_owned(),
    ];
    argv.extend(spec.extra_flags(Component::Kubelet));
    Ok(part(Component::Kubelet, kubelab, argv))
}

fn kubelet_config(layout: &Layout) -> serde_json::Value {
    let socket = format!("unix://{}", socket(layout));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": layout.node_port,
        "healthzPort": 0,
        "authentication": {
            "x509": { "clientCAFile": layout.path("pki/ca.crt") },
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "tlsCertFile": layout.path("pki/server.crt"),
        "tlsPrivateKeyFile": layout.path("pki/server.key"),
        "containerRuntimeEndpoint": socket,
        "imageServiceEndpoint": socket,
        "podLogsDir": layout.path("pods"),
        "volumePluginDir": layout.path("kubelet-plugins"),
        "resolvConf": layout.path("resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", layout.cgroup()),
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        // The images came by hand and cannot be pulled again; a full disk of the machine is not the test's matter.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
        },
        "serializeImagePulls": false,
        "makeIPTablesUtilChains": false,
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "10s",
        "registerNode": true,
    })
}

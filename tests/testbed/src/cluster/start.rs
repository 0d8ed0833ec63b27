//! Brings a cluster up: the order of its parts and what is awaited between them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

use super::layout::{self, Layout};
use super::spec::Nodes;
use super::warden::{Belongings, Part, Warden};
use super::{Cluster, Component, LIMIT, Owned, Spec, client, control_plane, node, simulated};
use crate::artifacts::{self, Program, program};
use crate::wait;

/// Of so many ended clusters the logs are kept in the cache.
const KEPT_LOGS: usize = 30;

impl Cluster {
    /// Starts what `spec` says and returns when the nodes are ready.
    ///
    /// # Errors
    /// A part is missing or did not come up; the end of its log is in the message.
    pub async fn start(spec: Spec) -> Result<Self> {
        let real = spec.nodes == Nodes::Real;
        ensure!(
            !real || nix::unistd::Uid::effective().is_root(),
            "a real node needs root"
        );
        let kubelab = program(Program::Kubelab).await?.display().to_string();
        let warden = program(Program::Warden).await?;
        let layout = Layout::new(match &spec.dir {
            Some(dir) => dir.clone(),
            None => layout::new_dir(&spec.name)?,
        })?;
        let authority = layout.write_keys(&spec.name)?;
        let old_logs = artifacts::directory().join("logs");
        forget_old_logs(&old_logs);
        let warden = Warden::launch(
            &warden,
            &Belongings {
                dir: &layout.dir,
                logs_to: &artifacts::directory()
                    .join("logs")
                    .join(format!("{}-{}", spec.name, layout.id)),
                cgroup: real.then(|| layout.cgroup()).as_deref(),
                bridge: real.then(|| layout.bridge()).as_deref(),
            },
        )?;
        let mut owned = Owned {
            warden,
            parts: HashMap::new(),
        };
        let kubeconfig = fs::read_to_string(layout.dir.join("admin.kubeconfig"))?;
        bring_up(&mut owned, &kubelab, &layout, &spec, &client(&kubeconfig).await?).await?;
        Ok(Self {
            name: spec.name,
            dir: layout.dir,
            api_port: layout.api_port,
            kubeconfig,
            authority,
            owned: Some(owned),
        })
    }
}

/// Keeps the logs of the last clusters only. Another process may do the same at the same time, so what fails is done.
fn forget_old_logs(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut kept: Vec<_> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort();
    for (_, path) in kept.iter().rev().skip(KEPT_LOGS) {
        fs::remove_dir_all(path).unwrap_or_default();
    }
}

async fn bring_up(
    owned: &mut Owned,
    kubelab: &str,
    layout: &Layout,
    spec: &Spec,
    client: &kube::Client,
) -> Result<()> {
    owned.start(Component::Etcd, control_plane::etcd(kubelab, layout))?;
    owned.start(
        Component::ApiServer,
        control_plane::api_server(kubelab, layout, spec)?,
    )?;
    if spec.nodes == Nodes::Real {
        owned.start(Component::Containerd, node::containerd(layout)?)?;
        node::import_images(layout, &owned.warden).await?;
    }
    let logs = layout.dir.join("logs");
    await_ready(client, owned, &logs).await?;
    owned.start(
        Component::ControllerManager,
        control_plane::controller_manager(kubelab, layout, spec),
    )?;
    owned.start(
        Component::Scheduler,
        control_plane::scheduler(kubelab, layout, spec)?,
    )?;
    let nodes = match spec.nodes {
        Nodes::Real => {
            owned.start(Component::Kubelet, node::kubelet(kubelab, layout, spec)?)?;
            1
        }
        Nodes::Simulated(count) => {
            let kwok = program(Program::Kwok).await?.display().to_string();
            simulated::create_nodes(client, count).await?;
            owned.start(Component::Kwok, simulated::kwok(&kwok, layout, spec)?)?;
            count
        }
    };
    owned
        .until(&logs, "the nodes to be ready", || ready_nodes(client, nodes))
        .await
}

/// Waits for the API server's own word that all its parts are up.
pub(super) async fn await_ready(client: &kube::Client, owned: &Owned, logs: &Path) -> Result<()> {
    owned
        .until(logs, "the API server to be ready", || async {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await.map_err(anyhow::Error::from)
        })
        .await
}

async fn ready_nodes(client: &kube::Client, wanted: usize) -> Result<()> {
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let ready = |node: &&Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    let tainted = |node: &&Node| node.spec.as_ref().is_some_and(|spec| spec.taints.is_some());
    let usable = nodes.iter().filter(ready).filter(|node| !tainted(node)).count();
    ensure!(usable >= wanted, "{usable} of {wanted} are");
    Ok(())
}

impl Owned {
    fn start(&mut self, component: Component, part: Part) -> Result<()> {
        self.warden.start(&part)?;
        self.parts.insert(component, part);
        Ok(())
    }

    /// Waits for `probe`; gives up at once when a part has ended, which it never does by itself.
    async fn until<T, F, Fut>(&self, logs: &Path, what: &str, mut probe: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let dead = || {
            self.parts
                .values()
                .find(|part| self.warden.end_of(part.name).is_some())
                .map(|part| part.name)
        };
        let waited = wait::until_ok(LIMIT, what, || {
            let next = probe();
            async {
                match dead() {
                    Some(_) => Ok(()),
                    None => next.await.map(drop),
                }
            }
        });
        let waited = waited.await.map_err(anyhow::Error::from);
        let Some(dead) = dead() else {
            return waited.with_context(|| format!("see the logs in {}", logs.display()));
        };
        let log = fs::read_to_string(logs.join(format!("{dead}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(anyhow!(
            "{dead} ended while the cluster waited for {what}:\n{tail}"
        ))
    }
}

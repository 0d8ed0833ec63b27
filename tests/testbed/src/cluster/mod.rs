//! Whole Kubernetes clusters for tests: real API servers on free ports of 127.0.0.1, each in a directory of its own.
//! `alpha` runs pods with a real kubelet and containerd, `beta` plays them with kwok and ends them as asked.
//!
//! A cluster lives as long as its [`Cluster`] value, and never longer than the process that started it: the warden
//! program holds all its parts and takes them down, with mounts, control groups and files.

mod control_plane;
mod kubeconfig;
mod layout;
mod node;
mod simulated;
mod spec;
mod start;
mod warden;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::sys::signal::Signal;

pub use spec::{Component, Spec};

use crate::certs::Authority;
use crate::wait;
use warden::{Part, Warden};

/// How long a part may take to come up or go. Far more than it needs, for machines that build at the same time.
const LIMIT: Duration = Duration::from_secs(180);

/// A running cluster.
pub struct Cluster {
    name: String,
    dir: PathBuf,
    api_port: u16,
    kubeconfig: String,
    authority: Authority,
    /// Absent when another process runs the cluster and this one only uses it.
    owned: Option<Owned>,
}

struct Owned {
    warden: Warden,
    parts: HashMap<Component, Part>,
}

impl Cluster {
    /// A new cluster with one real node, `localhost`.
    ///
    /// # Errors
    /// Root, containerd or Go is missing, or a part did not come up; its log is named.
    pub async fn alpha() -> Result<Self> {
        Self::start(Spec::real("alpha")).await
    }

    /// A new cluster with three simulated nodes. See `kwok_stages.yaml` for the endings a pod can ask for.
    ///
    /// # Errors
    /// Go is missing, or a part did not come up; its log is named.
    pub async fn beta(name: &str) -> Result<Self> {
        Self::start(Spec::simulated(name)).await
    }

    /// A cluster that another process runs in `dir`. It cannot be harmed from here: the calls that kill or pause a
    /// part fail.
    ///
    /// # Errors
    /// There is no cluster in `dir`.
    pub fn attach(dir: &Path) -> Result<Self> {
        let kubeconfig = std::fs::read_to_string(dir.join("admin.kubeconfig"))
            .with_context(|| format!("no cluster runs in {}", dir.display()))?;
        let server = kubeconfig
            .lines()
            .find_map(|line| line.trim().strip_prefix("server: https://127.0.0.1:"));
        Ok(Self {
            name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            api_port: server.context("the kubeconfig names no server")?.parse()?,
            kubeconfig,
            authority: Authority::open(&dir.join("pki"))?,
            dir: dir.to_owned(),
            owned: None,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster's own directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kubeconfig (YAML) of a user in `system:masters`.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Where [`Cluster::kubeconfig`] lies as a file.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Where the API server listens; TLS, for proxies to stand before.
    pub fn api_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.api_port).into()
    }

    /// The API server's audit log: one JSON object per line for each request that did not come from the cluster's own
    /// parts, at level Metadata.
    pub fn audit_log(&self) -> PathBuf {
        self.log_dir().join("audit.log")
    }

    /// The directory of the parts' logs.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// A client in `system:masters`. It belongs to the runtime that asked; ask again in each test.
    ///
    /// # Errors
    /// The kubeconfig was not understood, which would be a mistake in here.
    pub async fn client(&self) -> Result<kube::Client> {
        client(&self.kubeconfig).await
    }

    /// Kubeconfig (YAML) of a new user that has no rights but those bound to it or to its groups (two at most).
    ///
    /// # Errors
    /// A name cannot stand in a certificate, or there are more than two groups.
    pub fn mint_user(&self, user: &str, groups: &[&str]) -> Result<String> {
        let identity = self.authority.client(user, groups)?;
        let server = format!("https://{}", self.api_addr());
        Ok(kubeconfig::render(
            &self.name,
            &server,
            self.authority.cert(),
            &identity,
        ))
    }

    /// A client for [`Cluster::mint_user`].
    ///
    /// # Errors
    /// As there.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<kube::Client> {
        client(&self.mint_user(user, groups)?).await
    }

    /// Makes a namespace `<prefix>-<random>` and waits until pods can be created in it.
    ///
    /// # Errors
    /// The prefix is no name, or the controllers do not do their part.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let client = self.client().await?;
        let name = format!("{prefix}-{}", layout::random_id());
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        let maps: Api<ConfigMap> = Api::namespaced(client, &name);
        wait::until_ok(LIMIT, &format!("the default service account of {name}"), || {
            accounts.get("default")
        })
        .await?;
        wait::until_ok(LIMIT, &format!("the root CA in {name}"), || {
            maps.get("kube-root-ca.crt")
        })
        .await?;
        Ok(name)
    }

    /// Kills the API server and starts it again on the same port; returns when it is ready. Every watch breaks.
    ///
    /// # Errors
    /// It does not come up again, or the cluster is only attached to.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.kill(Component::ApiServer).await?;
        self.start_again(Component::ApiServer).await
    }

    /// Kills the part's process with SIGKILL and waits until it is gone. Pods of a real node live on without their
    /// kubelet and containerd.
    ///
    /// # Errors
    /// The part does not run, or the cluster is only attached to.
    pub async fn kill(&self, component: Component) -> Result<()> {
        let owned = self.owned()?;
        owned.warden.signal(component.name(), Signal::SIGKILL)?;
        owned.warden.ended(component.name(), LIMIT).await?;
        Ok(())
    }

    /// Starts a killed part again, on the same ports. The API server is awaited.
    ///
    /// # Errors
    /// The part runs, is none of this cluster's, or the cluster is only attached to.
    pub async fn start_again(&self, component: Component) -> Result<()> {
        let owned = self.owned()?;
        let part = owned
            .parts
            .get(&component)
            .with_context(|| format!("{} has no {component:?}", self.name))?;
        owned.warden.start(part)?;
        match component {
            Component::ApiServer => start::await_ready(&self.client().await?, owned, &self.log_dir()).await,
            Component::Etcd
            | Component::ControllerManager
            | Component::Scheduler
            | Component::Containerd
            | Component::Kubelet
            | Component::Kwok => Ok(()),
        }
    }

    /// Stops the part's process where it stands: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// The part does not run, or the cluster is only attached to.
    pub fn pause(&self, component: Component) -> Result<()> {
        self.owned()?.warden.signal(component.name(), Signal::SIGSTOP)
    }

    /// Lets a paused part go on.
    ///
    /// # Errors
    /// The part does not run, or the cluster is only attached to.
    pub fn resume(&self, component: Component) -> Result<()> {
        self.owned()?.warden.signal(component.name(), Signal::SIGCONT)
    }

    fn owned(&self) -> Result<&Owned> {
        match &self.owned {
            Some(owned) => Ok(owned),
            None => bail!(
                "{} is run by another process: start one of your own to harm it",
                self.name
            ),
        }
    }
}

async fn client(kubeconfig: &str) -> Result<kube::Client> {
    let config = Kubeconfig::from_yaml(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

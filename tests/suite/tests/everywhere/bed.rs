//! A user of this machine with all backends: engines, an SSH host, a cluster with a queue.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use qwex_suite::binary;
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::podman::Podman;
use qwex_testbed::queue::QueueStandIn;
use qwex_testbed::sshd::Sshd;
use qwex_testbed::{Cluster, images, shared};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Long, because the machine may build at the same time; each wait ends as soon as it can.
pub const LIMIT: Duration = Duration::from_secs(240);
pub const IMAGE: &str = images::BUSYBOX;

/// The backends, started by the first test that asks; they end with the test process.
static WORLD: OnceCell<World> = OnceCell::const_new();

struct World {
    cluster: &'static Cluster,
    docker: Dockerd,
    podman: Podman,
    sshd: Sshd,
    _queue: QueueStandIn,
}

impl World {
    async fn start() -> Result<Self> {
        let cluster = shared::alpha().await?;
        let world = Self {
            cluster,
            docker: Dockerd::start().await?,
            podman: Podman::start().await?,
            sshd: Sshd::start().await?,
            _queue: QueueStandIn::start(cluster.kubeconfig()).await?,
        };
        world.docker.load_busybox().await?;
        world.podman.load_busybox().await?;
        Ok(world)
    }
}

/// An empty home and an empty namespace.
pub struct Bed {
    home: TempDir,
    pub namespace: String,
    world: &'static World,
}

/// What a command did.
#[derive(Debug)]
pub struct Seen {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Bed {
    pub async fn new() -> Result<Self> {
        let world = WORLD.get_or_try_init(World::start).await?;
        let bed = Self {
            home: tempfile::tempdir()?,
            namespace: world.cluster.namespace("everywhere").await?,
            world,
        };
        bed.furnish_queue().await?;
        bed.write_kubeconfig()?;
        bed.name_host()?;
        Ok(bed)
    }

    pub fn cluster(&self) -> &Cluster {
        self.world.cluster
    }

    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// `qwexctl` as this user, with nothing else in its environment.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("qwexctl")?);
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir())
            .env("PATH", std::env::var_os("PATH").context("no PATH")?)
            .env("DOCKER_HOST", self.world.docker.host())
            .env("CONTAINER_HOST", self.world.podman.host())
            .env("KUBECONFIG", self.dir().join("kubeconfig"))
            // Connections are shared in a directory of this user.
            .env("XDG_RUNTIME_DIR", self.dir())
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    pub async fn qwexctl(&self, args: &[&str]) -> Result<Seen> {
        let output = tokio::time::timeout(LIMIT, self.command(args)?.output())
            .await
            .with_context(|| format!("{args:?} did not end"))??;
        Ok(Seen {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    pub async fn run_of(&self, word: &str) -> Result<Value> {
        self.qwexctl(&["get", word, "-o", "json"]).await?.json()
    }

    /// Processes of qwexctl that this user's commands left working: drivers and keepers.
    pub fn helpers(&self) -> Result<Vec<i32>> {
        let home = format!("HOME={}", self.dir().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let (line, environ) = (read("cmdline"), read("environ"));
            let second = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
            let is_ours = environ
                .split(|byte| *byte == 0)
                .any(|entry| entry == home.as_bytes());
            // A supervisor owns a command: without it the run is lost, which is another test.
            if is_ours && second.starts_with(b"__") && second != b"__supervise" {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// The LocalQueue `main` of four CPUs in the namespace.
    async fn furnish_queue(&self) -> Result<()> {
        let name = self.namespace.as_str();
        let quota =
            json!([{ "name": "cpu", "nominalQuota": "4" }, { "name": "memory", "nominalQuota": "4Gi" }]);
        let group = json!({ "coveredResources": ["cpu", "memory"], "flavors": [{ "name": name, "resources": quota }] });
        let objects = [
            ("ResourceFlavor", "resourceflavors", None, json!({})),
            (
                "ClusterQueue",
                "clusterqueues",
                None,
                json!({ "namespaceSelector": {}, "resourceGroups": [group] }),
            ),
            (
                "LocalQueue",
                "localqueues",
                Some("main"),
                json!({ "clusterQueue": name }),
            ),
        ];
        let client = self.world.cluster.client().await?;
        for (kind, plural, inside, spec) in objects {
            let kind = GroupVersionKind::gvk("kueue.x-k8s.io", "v1beta2", kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, plural);
            let mut object = DynamicObject::new(inside.unwrap_or(name), &resource);
            object.data = json!({ "spec": spec });
            let api: Api<DynamicObject> = match inside {
                Some(_) => Api::namespaced_with(client.clone(), name, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            api.create(&PostParams::default(), &object).await?;
        }
        Ok(())
    }

    /// The cluster's own, with the namespace in its context.
    fn write_kubeconfig(&self) -> Result<()> {
        let mut config: Value = serde_saphyr::from_str(self.world.cluster.kubeconfig())?;
        config["contexts"][0]["context"]["namespace"] = self.namespace.as_str().into();
        std::fs::write(self.dir().join("kubeconfig"), config.to_string())?;
        Ok(())
    }

    fn name_host(&self) -> Result<()> {
        let dir = self.dir().join(".config/qwex");
        std::fs::create_dir_all(&dir)?;
        let host = json!({
            "address": "testbed",
            "config_file": self.world.sshd.config(),
            "directory": self.dir().join("remote"),
            "cache": self.dir().join("cache"),
        });
        let config = json!({ "ssh": { "hosts": { "build1": host } } });
        std::fs::write(dir.join("config.yaml"), config.to_string())?;
        Ok(())
    }
}

impl Seen {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {}{}", self.out, self.err))
    }

    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "{} instead of {code}: {}{}",
            self.code,
            self.out,
            self.err
        );
        Ok(self)
    }
}

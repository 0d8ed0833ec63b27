//! A private `podman system service`: own storage, own socket that speaks the Docker API and podman's. Needs root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::engine::{self, Engine};
use crate::process::{Spec, find};
use crate::scratch;

/// Without `nproc` and `nofile` podman asks for more than a machine without CAP_SYS_RESOURCE may give.
const CONTAINERS: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// A running podman service. Dropping it kills it with all its containers.
#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
    engine: Engine,
}

impl Podman {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// Podman, runc or root is missing, or it does not come up within a minute.
    pub async fn start() -> Result<Self> {
        let dir = scratch::dir("podman")?;
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{dir}/graph\"\nrunroot = \"{dir}/run\"\n",
            dir = dir.display()
        );
        fs::write(dir.join("containers.conf"), CONTAINERS)?;
        fs::write(dir.join("storage.conf"), storage)?;
        Self::start_in(dir).await
    }

    async fn start_in(dir: PathBuf) -> Result<Self> {
        let program = find("podman").context("podman is not installed: apt-get install podman runc")?;
        let socket = dir.join("podman.sock");
        let spec = Spec::new(program, dir.join("podman.log"))
            .env("CONTAINERS_CONF", dir.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))
            .arg("--tmpdir")
            .arg(dir.join("tmp"))
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", socket.display()));
        Ok(Self {
            engine: Engine::start(spec, socket).await?,
            dir,
        })
    }

    /// For `CONTAINER_HOST`, and for `DOCKER_HOST` of clients that speak the Docker API.
    pub fn host(&self) -> String {
        self.engine.host()
    }

    pub fn socket(&self) -> &Path {
        &self.engine.socket
    }

    /// The `podman` client, bound to this service.
    pub fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--remote").env("CONTAINER_HOST", self.host());
        command
    }

    /// Runs `podman` with these arguments; its stdout.
    ///
    /// # Errors
    /// It fails; the error holds its stderr.
    pub async fn podman(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.args(args);
        engine::output(command).await
    }

    /// Loads the busybox of [`crate::images`] and gives its name.
    ///
    /// # Errors
    /// The image cannot be made or loaded.
    pub async fn load_busybox(&self) -> Result<&'static str> {
        engine::load_busybox(self.command()).await
    }

    /// Stops the service; its containers end with its namespaces.
    ///
    /// # Errors
    /// It does not end within a minute; it is killed then.
    pub async fn stop(self) -> Result<()> {
        self.engine.stop().await
    }

    /// Stops the service and starts it on the same storage and socket.
    ///
    /// # Errors
    /// As [`Podman::start`] and [`Podman::stop`].
    pub async fn restart(self) -> Result<Self> {
        self.engine.stop().await?;
        Self::start_in(self.dir).await
    }
}

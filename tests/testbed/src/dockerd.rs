//! A private dockerd: own data, own socket, no container network, beside any other on the machine. Needs root.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::engine::{self, Engine};
use crate::process::{Spec, find};
use crate::scratch;

/// A running dockerd. Dropping it kills it with all its containers.
#[derive(Debug)]
pub struct Dockerd {
    dir: PathBuf,
    engine: Engine,
}

impl Dockerd {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// Docker or root is missing, or it does not come up within a minute.
    pub async fn start() -> Result<Self> {
        Self::start_in(scratch::dir("docker")?).await
    }

    async fn start_in(dir: PathBuf) -> Result<Self> {
        let program = find("dockerd").context("dockerd is not installed: apt-get install docker.io")?;
        let socket = dir.join("docker.sock");
        let spec = Spec::new(program, dir.join("dockerd.log"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .arg(format!("--cgroup-parent=/{}", scratch::cgroup()?))
            .arg(format!("--host=unix://{}", socket.display()))
            .arg(format!("--data-root={}", dir.join("data").display()))
            .arg(format!("--exec-root={}", dir.join("exec").display()))
            .arg(format!("--pidfile={}", dir.join("dockerd.pid").display()));
        Ok(Self {
            engine: Engine::start(spec, socket).await?,
            dir,
        })
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        self.engine.host()
    }

    pub fn socket(&self) -> &Path {
        &self.engine.socket
    }

    /// The `docker` client, bound to this dockerd.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host());
        command
    }

    /// Runs `docker` with these arguments; its stdout.
    ///
    /// # Errors
    /// It fails; the error holds its stderr.
    pub async fn docker(&self, args: &[&str]) -> Result<String> {
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

    /// Stops dockerd in order; its containers are stopped first.
    ///
    /// # Errors
    /// It does not end within a minute; it is killed then.
    pub async fn stop(self) -> Result<()> {
        self.engine.stop().await
    }

    /// Stops dockerd and starts it on the same data and socket; containers are stopped by it.
    ///
    /// # Errors
    /// As [`Dockerd::start`] and [`Dockerd::stop`].
    pub async fn restart(self) -> Result<Self> {
        self.engine.stop().await?;
        Self::start_in(self.dir).await
    }
}

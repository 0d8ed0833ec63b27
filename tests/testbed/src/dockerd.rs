//! A private dockerd: own data, own socket, no container network, beside any other on the machine. Needs root.
//! It can be killed and started again while its containers go on, as after a crash of dockerd.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::engine::{self, Engine};
use crate::process::{Spec, find};
use crate::{scratch, wait};

/// Holds the namespaces while dockerd is dead. A file `again` brings it back; SIGTERM ends both.
const KEEPER: &str = r#"
cd "$1" && shift
trap 'stop=1' TERM
while :; do
    "$@" & pid=$!
    echo $pid > engine.pid
    while kill -0 $pid 2>/dev/null; do wait $pid; done
    [ -z "$stop" ] || exit 0
    rm -f engine.pid
    until [ -e again ]; do [ -z "$stop" ] || exit 0; sleep 0.05; done
    rm -f again dockerd.pid
done
"#;

/// A running dockerd. Dropping it kills it with all its containers.
#[derive(Debug)]
pub struct Dockerd {
    dir: PathBuf,
    engine: Engine,
    live_restore: bool,
}

impl Dockerd {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// Docker or root is missing, or it does not come up within a minute.
    pub async fn start() -> Result<Self> {
        Self::start_in(scratch::dir("docker")?, false).await
    }

    /// As [`Dockerd::start`]; its containers go on while it is dead, also when it comes back.
    ///
    /// # Errors
    /// As [`Dockerd::start`].
    pub async fn start_with_live_restore() -> Result<Self> {
        Self::start_in(scratch::dir("docker")?, true).await
    }

    async fn start_in(dir: PathBuf, live_restore: bool) -> Result<Self> {
        let program = find("dockerd").context("dockerd is not installed: apt-get install docker.io")?;
        let socket = dir.join("docker.sock");
        let spec = Spec::new("sh", dir.join("dockerd.log"))
            .args(["-c", KEEPER, "sh"])
            .arg(&dir)
            .arg(program)
            .args(live_restore.then_some("--live-restore"))
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
            live_restore,
        })
    }

    /// SIGKILL for dockerd alone; its containers are left to themselves.
    ///
    /// # Errors
    /// It is dead already, or does not die.
    pub async fn crash(&self) -> Result<()> {
        let pid = self.dir.join("engine.pid");
        self.engine
            .inside(&["sh", "-c", r#"kill -9 "$(cat "$0")""#], &pid)
            .await?;
        wait::until(engine::LIMIT, "dockerd to be dead", || async {
            (!pid.exists()).then_some(())
        })
        .await?;
        Ok(())
    }

    /// Brings a crashed dockerd back.
    ///
    /// # Errors
    /// It does not come up within a minute.
    pub async fn come_back(&self) -> Result<()> {
        std::fs::remove_file(self.socket()).ok();
        std::fs::write(self.dir.join("again"), "")?;
        self.engine.ready().await
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
        Self::start_in(self.dir, self.live_restore).await
    }
}

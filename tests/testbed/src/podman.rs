//! A private `podman system service`: own storage, own socket that speaks the Docker API and podman's. Needs root, if only
//! to give it up: podman can be had rootless, as an ordinary user runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{User, chown};
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
/// Registries that a test starts itself speak no TLS.
const REGISTRIES: &str = r#"
[[registry]]
location = "127.0.0.1"
insecure = true
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
        fs::write(dir.join("registries.conf"), REGISTRIES)?;
        Self::start_in(dir).await
    }

    /// As [`Podman::start`], run by the user `nobody`, who has no subordinate ids: its images and containers know one user,
    /// root, which is that one. Containers have no network of their own.
    ///
    /// # Errors
    /// As [`Podman::start`].
    pub async fn start_rootless() -> Result<Self> {
        let nobody = User::from_name("nobody")?.context("there is no user nobody")?;
        let dir = scratch::dir("podman")?;
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{dir}/graph\"\nrunroot = \"{dir}/run\"\n\
             [storage.options.vfs]\nignore_chown_errors = \"true\"\n",
            dir = dir.display()
        );
        fs::write(dir.join("containers.conf"), CONTAINERS)?;
        fs::write(dir.join("storage.conf"), storage)?;
        fs::write(dir.join("registries.conf"), REGISTRIES)?;
        for own in [dir.clone(), dir.join("xdg")] {
            fs::create_dir_all(&own)?;
            chown(&own, Some(nobody.uid), Some(nobody.gid))?;
        }
        fs::set_permissions(dir.join("xdg"), fs::Permissions::from_mode(0o700))?;
        let spec = Spec::new("setpriv", dir.join("podman.log"))
            .args(["--clear-groups", "--reuid"])
            .arg(nobody.uid.to_string())
            .arg("--regid")
            .arg(nobody.gid.to_string())
            .arg("podman")
            .env("HOME", &dir)
            .env("XDG_RUNTIME_DIR", dir.join("xdg"))
            .dir(&dir);
        Self::serve(spec, dir).await
    }

    async fn start_in(dir: PathBuf) -> Result<Self> {
        let program = find("podman").context("podman is not installed: apt-get install podman runc")?;
        let log = dir.join("podman.log");
        Self::serve(Spec::new(program, log), dir).await
    }

    /// `spec` runs podman, whose arguments are still to come.
    async fn serve(spec: Spec, dir: PathBuf) -> Result<Self> {
        let socket = dir.join("podman.sock");
        let spec = spec
            .env("CONTAINERS_CONF", dir.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", dir.join("registries.conf"))
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

    /// SIGKILL for the process that waits for a container's command (conmon), then for the command itself: nobody is left
    /// to tell how it ended.
    ///
    /// # Errors
    /// The container does not run.
    pub async fn kill_with_its_monitor(&self, container: &str) -> Result<()> {
        let pids = self
            .podman(&["inspect", "-f", "{{.State.ConmonPid}} {{.State.Pid}}", container])
            .await?;
        let script = format!("kill -9 {} # $0", pids.trim());
        self.engine
            .inside(&["sh", "-c", &script], &self.dir)
            .await
            .map(drop)
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

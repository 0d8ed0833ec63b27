//! What dockerd and podman have in common here: a service on a unix socket that speaks the Docker API, in namespaces
//! of its own, so that its containers and mounts end with it. Used by `dockerd.rs` and `podman.rs` only.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::images;
use crate::process::{Process, Spec};

pub const LIMIT: Duration = Duration::from_secs(60);

/// A running service.
#[derive(Debug)]
pub struct Engine {
    pub socket: PathBuf,
    pub process: Process,
}

impl Engine {
    /// Starts `spec` and waits until `socket` answers.
    pub async fn start(spec: Spec, socket: PathBuf) -> Result<Self> {
        // One of an earlier life would be connected to in vain.
        std::fs::remove_file(&socket).ok();
        let process = spec.namespaced().start()?;
        let engine = Self { socket, process };
        engine.ready().await?;
        Ok(engine)
    }

    /// Waits until the socket answers.
    pub async fn ready(&self) -> Result<()> {
        self.process
            .ready(LIMIT, || async { ping(&self.socket).await.ok() })
            .await
    }

    /// Runs a command in the namespaces of the service, with a path as its last argument; its stdout.
    pub async fn inside(&self, command: &[&str], path: &Path) -> Result<String> {
        let mut nsenter = Command::new("nsenter");
        nsenter
            .arg("--target")
            .arg(self.process.first_inside()?.to_string());
        nsenter.args(["--pid", "--mount", "--"]).args(command).arg(path);
        output(nsenter).await
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub async fn stop(self) -> Result<()> {
        self.process.stop(Signal::SIGTERM, LIMIT).await.map(drop)
    }
}

/// Whether the Docker API answers.
async fn ping(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
        .await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    ensure!(reply.contains(" 200 OK"), "{reply}");
    Ok(())
}

/// Runs a command to its end; its stdout, or an error with its stderr.
pub async fn output(mut command: Command) -> Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let name = format!("{command:?}");
    let done = tokio::time::timeout(LIMIT, command.output());
    let done = done
        .await
        .with_context(|| format!("{name} did not end"))?
        .with_context(|| format!("start {name}"))?;
    if !done.status.success() {
        bail!(
            "{name}: {}: {}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Loads the busybox image through the engine's own client; its name.
pub async fn load_busybox(mut command: Command) -> Result<&'static str> {
    command.arg("load").arg("-i").arg(images::busybox().await?);
    output(command).await?;
    Ok(images::BUSYBOX)
}

//! A bed: the parts that one `qwex-testbed up` keeps. One process holds them all and a lock on the bed's directory; the
//! lock, not a process number, tells whether the bed is up.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qwex_testbed::{process, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::parts::{Part, PartName};

/// The first time, Kubernetes has to be built.
const UP_LIMIT: Duration = Duration::from_secs(1800);
const LOOKED_AT: Duration = Duration::from_secs(2);
const DOWN_LIMIT: Duration = Duration::from_secs(60);

pub struct Bed {
    dir: PathBuf,
}

impl Bed {
    /// The parts run elsewhere and are told where their files lie: a relative `dir` is one from here.
    pub fn new(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir)?;
        fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
        Ok(Self { dir })
    }

    pub fn part_dir(&self, part: PartName) -> PathBuf {
        self.dir.join(part.name())
    }

    /// Holds the parts until SIGTERM or Ctrl-C.
    pub async fn serve(&self, parts: &[PartName]) -> Result<()> {
        let lock = self.lock_file()?;
        // Whoever looks whether a bed is up holds the lock for a moment.
        wait::until(LOOKED_AT, "the lock of the bed", || async {
            lock.try_lock().ok()
        })
        .await
        .with_context(|| format!("a bed is up in {} already", self.dir.display()))?;
        fs::write(self.dir.join("pid"), std::process::id().to_string())?;
        fs::remove_file(self.env_file()).or_else(absent)?;
        let mut stop = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let running = tokio::select! {
            running = self.start(parts) => running?,
            _ = stop.0.recv() => return Ok(()),
            _ = stop.1.recv() => return Ok(()),
        };
        let exports: String = running
            .iter()
            .flat_map(Part::exports)
            .map(|(variable, value)| format!("export {variable}='{value}'\n"))
            .collect();
        // Others take the file's being there for readiness, so it must come whole.
        fs::write(self.dir.join("env.half"), &exports)?;
        fs::rename(self.dir.join("env.half"), self.env_file())?;
        print!("{exports}");
        tokio::select! {
            _ = stop.0.recv() => {}
            _ = stop.1.recv() => {}
        }
        fs::remove_file(self.env_file()).or_else(absent)?;
        Ok(())
    }

    async fn start(&self, parts: &[PartName]) -> Result<Vec<Part>> {
        let mut running = Vec::new();
        for part in parts {
            let dir = self.part_dir(*part);
            // Left by a bed whose warden was killed too; nothing of it runs, or the lock would be held.
            fs::remove_dir_all(&dir).or_else(absent)?;
            running.push(
                part.start(dir)
                    .await
                    .with_context(|| format!("failed to start {}", part.name()))?,
            );
        }
        Ok(running)
    }

    /// Starts the process that serves and waits until it does.
    pub async fn up(&self, parts: &[PartName]) -> Result<()> {
        if self.is_up()? {
            return self.status();
        }
        fs::remove_file(self.env_file()).or_else(absent)?;
        let log_path = self.dir.join("up.log");
        let log = File::create(&log_path)?;
        let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
        let mut server = Command::new(std::env::current_exe()?)
            .arg("--dir")
            .arg(&self.dir)
            .args(["up", "--foreground", "--only", &names.join(",")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is not meant for it.
            .process_group(0)
            .spawn()
            .context("failed to start the server")?;
        let mut ended = || server.try_wait().ok().flatten().is_some();
        wait::until(UP_LIMIT, "the parts to be ready", || {
            let done = ended() || self.env_file().exists();
            async move { done.then_some(()) }
        })
        .await?;
        if self.env_file().exists() {
            return self.status();
        }
        bail!("the parts did not come up:\n{}", process::tail(&log_path, 4096)?)
    }

    pub async fn down(&self) -> Result<()> {
        if self.is_up()? {
            let pid = fs::read_to_string(self.dir.join("pid"))?
                .trim()
                .parse()
                .context("no process number")?;
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
            wait::until(DOWN_LIMIT, "the parts to stop", || async {
                (!self.is_up().ok()?).then_some(())
            })
            .await?;
        }
        fs::remove_dir_all(&self.dir).or_else(absent)?;
        println!("the testbed is down");
        Ok(())
    }

    pub fn status(&self) -> Result<()> {
        if !self.is_up()? {
            bail!("no testbed is up in {}", self.dir.display());
        }
        match fs::read_to_string(self.env_file()) {
            Ok(exports) => print!("{exports}"),
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("the testbed is starting"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn is_up(&self) -> Result<bool> {
        match self.lock_file()?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn lock_file(&self) -> Result<File> {
        let path = self.dir.join("lock");
        Ok(OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?)
    }

    fn env_file(&self) -> PathBuf {
        self.dir.join("env")
    }
}

/// That a file to remove is not there is no failure.
fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

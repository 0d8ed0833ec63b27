//! `qwexctl` as a person has it: a fresh directory with its own record, no server, no settings but the defaults.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use qwex_testbed::scratch;

/// A project directory and the binary to use in it.
pub struct Desk {
    qwexctl: PathBuf,
    pub dir: PathBuf,
}

impl Desk {
    /// # Errors
    /// No directory can be made.
    pub fn new(qwexctl: &Path, name: &str) -> Result<Self> {
        Ok(Self {
            qwexctl: qwexctl.to_owned(),
            dir: scratch::dir(name)?,
        })
    }

    /// A call in the project, without anything of the person who measures.
    #[must_use]
    pub fn call(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.qwexctl);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("QWEX_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(&self.dir)
            .env("QWEX_CONFIG_DIR", self.dir.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// # Errors
    /// The call fails.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        let status = self.call(arguments).status()?;
        ensure!(
            status.success(),
            "qwexctl {} ended with {status}",
            arguments.join(" ")
        );
        Ok(())
    }

    /// How many runs are on record.
    ///
    /// # Errors
    /// There is no record.
    pub fn recorded(&self) -> Result<usize> {
        let runs = self.dir.join(".qwex/runs");
        let entries = std::fs::read_dir(&runs).with_context(|| format!("{} is missing", runs.display()))?;
        let is_run = |entry: &std::fs::DirEntry| entry.path().join("run.json").is_file();
        Ok(entries.filter_map(Result::ok).filter(is_run).count())
    }
}

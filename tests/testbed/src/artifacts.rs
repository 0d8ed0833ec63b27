//! Programs the testbed builds for itself: the Go programs under `kubelab/`, `kwok/` and `warden/`, and what
//! [`crate::images`] makes. Each lies in a cache outside the tree under a name that holds the hash of its sources, so a
//! second checkout builds nothing, and a file lock lets one process build while the others wait.
//!
//! The sources are compiled in: a copied `qwex-testbed` works without the checkout. Nothing here runs what it built.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Clients parse the server's version and refuse one that is empty, so it is set at link time.
const KUBERNETES_VERSION: &str = "v1.34.4";

/// One Go program of the testbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// etcd, the Kubernetes control plane, the kubelet and kubectl; four minutes to build on two cores.
    Kubelab,
    /// Simulated nodes and pods; one minute to build.
    Kwok,
    /// Keeps a cluster's processes and cleans up after them; seconds to build.
    Warden,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Kubelab => "kubelab",
            Self::Kwok => "kwok",
            Self::Warden => "warden",
        }
    }

    fn sources(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Kubelab => &[
                ("go.mod", include_str!("../kubelab/go.mod")),
                ("go.sum", include_str!("../kubelab/go.sum")),
                ("main.go", include_str!("../kubelab/main.go")),
            ],
            Self::Kwok => &[
                ("go.mod", include_str!("../kwok/go.mod")),
                ("go.sum", include_str!("../kwok/go.sum")),
                ("main.go", include_str!("../kwok/main.go")),
            ],
            Self::Warden => &[
                ("go.mod", include_str!("../warden/go.mod")),
                ("main.go", include_str!("../warden/main.go")),
                ("outer.go", include_str!("../warden/outer.go")),
                ("inner.go", include_str!("../warden/inner.go")),
                ("mounts.go", include_str!("../warden/mounts.go")),
            ],
        }
    }

    fn flags(self) -> Vec<String> {
        let mut flags = vec!["-trimpath".to_owned(), "-ldflags".to_owned()];
        match self {
            Self::Kubelab => {
                let package = "k8s.io/component-base/version";
                let mut parts = KUBERNETES_VERSION.trim_start_matches('v').split('.');
                let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                flags.push(format!(
                    "-s -w -X {package}.gitVersion={KUBERNETES_VERSION} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
                ));
                flags.extend(["-tags".to_owned(), "providerless,dockerless".to_owned()]);
            }
            Self::Kwok | Self::Warden => flags.push("-s -w".to_owned()),
        }
        flags
    }
}

/// Where the program lies; builds it first when this version of its sources was never built here.
///
/// # Errors
/// Go is missing, the build failed (its output is in the message) or the cache cannot be written.
pub async fn program(program: Program) -> Result<PathBuf> {
    tokio::task::spawn_blocking(move || build(program)).await?
}

fn build(program: Program) -> Result<PathBuf> {
    let flags = program.flags();
    let mut key = Key::new(program.name());
    for (file, text) in program.sources() {
        key.add(file).add(text);
    }
    for flag in &flags {
        key.add(flag);
    }
    cached(key, |target| {
        let sources = tempfile::tempdir()?;
        for (file, text) in program.sources() {
            fs::write(sources.path().join(file), text)?;
        }
        eprintln!(
            "testbed: building {} (cached afterwards in {})",
            program.name(),
            directory().display()
        );
        let out = Command::new("go")
            .args(["build", "-o"])
            .arg(target)
            .args(&flags)
            .arg(".")
            .env("CGO_ENABLED", "0")
            .current_dir(sources.path())
            .output()
            .context("failed to run go: install Go 1.26 or newer")?;
        if !out.status.success() {
            bail!(
                "failed to build {}:\n{}",
                program.name(),
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(())
    })
}

/// The name of an artifact: what it is, and the hash of all that it is made from.
pub(crate) struct Key {
    name: String,
    hash: Sha256,
}

impl Key {
    pub(crate) fn new(name: &str) -> Self {
        let hash = Sha256::new().chain_update(std::env::consts::ARCH);
        Self {
            name: name.to_owned(),
            hash,
        }
    }

    /// The length goes in too, so that text cannot move from one part to the next unseen.
    pub(crate) fn add(&mut self, part: impl AsRef<[u8]>) -> &mut Self {
        let part = part.as_ref();
        self.hash.update(part.len().to_le_bytes());
        self.hash.update(part);
        self
    }

    fn file_name(self) -> String {
        format!("{}-{}", self.name, &hex::encode(self.hash.finalize())[..16])
    }
}

/// The artifact of that key, made by `make` when it is not there. `make` writes to the path it is given; a crash
/// half-way leaves nothing that could be taken for the whole.
pub(crate) fn cached(key: Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = directory();
    fs::create_dir_all(&dir).with_context(|| format!("failed to make the cache {}", dir.display()))?;
    let file = key.file_name();
    let done = dir.join(&file);
    if done.exists() {
        return Ok(done);
    }
    let lock = File::create(dir.join(format!("{file}.lock")))?;
    lock.lock().context("failed to wait for another build")?;
    if !done.exists() {
        let half = dir.join(format!("{file}.half"));
        make(&half)?;
        fs::rename(&half, &done)?;
    }
    Ok(done)
}

/// `$QWEX_CACHE_DIR/testbed`, else `$XDG_CACHE_HOME/qwex/testbed`, else `~/.cache/qwex/testbed`.
pub fn directory() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value: &OsString| !value.is_empty())
            .map(PathBuf::from)
    };
    set("QWEX_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("qwex")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/qwex")))
        .unwrap_or_else(|| std::env::temp_dir().join("qwex-cache"))
        .join("testbed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_tells_parts_apart() {
        let name = |parts: &[&str]| {
            let mut key = Key::new("x");
            for part in parts {
                key.add(part);
            }
            key.file_name()
        };
        assert_ne!(name(&["ab", "c"]), name(&["a", "bc"]));
        assert_eq!(name(&["ab", "c"]), name(&["ab", "c"]));
    }
}

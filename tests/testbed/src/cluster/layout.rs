//! Where the files of one cluster lie, which ports and names are its own, and the files written before any part starts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::Mode;

use super::kubeconfig;
use crate::certs::{Authority, service_account_key};
use crate::ports;

/// Unix sockets of containerd's parts lie below the directory and must stay under 108 bytes.
const LONGEST_DIR: usize = 60;

pub(super) struct Layout {
    pub(super) dir: PathBuf,
    /// Eight hex digits that no other cluster on this machine has.
    pub(super) id: String,
    pub(super) api_port: u16,
    pub(super) etcd_port: u16,
    pub(super) etcd_peer_port: u16,
    /// Where the kubelet, or kwok in its place, answers.
    pub(super) node_port: u16,
}

impl Layout {
    pub(super) fn new(dir: PathBuf) -> Result<Self> {
        ensure!(
            dir.as_os_str().len() <= LONGEST_DIR,
            "{} is too long for sockets below it",
            dir.display()
        );
        for private in ["/run", "/var/lib", "/var/log"] {
            ensure!(
                !dir.starts_with(private),
                "{private} is private to each cluster: set TMPDIR to another place"
            );
        }
        let layout = Self {
            dir,
            id: random_id(),
            api_port: ports::free()?,
            etcd_port: ports::free()?,
            etcd_peer_port: ports::free()?,
            node_port: ports::free()?,
        };
        for sub in ["logs", "pki"] {
            fs::create_dir_all(layout.dir.join(sub))?;
        }
        Ok(layout)
    }

    /// A path below the directory as an argument.
    pub(super) fn path(&self, below: &str) -> String {
        self.dir.join(below).display().to_string()
    }

    pub(super) fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    pub(super) fn cgroup(&self) -> String {
        format!("qwex-{}", self.id)
    }

    /// Interface names have at most 15 bytes.
    pub(super) fn bridge(&self) -> String {
        format!("qwex{}", self.id)
    }

    /// Makes the authority and all files that need it.
    pub(super) fn write_keys(&self, cluster: &str) -> Result<Authority> {
        let pki = self.dir.join("pki");
        let authority = Authority::new(&format!("qwex-testbed-{}", self.id))?;
        authority.write(&pki)?;
        authority
            .server(&["localhost", "127.0.0.1", "10.96.0.1", "kubernetes.default.svc"])?
            .write(&pki, "server")?;
        authority
            .client("kube-apiserver", &["system:masters"])?
            .write(&pki, "apiserver-kubelet")?;
        let (private, public) = service_account_key()?;
        fs::write(pki.join("service-account.key"), private)?;
        fs::write(pki.join("service-account.pub"), public)?;
        for (file, user, group) in [
            ("admin", "admin", "system:masters"),
            (
                "controller-manager",
                "system:kube-controller-manager",
                "system:masters",
            ),
            ("scheduler", "system:kube-scheduler", "system:masters"),
            ("kubelet", "system:node:localhost", "system:nodes"),
            ("kwok", "kwok", "system:masters"),
        ] {
            let identity = authority.client(user, &[group])?;
            let config = kubeconfig::render(cluster, &self.api_url(), authority.cert(), &identity);
            fs::write(self.dir.join(format!("{file}.kubeconfig")), config)?;
        }
        Ok(authority)
    }
}

/// Eight random hex digits: the tail of a version 7 id, whose head is the time.
pub(super) fn random_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()[24..].to_owned()
}

/// A new directory under the temporary one for a cluster of that name. The warden removes it, not the reaper of
/// [`crate::scratch`]: only the warden knows when its mounts are gone.
pub(super) fn new_dir(name: &str) -> Result<PathBuf> {
    let template = std::env::temp_dir().join(format!("qwexbed-{name}-XXXXXX"));
    let dir =
        nix::unistd::mkdtemp(&template).with_context(|| format!("failed to make {}", template.display()))?;
    // Containers that run as another user must get through.
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        &dir,
        Mode::from_bits_truncate(0o755),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )?;
    Ok(dir)
}

/// Writes JSON where YAML is expected: every JSON text is one.
pub(super) fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(value)?)
        .with_context(|| format!("failed to write {}", path.display()))
}

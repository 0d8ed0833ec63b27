//! Container images made on the spot, so that no test needs a registry: `qwex.test/busybox:1` from Debian's static
//! busybox and `qwex.test/pause:1` from a few lines of C. Each is a tar as `docker save` writes it, which containerd,
//! Docker and Podman all load.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::artifacts::{Key, cached};

/// A shell with the usual tools; runs as root unless told otherwise, user 65532 has a home.
pub const BUSYBOX: &str = "qwex.test/busybox:1";
/// The image of pod sandboxes.
pub const PAUSE: &str = "qwex.test/pause:1";

const PAUSE_SOURCE: &str = include_str!("../images/pause.c");
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nuser:x:65532:65532:user:/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:65532:\n";

/// The tar of [`BUSYBOX`].
///
/// # Errors
/// No statically linked busybox is installed, or the cache cannot be written.
pub async fn busybox() -> Result<PathBuf> {
    tokio::task::spawn_blocking(|| {
        let program = ["/bin/busybox", "/usr/bin/busybox"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists());
        let program = program.context("busybox is missing: install the Debian package busybox-static")?;
        let bytes = fs::read(&program)?;
        let mut key = Key::new("busybox.tar");
        key.add(&bytes).add(BUSYBOX).add(PASSWD).add(GROUP);
        cached(key, |target| {
            let applets = applets(&program)?;
            let mut layer = Layer::new();
            for dir in [
                "bin",
                "sbin",
                "usr/bin",
                "usr/sbin",
                "etc",
                "root",
                "home",
                "home/user",
            ] {
                layer.directory(dir, 0o755)?;
            }
            layer.directory("tmp", 0o1777)?;
            layer.file("bin/busybox", 0o755, &bytes)?;
            for applet in applets.iter().filter(|applet| *applet != "bin/busybox") {
                layer.link(applet, "/bin/busybox")?;
            }
            layer.file("etc/passwd", 0o644, PASSWD.as_bytes())?;
            layer.file("etc/group", 0o644, GROUP.as_bytes())?;
            write_archive(target, BUSYBOX, &["sh"], layer)
        })
    })
    .await?
}

/// The tar of [`PAUSE`].
///
/// # Errors
/// There is no C compiler, or the cache cannot be written.
pub async fn pause() -> Result<PathBuf> {
    tokio::task::spawn_blocking(|| {
        let mut key = Key::new("pause.tar");
        key.add(PAUSE_SOURCE).add(PAUSE);
        cached(key, |target| {
            let work = tempfile::tempdir()?;
            let (source, program) = (work.path().join("pause.c"), work.path().join("pause"));
            fs::write(&source, PAUSE_SOURCE)?;
            let out = Command::new("cc")
                .args([
                    OsStr::new("-static"),
                    OsStr::new("-Os"),
                    OsStr::new("-s"),
                    OsStr::new("-o"),
                ])
                .args([program.as_os_str(), source.as_os_str()])
                .output()
                .context("failed to run cc: install gcc and libc6-dev")?;
            ensure!(
                out.status.success(),
                "failed to build pause:\n{}",
                String::from_utf8_lossy(&out.stderr)
            );
            let mut layer = Layer::new();
            layer.file("pause", 0o755, &fs::read(&program)?)?;
            write_archive(target, PAUSE, &["/pause"], layer)
        })
    })
    .await?
}

/// Paths of all the tools that this busybox is, such as `bin/sh`.
fn applets(program: &Path) -> Result<Vec<String>> {
    let linked = Command::new("ldd")
        .arg(program)
        .output()
        .context("failed to run ldd")?;
    if String::from_utf8_lossy(&linked.stdout).contains("=>") {
        bail!(
            "{} is not static: install the Debian package busybox-static",
            program.display()
        );
    }
    let out = Command::new(program)
        .arg("--list-full")
        .output()
        .context("failed to list the tools of busybox")?;
    ensure!(out.status.success(), "busybox does not list its tools");
    Ok(String::from_utf8(out.stdout)?
        .lines()
        .map(str::to_owned)
        .collect())
}

/// One layer of an image, reproducible to the byte: no times, no owners.
struct Layer {
    tar: Builder<Vec<u8>>,
}

impl Layer {
    fn new() -> Self {
        Self {
            tar: Builder::new(Vec::new()),
        }
    }

    fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let owner = if path == "home/user" { 65532 } else { 0 };
        let mut header = header(EntryType::Directory, mode, 0);
        header.set_uid(owner);
        header.set_gid(owner);
        Ok(self
            .tar
            .append_data(&mut header, format!("{path}/"), std::io::empty())?)
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        Ok(self.tar.append_data(
            &mut header(EntryType::Regular, mode, content.len()),
            path,
            content,
        )?)
    }

    fn link(&mut self, path: &str, to: &str) -> Result<()> {
        Ok(self
            .tar
            .append_link(&mut header(EntryType::Symlink, 0o777, 0), path, to)?)
    }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn write_archive(target: &Path, reference: &str, command: &[&str], layer: Layer) -> Result<()> {
    let layer = layer.tar.into_inner()?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": command,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))] },
        "history": [{ "created_by": "qwex-testbed" }],
    }))?;
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest = serde_json::to_vec(&json!([{
        "Config": config_name,
        "RepoTags": [reference],
        "Layers": ["layer.tar"],
    }]))?;
    let mut archive = Layer::new();
    archive.file(&config_name, 0o644, &config)?;
    archive.file("layer.tar", 0o644, &layer)?;
    archive.file("manifest.json", 0o644, &manifest)?;
    Ok(fs::write(target, archive.tar.into_inner()?)?)
}

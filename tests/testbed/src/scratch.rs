//! Directories for the parts of the testbed: one root per test process, one directory per part below it.
//!
//! A small reaper (`sh`, in its own process group) waits on a pipe for the end of the test process, however it ends,
//! then removes mounts, control groups and the root. When a test failed, the `*.log` files stay and the place is printed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

struct Root {
    dir: PathBuf,
    /// Its end tells the reaper that this process is gone.
    _reaper: ChildStdin,
}

static ROOT: OnceLock<Root> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// `$1` is the root. Children die by PDEATHSIG at the same moment, so removing may need a second try.
const REAPER: &str = r#"
cat >/dev/null
remove_cgroups() {
    for id in "$1"/podman-*/graph/overlay-containers/*/; do
        id=${id%/}
        find /sys/fs/cgroup -depth -type d -path "*/libpod_parent/libpod-${id##*/}*" -exec rmdir {} \;
    done
    rmdir /sys/fs/cgroup/*/libpod_parent/conmon /sys/fs/cgroup/*/libpod_parent
    find /sys/fs/cgroup -depth -type d \( -path "*/${1##*/}" -o -path "*/${1##*/}/*" \) -exec rmdir {} \;
    [ -z "$(find /sys/fs/cgroup -type d -name "${1##*/}")" ]
}
for try in 1 2 3 4 5; do
    awk '{print $2}' /proc/mounts | grep -F "$1/" | sort -r | while read -r at; do umount -l "$at"; done
    remove_cgroups "$1" || { sleep 1; continue; }
    if [ -e "$1/failed" ]; then
        find "$1" -xdev ! -type d ! -name '*.log' ! -path "$1/failed" -delete
        find "$1" -xdev -depth -type d -empty -delete
        break
    fi
    rm -rf --one-file-system -- "$1" && break
    sleep 1
done
"#;

/// A new directory `<root>/<name>-<n>`, mode 0755, removed when the test process has ended. Paths are short enough
/// for unix sockets.
///
/// # Errors
/// The directory cannot be made.
pub fn dir(name: &str) -> Result<PathBuf> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = root()?.join(format!("{name}-{number}"));
    fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// The name of a control group for the containers of this test process; the reaper removes it.
///
/// # Errors
/// As [`root`].
pub fn cgroup() -> Result<String> {
    Ok(root()?
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned())
}

/// The root of this test process.
///
/// # Errors
/// It cannot be made, or the reaper cannot be started.
pub fn root() -> Result<&'static Path> {
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = MAKING
        .lock()
        .map_err(|_| anyhow::anyhow!("a thread died while it made the testbed root"))?;
    if let Some(root) = ROOT.get() {
        return Ok(&root.dir);
    }
    let made = make()?;
    keep_logs_of_failures(made.dir.clone());
    Ok(&ROOT.get_or_init(|| made).dir)
}

fn make() -> Result<Root> {
    let dir = tempfile::Builder::new()
        .prefix("qwexbed-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("create the root of the testbed")?
        .keep();
    let mut reaper = Command::new("sh")
        .args(["-c", REAPER, "qwex-testbed-reaper"])
        .arg(&dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start the reaper of the testbed")?;
    let pipe = reaper.stdin.take().context("the reaper has a stdin")?;
    Ok(Root { dir, _reaper: pipe })
}

/// Any panic of this process marks the root as failed: the reaper then leaves the logs.
fn keep_logs_of_failures(dir: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if fs::write(dir.join("failed"), format!("{info}\n")).is_ok() {
            writeln!(std::io::stderr(), "testbed logs: {}", dir.display()).ok();
        }
    }));
}

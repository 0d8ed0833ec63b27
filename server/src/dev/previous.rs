//! The Postgres of a `qwexcloud dev` that died: it may still be ending, or have left its pid file behind.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::postgres::DevError;

const FAST: Duration = Duration::from_secs(10);
const IMMEDIATE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);

/// Ends whatever still runs on `data`, and removes a pid file that names a stranger.
///
/// # Errors
/// It does not end.
pub async fn end(data: &Path) -> Result<(), DevError> {
    let file = data.join("postmaster.pid");
    let Some(pid) = read_pid(&file) else {
        return Ok(());
    };
    if !is_ours(pid, data) {
        // Its number may belong to another process by now, which makes Postgres refuse to start.
        tracing::info!(%pid, "removing the pid file of an embedded Postgres that was killed");
        return match std::fs::remove_file(&file) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(DevError::Dir { dir: file, cause }),
        };
    }
    tracing::info!(%pid, "waiting for the embedded Postgres of an earlier start to end");
    for (signal, limit) in [(Signal::SIGINT, FAST), (Signal::SIGQUIT, IMMEDIATE)] {
        kill(pid, signal).ok();
        if ends(pid, data, limit).await {
            return Ok(());
        }
    }
    Err(DevError::StillRuns { pid: pid.as_raw() })
}

async fn ends(pid: Pid, data: &Path, limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    while is_ours(pid, data) {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(STEP).await;
    }
    true
}

fn read_pid(file: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(file).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    (pid > 1).then(|| Pid::from_raw(pid))
}

/// Whether the process is a Postgres that works in `data`.
fn is_ours(pid: Pid, data: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let named = std::fs::read_to_string(proc.join("comm")).is_ok_and(|name| name.trim_end() == "postgres");
    let here = |cwd: std::path::PathBuf| data.canonicalize().is_ok_and(|data| data == cwd);
    named && std::fs::read_link(proc.join("cwd")).is_ok_and(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pid_file_that_names_a_stranger_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("postmaster.pid");
        // This test lives, and is no Postgres.
        std::fs::write(&file, format!("{}\n/data\n", std::process::id())).unwrap();
        end(dir.path()).await.unwrap();
        assert!(!file.exists());
        end(dir.path()).await.unwrap();
    }
}

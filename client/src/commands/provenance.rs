//! Where a run comes from, read when it is submitted: commit of the directory, host, version.

use std::path::Path;
use std::process::{Command, Stdio};

use qwex_core::Provenance;

/// What is known of the directory that a run is started from. Without git, or outside of a repository, it says less.
pub fn of(dir: &Path) -> Provenance {
    let commit = git(dir, &["rev-parse", "--verify", "--quiet", "HEAD"]);
    let changes = commit
        .is_some()
        .then(|| git(dir, &["status", "--porcelain", "--untracked-files=no"]))
        .flatten();
    Provenance {
        git_commit: commit,
        git_dirty: changes.map(|changes| !changes.is_empty()),
        qwex_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..Provenance::default()
    }
}

fn git(dir: &Path, words: &[&str]) -> Option<String> {
    // A repository of somebody else must not start programs that it names.
    let output = Command::new("git")
        .args(["-c", "core.fsmonitor=false"])
        .args(words)
        .current_dir(dir)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

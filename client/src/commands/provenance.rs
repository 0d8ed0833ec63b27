//! Where a run comes from, read when it is submitted: commit of the directory, host, version.

use std::path::Path;
use std::process::{Command, Stdio};

use qwex_core::Provenance;

/// What is known of the directory that a run is started from. Without git, or outside of a repository, it says less.
pub fn of(dir: &Path) -> Provenance {
    let status = may_be_in_repository(dir).then(|| git_status(dir)).flatten();
    let (git_commit, git_dirty) = status.as_deref().map(commit_and_dirty).unwrap_or_default();
    Provenance {
        git_commit,
        git_dirty,
        qwex_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..Provenance::default()
    }
}

/// Spares a run outside of any repository the start of git.
fn may_be_in_repository(dir: &Path) -> bool {
    let named = std::env::var_os("GIT_DIR").is_some();
    named
        || std::path::absolute(dir).is_ok_and(|dir| dir.ancestors().any(|above| above.join(".git").exists()))
}

/// A porcelain of version 2: lines with `#` say where HEAD is, all others what was changed.
fn git_status(dir: &Path) -> Option<String> {
    let words = ["--porcelain=v2", "--branch", "--untracked-files=no"];
    // A repository of somebody else must not start programs that it names.
    let output = Command::new("git")
        .args(["-c", "core.fsmonitor=false", "status"])
        .args(words)
        .current_dir(dir)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

fn commit_and_dirty(status: &str) -> (Option<String>, Option<bool>) {
    let commit = status
        .lines()
        .find_map(|line| line.strip_prefix("# branch.oid "))
        .filter(|commit| *commit != "(initial)");
    let dirty = status.lines().any(|line| !line.starts_with('#'));
    (commit.map(str::to_owned), commit.map(|_| dirty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_commit_and_changes() {
        let head = "# branch.oid 0123abcd\n# branch.head main\n";
        let commit = Some("0123abcd".to_owned());
        assert_eq!(commit_and_dirty(head), (commit.clone(), Some(false)));
        let changed = format!("{head}1 .M N... 100644 100644 100644 0 0 a # b\n");
        assert_eq!(commit_and_dirty(&changed), (commit, Some(true)));
        let unborn = "# branch.oid (initial)\n# branch.head main\n";
        assert_eq!(commit_and_dirty(unborn), (None, None));
    }
}

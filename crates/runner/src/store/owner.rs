//! Whose records are looked at. A `.qwex` of somebody else, in a shared directory or above it, could have its commands
//! executed by whoever looks; so it is neither opened nor found, unless the user says that it may be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::StoreError;

/// Directories, with colons between them, whose `.qwex` is trusted whoever owns it; `*`: all.
const SAFE: &str = "QWEX_SAFE_DIRECTORY";

/// Who looks.
struct Looker<'a> {
    uid: u32,
    /// Who asked to become root.
    sudo: Option<u32>,
    safe: Option<&'a OsStr>,
}

impl Looker<'_> {
    fn trusts(&self, owner: u32, project: &Path) -> bool {
        let is_theirs = owner == self.uid || (self.uid == 0 && Some(owner) == self.sudo);
        is_theirs || self.safe.is_some_and(|safe| names(safe, project))
    }
}

/// What is found from a directory upwards.
#[derive(Debug)]
pub struct Nearest {
    /// That of the directory itself is meant whoever owns it: to open it is refused.
    pub dir: Option<PathBuf>,
    /// Why one that is nearer was passed over: anybody may put one into a directory that all share.
    pub passed_over: Option<StoreError>,
}

/// The nearest directory, from `start` upwards, whose `.qwex` holds a directory `below`. Above `start` those of other
/// users are passed over.
///
/// # Errors
/// [`StoreError::Io`]: the path of `start` cannot be told.
pub fn nearest(start: &Path, below: &str) -> Result<Nearest, StoreError> {
    let start = std::path::absolute(start).map_err(|source| StoreError::io("find", start, source))?;
    let mut passed_over = None;
    let dir = start
        .ancestors()
        .filter(|dir| dir.join(".qwex").join(below).is_dir())
        .find(|dir| {
            let checked = if *dir == start { Ok(()) } else { check(dir) };
            checked.map_err(|error| passed_over.get_or_insert(error)).is_ok()
        })
        .map(Path::to_owned);
    Ok(Nearest { dir, passed_over })
}

fn names(safe: &OsStr, project: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut words = safe.as_bytes().split(|byte| *byte == b':');
    words.any(|word| {
        let word = OsStr::from_bytes(word);
        word == "*" || (!word.is_empty() && real(Path::new(word)) == real(project))
    })
}

/// Whether what a user owns in a project directory is looked at by this one: it is their own, or was said to be safe.
#[must_use]
pub fn is_trusted(owner: u32, project: &Path) -> bool {
    let safe = std::env::var_os(SAFE);
    let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let looker = Looker {
        uid: Uid::effective().as_raw(),
        sudo,
        safe: safe.as_deref(),
    };
    looker.trusts(owner, project)
}

/// Refuses the `.qwex` of a project directory that is somebody else's. `qwex` must not be a symlink.
///
/// # Errors
/// [`StoreError::Foreign`], [`StoreError::Io`].
pub(super) fn check(project: &Path) -> Result<(), StoreError> {
    let place = project.join(".qwex");
    let owner = std::fs::symlink_metadata(&place)
        .map_err(|source| StoreError::io("open", &place, source))?
        .uid();
    if is_trusted(owner, project) {
        return Ok(());
    }
    Err(StoreError::Foreign { path: place, owner })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(uid: u32, sudo: Option<u32>, safe: Option<&str>, owner: u32) -> bool {
        let safe = safe.map(OsStr::new);
        Looker { uid, sudo, safe }.trusts(owner, Path::new("/srv/project"))
    }

    #[test]
    fn only_ones_own_records_are_trusted() {
        assert!(trusts(1000, None, None, 1000));
        assert!(!trusts(1000, None, None, 1001));
        assert!(!trusts(1000, None, None, 0), "not even root's");
        assert!(!trusts(0, None, None, 1000), "root has the most to lose");
    }

    #[test]
    fn root_by_sudo_trusts_whoever_it_was() {
        assert!(trusts(0, Some(1000), None, 1000));
        assert!(!trusts(0, Some(1000), None, 1001));
        assert!(
            !trusts(1001, Some(1000), None, 1000),
            "the variable alone says nothing"
        );
    }

    #[test]
    fn a_directory_can_be_said_to_be_safe() {
        for safe in ["/srv/project", "/a:/srv/project", "*"] {
            assert!(trusts(1000, None, Some(safe), 1001), "{safe}");
        }
        for other in ["", ":", "/srv", "/srv/project/below", "/srv/projec"] {
            assert!(!trusts(1000, None, Some(other), 1001), "{other}");
        }
    }
}

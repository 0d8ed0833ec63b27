//! Which `qwex.yaml` is meant: the nearest, from a directory upwards. It says where runs go and with which variables, so one
//! that anybody may have put there is passed over: that of another user above, or in a directory that all may write.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use qwex_runner::store::is_trusted;

use super::FILE_NAME;

/// A file of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} belongs to another user (uid {owner}) and is passed over; if you trust whoever wrote it: QWEX_SAFE_DIRECTORY={}",
    path.display(),
    path.parent().unwrap_or(path).display()
)]
pub struct PassedOver {
    pub path: PathBuf,
    pub owner: u32,
}

/// What is found.
#[derive(Debug, Default)]
pub struct Located {
    pub path: Option<PathBuf>,
    /// The first that is nearer and was not looked at.
    pub passed_over: Option<PassedOver>,
}

/// The nearest file at a directory or above it.
#[must_use]
pub fn locate(from: &Path) -> Located {
    let mut located = Located::default();
    for dir in from.ancestors() {
        let path = dir.join(FILE_NAME);
        if !path.is_file() {
            continue;
        }
        match stranger(&path, dir, from) {
            Ok(None) => {
                located.path = Some(path);
                break;
            }
            Ok(Some(owner)) => {
                located.passed_over.get_or_insert(PassedOver { path, owner });
            }
            // Gone meanwhile.
            Err(_) => {}
        }
    }
    located
}

/// The user who may have put the file there for others to find; `None`: it may be meant.
fn stranger(path: &Path, dir: &Path, from: &Path) -> io::Result<Option<u32>> {
    const ALL_MAY_WRITE: u32 = 0o002;
    let here = fs::metadata(from)?;
    // Whoever goes into a directory means what its owner put there, and above it.
    let is_meant = |file: &Metadata| {
        let owner = file.uid();
        let is_own = owner == 0 || owner == here.uid() || is_trusted(owner, dir);
        is_own || (dir == from && here.mode() & ALL_MAY_WRITE == 0)
    };
    // A link may be a stranger's and lead to a file that is not.
    let both = [fs::symlink_metadata(path)?, fs::metadata(path)?];
    Ok(both.iter().find(|file| !is_meant(file)).map(Metadata::uid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown};

    use super::*;

    const STRANGER: u32 = 54_321;

    /// `all/mine/below`, of which all may write `all`.
    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let all = dir.path().join("all");
        let below = all.join("mine/below");
        fs::create_dir_all(&below).unwrap();
        fs::set_permissions(&all, fs::Permissions::from_mode(0o1777)).unwrap();
        (dir, all, below)
    }

    #[test]
    fn the_nearest_is_meant() {
        let (_dir, all, below) = tree();
        assert_eq!(locate(&below).path, None);
        for place in [&all, &all.join("mine")] {
            fs::write(place.join(FILE_NAME), "").unwrap();
            assert_eq!(locate(&below).path, Some(place.join(FILE_NAME)));
        }
        assert_eq!(locate(&below).passed_over, None);
    }

    #[test]
    fn what_a_stranger_put_above_or_where_all_may_write_is_passed_over() {
        if !nix::unistd::Uid::effective().is_root() {
            // Nobody else can give a file away.
            return;
        }
        let (_dir, all, below) = tree();
        let planted = all.join(FILE_NAME);
        fs::write(&planted, "").unwrap();
        lchown(&planted, Some(STRANGER), None).unwrap();
        for from in [&below, &all] {
            let located = locate(from);
            assert_eq!(located.path, None, "{}", from.display());
            let told = located.passed_over.unwrap().to_string();
            assert!(
                told.contains("uid 54321") && told.contains("QWEX_SAFE_DIRECTORY="),
                "{told}"
            );
        }
        // Through a link of theirs neither; and what one has oneself is found behind it.
        fs::remove_file(&planted).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &planted).unwrap();
        lchown(&planted, Some(STRANGER), None).unwrap();
        assert_eq!(locate(&below).path, None);
        // In their own directory it is they who are trusted.
        let theirs = all.join("theirs");
        fs::create_dir_all(theirs.join("below")).unwrap();
        fs::write(theirs.join(FILE_NAME), "").unwrap();
        for path in [&theirs, &theirs.join("below"), &theirs.join(FILE_NAME)] {
            lchown(path, Some(STRANGER), None).unwrap();
        }
        assert_eq!(locate(&theirs.join("below")).path, Some(theirs.join(FILE_NAME)));
        assert_eq!(locate(&theirs).path, Some(theirs.join(FILE_NAME)));
    }
}

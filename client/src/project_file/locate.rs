//! Which `qwex.yaml` is meant: the nearest, from a directory upwards. It says where runs go and with which variables, so one
//! of another user is passed over wherever it is, also in that user's own directory in which one works: as git does
//! with a repository (`safe.directory`).

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
        match stranger(&path, dir) {
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

/// The user whose file it is; `None`: it may be meant. That is one's own, root's, that of whoever became root by sudo, and
/// what is said to be safe.
fn stranger(path: &Path, dir: &Path) -> io::Result<Option<u32>> {
    let is_meant = |file: &Metadata| file.uid() == 0 || is_trusted(file.uid(), dir);
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

    /// The rule without the uid of whoever tests: nobody but root can give a file away.
    fn must_be_root() {
        let is_root = nix::unistd::Uid::effective().is_root();
        assert!(
            is_root,
            "this test gives files to another user, which only root can: run it as root"
        );
    }

    #[test]
    fn what_a_stranger_put_anywhere_is_passed_over() {
        must_be_root();
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
        fs::remove_file(&planted).unwrap();
        fs::write(&planted, "").unwrap();
        let theirs = below.join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join(FILE_NAME), "").unwrap();
        lchown(theirs.join(FILE_NAME), Some(STRANGER), None).unwrap();
        let located = locate(&theirs);
        assert_eq!(
            (located.path, located.passed_over.is_some()),
            (Some(planted), true)
        );
    }

    /// Who only looks around in it must not have its commands and variables.
    #[test]
    fn a_strangers_own_directory_says_nothing_either() {
        must_be_root();
        for mode in [0o755, 0o775, 0o777] {
            let (_dir, all, _) = tree();
            let theirs = all.join("theirs");
            fs::create_dir_all(theirs.join("below")).unwrap();
            fs::write(theirs.join(FILE_NAME), "").unwrap();
            for path in [&theirs, &theirs.join("below"), &theirs.join(FILE_NAME)] {
                lchown(path, Some(STRANGER), None).unwrap();
            }
            fs::set_permissions(&theirs, fs::Permissions::from_mode(mode)).unwrap();
            for from in [&theirs, &theirs.join("below")] {
                let located = locate(from);
                assert_eq!(located.path, None, "{mode:o} {}", from.display());
                assert_eq!(located.passed_over.unwrap().owner, STRANGER);
            }
        }
    }
}

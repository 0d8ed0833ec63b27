//! Whether a path lies below an allowed directory, with every link on the way followed.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Where a path of this machine really leads, also while its end is not there yet. `None`: that cannot be known, so
/// it must not be allowed.
#[must_use]
pub fn resolved(path: &Path) -> Option<PathBuf> {
    if !is_plain(path) {
        return None;
    }
    let mut at = path;
    let mut rest = Vec::new();
    loop {
        match at.canonicalize() {
            Ok(mut real) => {
                real.extend(rest.iter().rev());
                return Some(real);
            }
            // A link that leads nowhere yet may lead anywhere later.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !at.is_symlink() => {
                rest.push(at.file_name()?);
                at = at.parent()?;
            }
            Err(_) => return None,
        }
    }
}

/// Whether a path of this machine leads into one of the directories.
#[must_use]
pub fn is_below(path: &Path, dirs: &[String]) -> bool {
    let Some(real) = resolved(path) else { return false };
    let mut dirs = dirs.iter().filter_map(|dir| resolved(Path::new(dir)));
    dirs.any(|dir| real.starts_with(dir))
}

/// The same by the words alone: for a path of another machine.
#[must_use]
pub fn is_below_by_name(path: &Path, dirs: &[String]) -> bool {
    is_plain(path) && dirs.iter().any(|dir| path.starts_with(dir))
}

/// Absolute, and never up again.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// The directories that lie in both lists.
#[must_use]
pub fn common(one: &[String], other: &[String]) -> Vec<String> {
    let inside = |dir: &&String, list: &[String]| is_below_by_name(Path::new(dir), list);
    let first = one.iter().filter(|dir| inside(dir, other));
    let second = other.iter().filter(|dir| inside(dir, one));
    let mut all: Vec<String> = first.chain(second).cloned().collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_before_anything_is_compared() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("data/sub")).unwrap();
        std::fs::create_dir_all(at("other")).unwrap();
        symlink(at("other"), at("data/out")).unwrap();
        symlink(at("nowhere"), at("data/dangling")).unwrap();
        symlink(at("data"), at("alias")).unwrap();
        let allowed = [at("data").display().to_string()];
        let below = |path: PathBuf| is_below(&path, &allowed);
        assert!(below(at("data")) && below(at("data/sub")) && below(at("data/not/yet")));
        assert!(below(at("alias/sub")));
        assert!(
            !below(at("data/out")) && !below(at("data/out/x")),
            "a link out of it"
        );
        assert!(!below(at("data/dangling")), "a link that may lead anywhere later");
        assert!(!below(at("data/../other")) && !below(at("data/not/../../other")));
        assert!(!below(at("database")) && !below(PathBuf::from("data/sub")));
        // The allowed directory may itself be behind a link.
        assert!(is_below(&at("data/sub"), &[at("alias").display().to_string()]));
    }

    #[test]
    fn two_lists_have_in_common_what_is_inside_of_both() {
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            common(&words(&["/data", "/a"]), &words(&["/data/x", "/b"])),
            ["/data/x"]
        );
        assert_eq!(common(&words(&["/data"]), &words(&["/data"])), ["/data"]);
        assert!(common(&words(&["/data"]), &[]).is_empty());
        assert!(!is_below_by_name(Path::new("/data/../etc"), &words(&["/data"])));
    }
}

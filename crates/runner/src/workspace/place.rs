//! Which paths and links stay inside a workspace. Every other file here relies on these two rules.

use std::io;
use std::path::{Component, Path, PathBuf};

/// A path below a workspace as components: no root, no `..`; `.` is dropped.
///
/// # Errors
/// `InvalidData` with a sentence for people.
pub fn check_path(path: &Path) -> io::Result<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(outside(path, "leads out of the workspace"));
            }
        }
    }
    if inside.as_os_str().is_empty() {
        return Err(outside(path, "names no file"));
    }
    Ok(inside)
}

/// Whether a symlink at `path` (checked) may point to `target`: relative, `..` only at its beginning and
/// never above the workspace. Directories on the way are never links, and no link goes up behind a
/// name, so by induction no chain of such links leads out.
///
/// # Errors
/// `InvalidData` with a sentence for people.
pub fn check_link(path: &Path, target: &Path) -> io::Result<()> {
    let mut depth = path.components().count().saturating_sub(1);
    let mut descends = false;
    for part in target.components() {
        match part {
            Component::Normal(_) => descends = true,
            Component::CurDir => {}
            Component::ParentDir if descends => {
                return Err(outside(path, "is a link that goes up behind a name"));
            }
            Component::ParentDir => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| outside(path, "is a link out of the workspace"))?;
            }
            Component::RootDir | Component::Prefix(_) => {
                return Err(outside(path, "is a link to an absolute path"));
            }
        }
    }
    if target.as_os_str().is_empty() {
        return Err(outside(path, "is a link to nothing"));
    }
    Ok(())
}

pub(super) fn outside(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path:?} {why}"))
}

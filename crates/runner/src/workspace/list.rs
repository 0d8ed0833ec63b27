//! What of a workspace goes over to another machine.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use super::place::{check_link, check_path};
use super::{IGNORE_FILE, NEVER_SENT};
use crate::runner::Transfer;

/// One thing in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the workspace, without `.` and `..`.
    pub path: PathBuf,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File {
        size: u64,
        /// Nanoseconds since 1970.
        modified_ns: i128,
        executable: bool,
    },
    /// Stays inside the workspace, by [`check_link`].
    Symlink {
        target: PathBuf,
    },
}

/// What a walk found, sorted by path: directories come before what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// For a person to hear of: it lies in the workspace and does not go over.
    pub skipped: Vec<Skipped>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub path: PathBuf,
    pub why: String,
}

impl Listing {
    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |entry: &Entry| match entry.kind {
            Kind::File { size, .. } => size,
            Kind::Dir | Kind::Symlink { .. } => 0,
        };
        self.entries.iter().map(size).sum()
    }
}

/// What `send` means for the workspace in `dir`.
///
/// # Errors
/// As [`list_everything`] and [`list_only`].
pub fn list(dir: &Path, send: &Transfer) -> io::Result<Listing> {
    match send {
        Transfer::Nothing => Ok(Listing::default()),
        Transfer::Everything => list_everything(dir),
        Transfer::Only(paths) => list_only(dir, paths),
    }
}

/// The tree below `dir` without what `.gitignore` (of the tree, and of the repository it lies in) and
/// `.qwexignore` name, without `.git` and `.qwex`.
///
/// # Errors
/// The tree cannot be read.
pub fn list_everything(dir: &Path) -> io::Result<Listing> {
    // Outside of a repository the rules of directories above are none of ours: a home directory
    // that is ignored as a whole is common.
    let in_repository = dir.ancestors().any(|above| above.join(".git").exists());
    let mut walk = WalkBuilder::new(dir);
    walk.standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .parents(in_repository)
        .require_git(in_repository)
        .add_custom_ignore_filename(IGNORE_FILE);
    collect(dir, &mut walk)
}

/// The tree below `dir` with all it has, but for `.git` and `.qwex`.
pub(super) fn list_everything_unfiltered(dir: &Path) -> io::Result<Listing> {
    collect(dir, WalkBuilder::new(dir).standard_filters(false))
}

/// The named files, and directories with all that is in them; ignore rules do not apply to what
/// was named.
///
/// # Errors
/// A path is not there, or leads out of the workspace (also by a link in its middle).
pub fn list_only(dir: &Path, paths: &[PathBuf]) -> io::Result<Listing> {
    let mut all = BTreeMap::new();
    let mut skipped = Vec::new();
    for path in paths {
        let inside = match check_path(path) {
            Ok(inside) => inside,
            // The workspace itself.
            Err(_) if path.components().all(|part| part == std::path::Component::CurDir) => PathBuf::new(),
            Err(error) => return Err(error),
        };
        for above in ancestors(&inside) {
            let found = std::fs::symlink_metadata(dir.join(&above)).map_err(|error| named(&above, &error))?;
            if !found.is_dir() {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no directory");
                return Err(named(&above, &error));
            }
            all.insert(above, Kind::Dir);
        }
        let top = dir.join(&inside);
        std::fs::symlink_metadata(&top).map_err(|error| named(&inside, &error))?;
        let found = collect(dir, WalkBuilder::new(&top).standard_filters(false))?;
        all.extend(found.entries.into_iter().map(|entry| (entry.path, entry.kind)));
        skipped.extend(found.skipped);
    }
    let entries = all.into_iter().map(|(path, kind)| Entry { path, kind }).collect();
    Ok(Listing { entries, skipped })
}

/// The directories that hold `path`, from the top.
fn ancestors(path: &Path) -> Vec<PathBuf> {
    let mut above: Vec<PathBuf> = path
        .ancestors()
        .skip(1)
        .filter(|above| !above.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect();
    above.reverse();
    above
}

fn collect(dir: &Path, walk: &mut WalkBuilder) -> io::Result<Listing> {
    walk.follow_links(false).filter_entry(|entry| {
        entry.depth() == 0 || !NEVER_SENT.iter().any(|never| entry.file_name() == *never)
    });
    let mut listing = Listing::default();
    for entry in walk.build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_gone(&error) => continue,
            Err(error) => {
                let kind = error.io_error().map_or(io::ErrorKind::Other, io::Error::kind);
                return Err(io::Error::new(kind, error.to_string()));
            }
        };
        let path = entry.path().strip_prefix(dir).unwrap_or(entry.path()).to_owned();
        if path.as_os_str().is_empty() {
            continue;
        }
        let kind = match std::fs::symlink_metadata(entry.path()) {
            Ok(meta) => kind(entry.path(), &path, &meta),
            // It was removed while we walked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(named(&path, &error)),
        };
        match kind {
            Ok(kind) => listing.entries.push(Entry { path, kind }),
            Err(why) => listing.skipped.push(Skipped { path, why }),
        }
    }
    listing.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listing)
}

/// A directory of the tree was removed while we walked.
fn is_gone(error: &ignore::Error) -> bool {
    let below = error.depth().is_some_and(|depth| depth > 0);
    below
        && error
            .io_error()
            .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn kind(full: &Path, path: &Path, meta: &Metadata) -> Result<Kind, String> {
    let kind = meta.file_type();
    if kind.is_dir() {
        Ok(Kind::Dir)
    } else if kind.is_file() {
        Ok(Kind::File {
            size: meta.len(),
            modified_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            executable: meta.permissions().mode() & 0o100 != 0,
        })
    } else if kind.is_symlink() {
        let target = std::fs::read_link(full).map_err(|error| error.to_string())?;
        check_link(path, &target).map_err(|error| error.to_string())?;
        Ok(Kind::Symlink { target })
    } else {
        Err("it is neither file, directory nor symlink".to_owned())
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path:?} of the workspace: {error}"))
}

//! Which files are outputs: globs relative to a workspace.

use std::io;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::list::{Kind, list_everything_unfiltered};

/// A set of globs. `*` does not cross a `/`, `**` does; a glob that matches a directory takes all of it.
#[derive(Debug, Clone)]
pub struct Globs {
    /// `None`: everything.
    set: Option<GlobSet>,
}

/// A glob that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the output {glob:?} is no usable glob: {why}; write a path relative to the workspace, such as `out/*.json`"
)]
pub struct BadGlob {
    pub glob: String,
    pub why: String,
}

impl Globs {
    /// # Errors
    /// A glob is not well formed, absolute or leads out of the workspace.
    pub fn new<S: AsRef<str>>(globs: &[S]) -> Result<Self, BadGlob> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            add(&mut set, glob.as_ref()).map_err(|why| BadGlob {
                glob: glob.as_ref().to_owned(),
                why,
            })?;
        }
        let set = set.build().map_err(|error| BadGlob {
            glob: String::new(),
            why: error.to_string(),
        })?;
        Ok(Self { set: Some(set) })
    }

    #[must_use]
    pub fn everything() -> Self {
        Self { set: None }
    }

    /// Whether the path of a file, relative to the workspace, is meant.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.set.as_ref().is_none_or(|set| set.is_match(path))
    }
}

fn add(set: &mut GlobSetBuilder, glob: &str) -> Result<(), String> {
    let glob = glob.strip_prefix("./").unwrap_or(glob).trim_end_matches('/');
    if glob.is_empty() {
        return Err("it is empty".to_owned());
    }
    if glob.starts_with('/') {
        return Err("it is absolute".to_owned());
    }
    if glob.split('/').any(|part| part == "..") {
        return Err("it holds `..`".to_owned());
    }
    for pattern in [glob.to_owned(), format!("{glob}/**")] {
        let built = GlobBuilder::new(&pattern)
            .literal_separator(true)
            .build()
            .map_err(|error| error.kind().to_string())?;
        set.add(built);
    }
    Ok(())
}

/// The files and links below `dir` that the globs mean, relative to it and sorted; `.git` and `.qwex` are
/// never among them.
///
/// # Errors
/// A directory cannot be read.
pub fn find(dir: &Path, globs: &Globs) -> io::Result<Vec<PathBuf>> {
    let all = list_everything_unfiltered(dir)?;
    let files = all.entries.into_iter().filter(|entry| match entry.kind {
        Kind::File { .. } | Kind::Symlink { .. } => globs.matches(&entry.path),
        Kind::Dir => false,
    });
    Ok(files.map(|entry| entry.path).collect())
}

//! The files of the repository, read without git so that an exported tree can be checked too.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Hidden directories that belong to the tree; every other one is somebody's tool.
const OWN_HIDDEN: &[&str] = &[".ci", ".cargo"];
/// Directories that hold what was built, never what was written.
const BUILT: &[&str] = &["target", "node_modules", "dist"];

/// A text file of the repository.
pub struct Source {
    /// Path from the root, with forward slashes.
    pub path: String,
    pub text: String,
}

impl Source {
    #[cfg(test)]
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The ending after the last dot, or the file's name when it has none.
    pub fn kind(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.rsplit_once('.').map_or(name, |(_, ending)| ending)
    }
}

/// The root of the repository: xtask is its direct child.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the manifest of xtask lies one directory below the root")
        .to_owned()
}

/// Every file below `root` whose kind is asked for, sorted by path.
pub fn sources(root: &Path, kinds: &[&str]) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    walk(root, root, kinds, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(root: &Path, dir: &Path, kinds: &[&str], found: &mut Vec<Source>) -> Result<()> {
    for entry in dir
        .read_dir()
        .with_context(|| format!("failed to list {}", dir.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let hidden = name.starts_with('.') && !OWN_HIDDEN.contains(&name.as_str());
            if !hidden && !BUILT.contains(&name.as_str()) {
                walk(root, &path, kinds, found)?;
            }
        } else if kind.is_file() {
            let below = path.strip_prefix(root).expect("the walk starts at the root");
            let mut source = Source {
                path: below.to_string_lossy().replace('\\', "/"),
                text: String::new(),
            };
            if kinds.contains(&source.kind()) {
                let bytes =
                    std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
                source.text = String::from_utf8_lossy(&bytes).into_owned();
                found.push(source);
            }
        }
    }
    Ok(())
}

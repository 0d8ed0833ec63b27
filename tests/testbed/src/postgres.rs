//! Private Postgres servers for tests.

use std::path::PathBuf;

use crate::process::find;

/// Directory that holds `postgres` and `initdb`: PATH first, then Debian's versioned places, newest first.
pub fn binaries() -> Option<PathBuf> {
    let in_path = find("initdb").and_then(|file| Some(file.parent()?.to_owned()));
    in_path.or_else(|| {
        let entries = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let version = |dir: &PathBuf| dir.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = entries
            .flatten()
            .map(|entry| entry.path())
            .max_by_key(version)?
            .join("bin");
        newest.join("initdb").exists().then_some(newest)
    })
}

//! `cargo xtask check-deps`: who may know whom. The table is in `rules`; `crates` reads the edges
//! from `cargo metadata`, `rooms` reads the paths that the sources of server and client name.

mod crates;
mod paths;
mod rooms;
mod rules;

use std::path::Path;

use anyhow::Result;

use crate::report::Breach;
use crate::tree;

/// Checks every arrow of the repository.
pub fn check(root: &Path) -> Result<Vec<Breach>> {
    let mut breaches = crates::check(&crates::read(root)?, root);
    for source in tree::sources(root, &["rs"])? {
        breaches.extend(rooms::check(&source)?);
    }
    breaches.sort();
    Ok(breaches)
}

//! `cargo xtask tidy`: lengths, words, and what must not be written anywhere. Each check is a pure
//! function over one source.

mod length;
mod notes;
mod rust;
mod sql;
mod words;

use std::path::Path;

use anyhow::Result;

use crate::report::Breach;
use crate::tree::{self, Source};

/// Kinds of files that people write here.
const KINDS: &[&str] = &[
    "rs",
    "go",
    "sql",
    "sh",
    "md",
    "toml",
    "yml",
    "yaml",
    "py",
    "env",
    "run",
    "Makefile",
    "Dockerfile",
];

/// Checks every file of the repository.
pub fn check(root: &Path) -> Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for source in tree::sources(root, KINDS)? {
        breaches.extend(check_source(&source)?);
        breaches.extend(notes::root_named(&source, root));
    }
    breaches.sort();
    Ok(breaches)
}

fn check_source(source: &Source) -> Result<Vec<Breach>> {
    let mut breaches: Vec<Breach> = length::check(source).into_iter().collect();
    breaches.extend(notes::check(source));
    breaches.extend(words::check(source));
    match source.kind() {
        "rs" => breaches.extend(rust::check(source)?),
        "sql" => breaches.extend(sql::check(source)),
        _ => {}
    }
    Ok(breaches)
}

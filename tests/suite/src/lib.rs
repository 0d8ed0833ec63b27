//! What the cross-binary tests share: the real server over a real Postgres, an API client that shows every
//! byte, and the laws that are checked after each test.
//!
//! Used by the tests in `tests/`. Simulates nothing.

pub mod api;
pub mod laws;
pub mod server;

pub use api::{Api, Reply};
pub use server::{Server, ServerSetup};

use std::path::PathBuf;

use anyhow::{Context, Result};

/// A binary of this workspace, built beside the running test.
///
/// # Errors
/// It is not there: build it with `cargo build --bins`.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("the test knows no path of its own")?;
    let dir = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("the test lies in no target directory")?;
    let path = dir.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `cargo build --bins` first",
        path.display()
    );
    Ok(path)
}

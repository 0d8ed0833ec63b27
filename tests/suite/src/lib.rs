//! What the cross-binary tests share: the real server over a real Postgres, an API client that shows every
//! byte, and the laws that are checked after each test.
//!
//! Used by the tests in `tests/`. Simulates nothing.

pub mod api;
pub mod laws;
pub mod person;
pub mod server;

pub use api::{Api, Reply};
pub use person::person;
pub use server::{Server, ServerSetup};

use std::path::PathBuf;

use anyhow::{Context, Result};

/// A binary of this workspace, built beside the running test or program.
///
/// # Errors
/// It is not there: build it with `cargo build --bins`.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("the test knows no path of its own")?;
    let own = test.parent().context("the test lies in no directory")?;
    // Tests lie in `deps`, one below the binaries.
    let dir = if own.ends_with("deps") {
        own.parent().context("the test lies in no target directory")?
    } else {
        own
    };
    let path = dir.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `cargo build --bins` first",
        path.display()
    );
    Ok(path)
}

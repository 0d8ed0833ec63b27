//! `cargo xtask openapi`: openapi/qwex.json is what the server says it is, and never takes back what
//! a client may lean on. `breaking` compares two documents; this file finds them.

mod breaking;
mod schema;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::report::Breach;

const DOCUMENT: &str = "openapi/qwex.json";
/// Breaking changes that were decided on, one sentence a line as it was printed; `#` begins a comment.
const ACCEPTED: &str = "openapi/accepted-breaks.txt";

#[derive(clap::Args)]
pub struct Options {
    /// Write nothing; fail when the committed document differs from the server's.
    #[arg(long)]
    check: bool,
    /// The document to compare with for breaking changes [default: the last release, else where
    /// this branch left main]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
}

pub fn run(root: &Path, options: &Options) -> Result<Vec<Breach>> {
    let now = from_server(root)?;
    let text = format!("{now:#}\n");
    let path = root.join(DOCUMENT);
    let mut breaches = Vec::new();
    if !options.check {
        std::fs::create_dir_all(path.parent().expect("the document lies in a directory"))?;
        std::fs::write(&path, &text).with_context(|| format!("failed to write {DOCUMENT}"))?;
    } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
        let sentence = "is not what the server serves: run `cargo xtask openapi` and commit it";
        breaches.push(Breach::new(DOCUMENT, 0, sentence));
    }
    if let Some(before) = base(root, options)? {
        let accepted = std::fs::read_to_string(root.join(ACCEPTED)).unwrap_or_default();
        let broken = breaking::changes(&before, &now)
            .into_iter()
            .filter(|s| !accepted.lines().any(|line| line == s));
        breaches
            .extend(broken.map(|sentence| Breach::new(DOCUMENT, 0, format!("breaks clients: {sentence}"))));
    }
    Ok(breaches)
}

/// The document as the server prints it, keys sorted by serde_json's map. The server is built with the
/// selection of packages that tests and lints use: another one would build its libraries once more.
fn from_server(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--workspace", "--all-targets"])
        .current_dir(root)
        .status()
        .context("failed to start cargo build")?;
    ensure!(built.success(), "the server does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let server = root.join(target).join("debug/qwexcloud");
    let out = Command::new(&server)
        .arg("openapi")
        .output()
        .with_context(|| format!("failed to start {}", server.display()))?;
    ensure!(
        out.status.success(),
        "`qwexcloud openapi` failed: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).context("failed to read what `qwexcloud openapi` printed")
}

/// The document others may already lean on, if there is one.
fn base(root: &Path, options: &Options) -> Result<Option<Value>> {
    let text = match &options.base {
        Some(file) => Some(
            std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?,
        ),
        None => base_commit(root).and_then(|commit| git(root, &["show", &format!("{commit}:{DOCUMENT}")])),
    };
    match text {
        Some(text) => Ok(Some(
            serde_json::from_str(&text).context("failed to read the base document")?,
        )),
        None => {
            eprintln!("openapi: no earlier document to compare with, so none can be broken");
            Ok(None)
        }
    }
}

fn base_commit(root: &Path) -> Option<String> {
    let trimmed = |args: &[&str]| git(root, args).map(|out| out.trim().to_owned());
    trimmed(&["describe", "--tags", "--match", "v*", "--abbrev=0"])
        .or_else(|| trimmed(&["merge-base", "HEAD", "origin/main"]))
        .or_else(|| trimmed(&["merge-base", "HEAD", "main"]))
        .or_else(|| trimmed(&["rev-parse", "HEAD"]))
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).current_dir(root).output().ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

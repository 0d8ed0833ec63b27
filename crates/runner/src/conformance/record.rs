//! What each backend answered to each law: one file per backend in `docs/conformance/`, a line per law, written by the
//! suites themselves with `QWEX_CONFORMANCE=record` (`make conformance`). Without it every suite compares: a law that is
//! answered in another way than the record says fails, so that neither can drift from the other.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;
use std::str::FromStr;

use super::CASES;

/// The columns of the table: the key that a suite names, which is the name of its file too, and the head.
pub const COLUMNS: &[(&str, &str)] = &[
    ("local", "local"),
    ("embedded", "embedded"),
    ("docker", "docker"),
    ("podman", "podman"),
    ("ssh", "ssh"),
    ("ssh-script", "ssh (script)"),
    ("k8s", "k8s"),
    ("kueue", "kueue"),
    ("remote", "remote"),
];

/// How a backend stands to a law.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// As everywhere.
    Kept,
    /// Kept, but not to the letter; says how.
    Otherwise(String),
    /// Refused before the submit; names the capability that is lacking.
    Refused(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("yes"),
            Self::Otherwise(how) => write!(f, "otherwise: {how}"),
            Self::Refused(what) => write!(f, "refused: {what}"),
        }
    }
}

impl FromStr for Answer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(": ") {
            None if text == "yes" => Ok(Self::Kept),
            Some(("otherwise", how)) => Ok(Self::Otherwise(how.to_owned())),
            Some(("refused", what)) => Ok(Self::Refused(what.to_owned())),
            Some(_) | None => Err(format!("{text:?} is no answer to a law")),
        }
    }
}

/// Holds what was found against the record; writes it there when that was asked for.
///
/// # Errors
/// The law that was broken, or how the answer differs from the one on record.
pub fn hold(column: &str, case: &str, found: Result<Answer, String>) -> Result<(), String> {
    if !COLUMNS.iter().any(|(key, _)| *key == column) {
        return Err(format!(
            "{column:?} is no column of the table; add it to `COLUMNS`"
        ));
    }
    let path = path(column);
    let told = |error: io::Error| format!("{}: {error}", path.display());
    if is_recording() {
        write(column, case, found.as_ref().ok()).map_err(told)?;
        return found.map(drop);
    }
    let found = found?;
    let text = std::fs::read_to_string(&path).map_err(told)?;
    match answer_in(&text, case) {
        Some(known) if known == found.to_string() => Ok(()),
        known => Err(format!(
            "{case} on {column}: on record is {}, found was {:?}; if that is meant, `make conformance` writes it anew",
            known.map_or_else(|| "nothing".to_owned(), |known| format!("{known:?}")),
            found.to_string()
        )),
    }
}

/// Whether the suites write what they find instead of comparing it.
#[must_use]
pub fn is_recording() -> bool {
    std::env::var_os("QWEX_CONFORMANCE").is_some_and(|word| word == "record")
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The file of a column.
#[must_use]
pub fn path(column: &str) -> PathBuf {
    root().join("docs/conformance").join(format!("{column}.txt"))
}

/// `module::case = answer`.
fn answer_in<'a>(text: &'a str, case: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(case)?.strip_prefix(" = "))
}

/// Tests of one suite run side by side, and suites may too: each changes its own line under a lock. A law that was
/// broken has no line.
fn write(column: &str, case: &str, answer: Option<&Answer>) -> io::Result<()> {
    let path = path(column);
    std::fs::create_dir_all(path.parent().expect("a record lies in a directory"))?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.lock()?;
    let mut known = String::new();
    file.read_to_string(&mut known)?;
    let lines: String = CASES
        .iter()
        .filter_map(|law| {
            let answer = if law.name == case {
                answer.map(ToString::to_string)
            } else {
                answer_in(&known, law.name).map(str::to_owned)
            };
            answer.map(|answer| format!("{} = {answer}\n", law.name))
        })
        .collect();
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(lines.as_bytes())
}

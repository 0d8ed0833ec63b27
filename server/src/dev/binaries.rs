//! Finds the programs of an installed Postgres.

use std::path::{Path, PathBuf};

/// Where distributions put the programs of each major version, beside PATH.
const VERSIONED: &[&str] = &[
    "/usr/lib/postgresql",
    "/usr/local/lib/postgresql",
    "/opt/homebrew/opt",
    "/usr/local/opt",
];

/// A directory with `initdb` and `postgres` of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub dir: PathBuf,
    pub major: u32,
}

impl Binaries {
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Every Postgres of this machine, those in PATH first, then the newest first.
#[must_use]
pub fn installed() -> Vec<Binaries> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).filter_map(|dir| complete(&dir));
    let mut versioned: Vec<Binaries> = VERSIONED.iter().flat_map(|base| below(Path::new(base))).collect();
    versioned.sort_by_key(|found| std::cmp::Reverse(found.major));
    let mut all: Vec<Binaries> = in_path.chain(versioned).collect();
    all.dedup();
    all
}

/// The one that can open a data directory of `major`; for a new directory the first.
#[must_use]
pub fn choose(installed: &[Binaries], major: Option<u32>) -> Option<&Binaries> {
    installed
        .iter()
        .find(|found| major.is_none_or(|major| major == found.major))
}

fn below(base: &Path) -> Vec<Binaries> {
    let Ok(entries) = std::fs::read_dir(base) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| complete(&entry.path().join("bin")))
        .collect()
}

fn complete(dir: &Path) -> Option<Binaries> {
    if !dir.join("initdb").is_file() || !dir.join("postgres").is_file() {
        return None;
    }
    // Debian's wrappers in /usr/bin are links into the versioned directory; initdb needs its own one.
    let dir = dir.join("postgres").canonicalize().ok()?.parent()?.to_owned();
    let major = version(&dir.join("postgres"))?;
    Some(Binaries { dir, major })
}

/// Asks a program; prints like `postgres (PostgreSQL) 15.14 (Debian …)`.
fn version(program: &Path) -> Option<u32> {
    let said = std::process::Command::new(program)
        .arg("--version")
        .output()
        .ok()?;
    major_of(&String::from_utf8_lossy(&said.stdout))
}

fn major_of(text: &str) -> Option<u32> {
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("nonsense", None),
        ] {
            assert_eq!(major_of(text), major, "{text}");
        }
    }

    #[test]
    fn a_data_directory_is_opened_by_its_own_version() {
        let of = |major| Binaries {
            dir: format!("/pg/{major}").into(),
            major,
        };
        let all = [of(17), of(15)];
        assert_eq!(choose(&all, None), Some(&all[0]));
        assert_eq!(choose(&all, Some(15)), Some(&all[1]));
        assert_eq!(choose(&all, Some(14)), None);
    }
}

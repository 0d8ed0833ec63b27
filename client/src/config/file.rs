//! `config.yaml`: what holds for all runs of a person or of a machine. There are two of them: the system's, which
//! nothing but its path names, so that no variable leads around it, and the user's beside the context file.
//! Read by whoever starts runs and by `doctor`, never by commands that only look at runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::contexts;
use super::hosts::SshSection;
use crate::error::{CliError, Exit};
use crate::policy::PolicySection;
use crate::project_file::{Complaint, FileKind, Forms, Source, parse_strictly, refused_as};

pub const FILE_NAME: &str = "config.yaml";
/// The file of whoever keeps the machine.
pub const SYSTEM: &str = "/etc/qwex/config.yaml";
/// A larger file is none of ours.
const MOST_BYTES: u64 = 1 << 20;

const KIND: FileKind = FileKind {
    noun: "configuration file",
    help: "`qwexctl help policy` and `qwexctl help ssh` show its fields",
    code: "config_file",
};

/// How the fields are written whose form people most often miss.
const FORMS: Forms = &[
    ("policy", "{ backends: [local, docker] }"),
    ("backends", "[local, docker]"),
    ("images", "['python:*', 'ghcr.io/team/**']"),
    ("mounts", "{ kinds: [bind], paths: [/data] }"),
    ("kinds", "[bind, volume]"),
    ("paths", "[/data, /scratch]"),
    ("workspaces", "[/home]"),
    ("networks", "[none, bridge]"),
    ("service_accounts", "[training]"),
    ("resources", "{ cpu: 8, memory: 32Gi }"),
    ("content", "{ rules: [{ name: x, pattern: 'y' }] }"),
    ("off", "[world-writable]"),
    ("rules", "- { name: x, pattern: 'y', action: deny }"),
    ("ssh", "{ hosts: { build1: {} } }"),
    ("hosts", "{ build1: { address: me@build1.example.org } }"),
    ("jump", "[bastion]"),
];

/// The fields of the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    pub policy: Option<PolicySection>,
    pub ssh: Option<SshSection>,
}

/// Whose file it is. What the system's says, the user's can only narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    System,
    User,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct ReadFile {
    pub owner: Owner,
    /// How people know it.
    pub path: String,
    pub text: String,
    pub file: ConfigFile,
}

impl ReadFile {
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        Source {
            path: &self.path,
            text: &self.text,
        }
    }

    /// The error that the file cannot be used.
    #[must_use]
    pub fn refused(&self, complaints: &[Complaint]) -> CliError {
        refused(self.owner, self.source(), complaints)
    }
}

/// Where the user's file is; `None` without a home.
#[must_use]
pub fn path_of_user(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    Some(contexts::path(env)?.with_file_name(FILE_NAME))
}

/// Both files, the system's first; those that are there.
///
/// # Errors
/// One is there and cannot be read or understood. Nothing may be started then.
pub fn read_files(env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<ReadFile>, CliError> {
    read_files_at(Path::new(SYSTEM), path_of_user(env).as_deref())
}

/// The same, with the system's file elsewhere: for tests. No flag and no variable leads here.
///
/// # Errors
/// As [`read_files`].
pub fn read_files_at(system: &Path, user: Option<&Path>) -> Result<Vec<ReadFile>, CliError> {
    let mut files = Vec::new();
    files.extend(read(Owner::System, system)?);
    if let Some(user) = user {
        files.extend(read(Owner::User, user)?);
    }
    Ok(files)
}

fn read(owner: Owner, path: &Path) -> Result<Option<ReadFile>, CliError> {
    let text = match text(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(error) => return Err(unreadable(owner, path, &error)),
    };
    let shown = path.display().to_string();
    let source = Source {
        path: &shown,
        text: &text,
    };
    match parse_strictly(&text, FORMS) {
        Ok(file) => Ok(Some(ReadFile {
            owner,
            path: shown,
            text,
            file,
        })),
        Err(complaint) => Err(refused(owner, source, &[*complaint])),
    }
}

/// `None`: nothing is there. A link that leads nowhere is something.
fn text(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if meta.len() > MOST_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    fs::read_to_string(path).map(Some)
}

fn keeper(owner: Owner) -> &'static str {
    match owner {
        Owner::System => "until it is mended, nothing can be started here: ask whoever keeps this machine",
        Owner::User => "until it is mended or moved away, nothing can be started with it",
    }
}

fn refused(owner: Owner, source: Source<'_>, complaints: &[Complaint]) -> CliError {
    refused_as(KIND, source, complaints).fix(keeper(owner))
}

fn unreadable(owner: Owner, path: &Path, error: &io::Error) -> CliError {
    CliError::new(
        Exit::Failure,
        format!("the configuration file {} cannot be read", path.display()),
    )
    .why(error.to_string())
    .fix("see that you may read it, and that it is UTF-8")
    .fix(keeper(owner))
    .code("config_file")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Both files with these texts, as `system.yaml` and `user.yaml`.
    pub fn files_of(system: &str, user: &str) -> Result<Vec<ReadFile>, CliError> {
        let dir = tempfile::tempdir().unwrap();
        let [system, user] = [("system.yaml", system), ("user.yaml", user)].map(|(name, text)| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        });
        read_files_at(&system, Some(&user))
    }

    fn told(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, text).unwrap();
        let error = read_files_at(&dir.path().join("none"), Some(&path)).unwrap_err();
        error.text().replace(&dir.path().display().to_string(), "")
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing_and_an_empty_one_too() {
        let dir = tempfile::tempdir().unwrap();
        let (none, empty) = (dir.path().join("none"), dir.path().join("empty"));
        fs::write(&empty, "# nothing yet\n").unwrap();
        assert!(read_files_at(&none, None).unwrap().is_empty());
        let read = read_files_at(&empty, Some(&none)).unwrap();
        assert_eq!(read.len(), 1);
        assert!(read[0].owner == Owner::System && read[0].file.policy.is_none());
    }

    #[test]
    fn what_is_there_and_cannot_be_read_is_never_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let bytes = dir.path().join("bytes");
        fs::write(&bytes, b"policy: \xff").unwrap();
        let below_a_file = bytes.join(FILE_NAME);
        let large = dir.path().join("large");
        fs::write(&large, vec![b'#'; (MOST_BYTES + 1) as usize]).unwrap();
        for path in [&link, &bytes, &below_a_file, &large, &dir.path().to_owned()] {
            let error = read_files_at(path, None).unwrap_err();
            assert_eq!(error.code, Some("config_file"), "{}", path.display());
            let text = error.text();
            assert!(text.contains("nothing can be started here"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_place() {
        for (text, parts) in [
            ("polcy: {}\n", &["config.yaml:1:1", "did you mean `policy`?"][..]),
            (
                "policy:\n  imges: [a]\n",
                &["config.yaml:2:3", "did you mean `images`?"],
            ),
            ("policy:\n  backends: local\n", &[":2:", "write it like [local]"]),
            ("policy: [x]\n", &["write it like { backends: [local, docker] }"]),
            ("policy:\n  timeout: soon\n", &[":2:", "90s"]),
            (
                "policy:\n  content:\n    rules: [{ name: a, pattern: b, action: forbid }]\n",
                &["`forbid` is none of warn, deny"],
            ),
            (
                "ssh:\n  hosts:\n    a: { adress: b }\n",
                &[":3:", "did you mean `address`?"],
            ),
            (
                "ssh:\n  hosts:\n    a: { program: scrpt }\n",
                &["did you mean `script`?"],
            ),
            ("server: http://x\n", &["there is no field `server` here"]),
        ] {
            let told = told(text);
            for part in parts {
                assert!(told.contains(part), "{text}\n{part}\n{told}");
            }
            assert!(told.contains("qwexctl help policy"), "{told}");
        }
    }
}

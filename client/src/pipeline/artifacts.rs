//! The files that a stage makes: into the store after its end, and back into the project's directory when a later
//! stage, or a stage that is reused, needs them there.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use qwex_runner::workspace::{Globs, check_link, check_path, find};
use serde::{Deserialize, Serialize};

use super::error::PipelineError;
use super::objects::{Objects, sha256};

type Result<T> = std::result::Result<T, PipelineError>;

/// A file of a stage's outputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative to the project's directory.
    pub path: String,
    /// Of its bytes; `None`: it is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Takes in the files that globs mean. Each glob must mean one at least.
///
/// # Errors
/// [`PipelineError::Refused`] for a glob that means none; a file cannot be read or stored.
pub fn collect(project: &Path, globs: &[String], objects: &Objects) -> Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    for glob in globs {
        let paths = paths(project, std::slice::from_ref(glob))?;
        if paths.is_empty() {
            return Err(PipelineError::Refused {
                message: format!("it made no file for its output {glob}"),
            });
        }
        for path in paths {
            artifacts.push(take(project, &path, objects)?);
        }
    }
    artifacts.sort();
    artifacts.dedup_by(|one, other| one.path == other.path);
    Ok(artifacts)
}

/// The files that globs mean, as text.
///
/// # Errors
/// The directory cannot be read, a name is no text.
pub fn paths(project: &Path, globs: &[String]) -> Result<Vec<String>> {
    let globs = Globs::new(globs).map_err(|error| PipelineError::Refused {
        message: error.to_string(),
    })?;
    let found = find(project, &globs).map_err(|source| PipelineError::io("read", project, source))?;
    found.into_iter().map(|path| text_of(&path)).collect()
}

pub fn text_of(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| PipelineError::Refused {
            message: format!("the name of the file {} is no UTF-8", path.display()),
        })
}

fn take(project: &Path, path: &str, objects: &Objects) -> Result<Artifact> {
    let full = project.join(path);
    let broken = |source| PipelineError::io("store", &full, source);
    let meta = fs::symlink_metadata(&full).map_err(broken)?;
    let mut artifact = Artifact {
        path: path.to_owned(),
        sha256: None,
        size: 0,
        executable: false,
        link: None,
    };
    if meta.is_symlink() {
        artifact.link = Some(text_of(&fs::read_link(&full).map_err(broken)?)?);
    } else {
        let (hash, size) = objects.take(&full)?;
        artifact.sha256 = Some(hash);
        artifact.size = size;
        artifact.executable = meta.permissions().mode() & 0o100 != 0;
    }
    Ok(artifact)
}

/// Whether every one could be put back.
#[must_use]
pub fn can_restore(artifacts: &[Artifact], objects: &Objects) -> bool {
    artifacts.iter().all(|artifact| match &artifact.sha256 {
        Some(hash) => objects.has(hash),
        None => artifact.link.is_some(),
    })
}

/// Puts back what is missing or changed; gives how many.
///
/// # Errors
/// A file cannot be written, or its stored bytes are spoilt.
pub fn restore<'a>(
    project: &Path,
    artifacts: impl IntoIterator<Item = &'a Artifact>,
    objects: &Objects,
) -> Result<usize> {
    let mut count = 0;
    for artifact in artifacts {
        if !is_there(project, artifact) {
            put_back(project, artifact, objects)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Whether the file is as it was made.
fn is_there(project: &Path, artifact: &Artifact) -> bool {
    let full = project.join(&artifact.path);
    let Ok(meta) = fs::symlink_metadata(&full) else {
        return false;
    };
    match (&artifact.sha256, &artifact.link) {
        (Some(hash), _) => {
            let same = meta.is_file()
                && meta.len() == artifact.size
                && (meta.permissions().mode() & 0o100 != 0) == artifact.executable;
            same && fs::File::open(&full)
                .and_then(|mut file| sha256(&mut file))
                .is_ok_and(|found| found == *hash)
        }
        (None, Some(link)) => fs::read_link(&full).is_ok_and(|found| found == Path::new(link)),
        (None, None) => false,
    }
}

fn put_back(project: &Path, artifact: &Artifact, objects: &Objects) -> Result<()> {
    let path = Path::new(&artifact.path);
    let broken = |source| PipelineError::io("restore", path, source);
    let inside = check_path(path).map_err(broken)?;
    let full = directories(project, &inside).map_err(broken)?;
    match (&artifact.sha256, &artifact.link) {
        (Some(hash), _) => objects.give(hash, &full, artifact.executable),
        (None, Some(link)) => {
            check_link(&inside, Path::new(link)).map_err(broken)?;
            match fs::remove_file(&full) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken(error)),
                Ok(()) | Err(_) => {}
            }
            symlink(link, &full).map_err(broken)
        }
        (None, None) => Ok(()),
    }
}

/// Makes the directories above a file. None of them may be a link: it could lead out.
fn directories(project: &Path, inside: &Path) -> io::Result<PathBuf> {
    let mut at = project.to_owned();
    for part in inside.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                let message = format!("{} is in the way: it is no directory", at.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(&at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            },
            Err(error) => return Err(error),
        }
    }
    Ok(project.join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> (tempfile::TempDir, Objects) {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("out/deep")).unwrap();
        fs::write(dir.path().join("out/a.txt"), "a").unwrap();
        fs::write(dir.path().join("out/deep/b.txt"), "b").unwrap();
        symlink("a.txt", dir.path().join("out/link")).unwrap();
        (dir, objects)
    }

    #[test]
    fn what_is_missing_or_changed_comes_back() {
        let (dir, objects) = project();
        let made = collect(dir.path(), &["out".to_owned()], &objects).unwrap();
        let names: Vec<&str> = made.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(names, ["out/a.txt", "out/deep/b.txt", "out/link"]);
        assert_eq!(restore(dir.path(), &made, &objects).unwrap(), 0);
        fs::write(dir.path().join("out/a.txt"), "changed").unwrap();
        fs::remove_dir_all(dir.path().join("out/deep")).unwrap();
        fs::remove_file(dir.path().join("out/link")).unwrap();
        assert_eq!(restore(dir.path(), &made, &objects).unwrap(), 3);
        assert_eq!(fs::read_to_string(dir.path().join("out/link")).unwrap(), "a");
        assert_eq!(
            fs::read_to_string(dir.path().join("out/deep/b.txt")).unwrap(),
            "b"
        );
    }

    #[test]
    fn a_glob_that_means_nothing_is_told() {
        let (dir, objects) = project();
        let told = collect(dir.path(), &["out/*.json".to_owned()], &objects)
            .unwrap_err()
            .to_string();
        assert_eq!(told, "it made no file for its output out/*.json");
    }

    #[test]
    fn g10_nothing_is_written_outside() {
        let (dir, objects) = project();
        let outside = tempfile::tempdir().unwrap();
        let mut artifact = collect(dir.path(), &["out/a.txt".to_owned()], &objects)
            .unwrap()
            .remove(0);
        symlink(outside.path(), dir.path().join("way")).unwrap();
        for path in ["../a.txt", "/tmp/a.txt", "way/a.txt", "out/../../a.txt"] {
            artifact.path = path.to_owned();
            assert!(restore(dir.path(), [&artifact], &objects).is_err(), "{path}");
        }
        let link = Artifact {
            path: "out/x".into(),
            sha256: None,
            size: 0,
            executable: false,
            link: Some("/etc/passwd".into()),
        };
        assert!(restore(dir.path(), [&link], &objects).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

//! The files that a stage makes: into the store after its end, and back into the project's directory when a later
//! stage, or a stage that is reused, needs them there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use qwex_runner::workspace::{Globs, check_link, check_path, find};
use serde::{Deserialize, Serialize};

use super::error::PipelineError;
use super::objects::{Objects, sha256};

type Result<T> = std::result::Result<T, PipelineError>;

/// Around the numbers in the name of a file that is written beside its place.
pub const TEMP_HEAD: &str = ".qwex-";
pub const TEMP_TAIL: &str = ".tmp";

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

/// A moment by the clock of the files: seconds and nanoseconds since 1970. Of a file its last change of whatever kind
/// (ctime): its time of writing (mtime) can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub i64, pub i64);

impl From<&fs::Metadata> for Moment {
    fn from(meta: &fs::Metadata) -> Self {
        Self(meta.ctime(), meta.ctime_nsec())
    }
}

/// Files that came from where a run worked.
#[derive(Debug, Clone)]
pub struct Brought {
    pub paths: BTreeSet<PathBuf>,
    /// When the last of them was there.
    pub at: Moment,
}

/// How the files of a stage are told from all others that its globs mean.
#[derive(Debug)]
pub enum Claim<'a> {
    /// Those that came from where it worked.
    Brought(&'a Brought),
    /// It worked in the project's directory: those that were changed since it was launched, and those that it found and
    /// left as they were, unless other stages made them.
    Left {
        since: Option<Moment>,
        of_others: BTreeSet<&'a str>,
    },
}

/// What a stage made.
#[derive(Debug)]
pub struct Made {
    pub artifacts: Vec<Artifact>,
    /// Why the same stage may make something else another time.
    pub doubt: Option<String>,
}

/// Takes in the files that globs mean and the stage may claim. Each glob must mean one at least. What goes away meanwhile
/// is not there.
///
/// # Errors
/// [`PipelineError::Refused`] for a glob that means none; a file cannot be read or stored.
pub fn collect(project: &Path, globs: &[String], claim: &Claim<'_>, objects: &Objects) -> Result<Made> {
    let mut artifacts = Vec::new();
    let mut doubt = None;
    for glob in globs {
        let found = paths(project, std::slice::from_ref(glob))?;
        let claimed = claim.of(project, found)?;
        let mut count = 0;
        for (path, why) in claimed {
            let Some(artifact) = there(take(project, &path, objects))? else {
                continue;
            };
            count += 1;
            artifacts.push(artifact);
            doubt = doubt.or(why);
        }
        if count == 0 {
            return Err(PipelineError::Refused {
                message: format!("it made no file for its output {glob}"),
            });
        }
    }
    artifacts.sort();
    artifacts.dedup_by(|one, other| one.path == other.path);
    Ok(Made { artifacts, doubt })
}

impl Claim<'_> {
    /// Which of the files that a glob means are the stage's, each with what is doubtful about it.
    fn of(&self, project: &Path, found: Vec<String>) -> Result<Vec<(String, Option<String>)>> {
        let (mut own, mut foreign) = (Vec::new(), Vec::new());
        for path in found {
            let full = project.join(&path);
            let meta = fs::symlink_metadata(&full).map_err(|source| PipelineError::io("read", &full, source));
            let Some(meta) = there(meta)? else {
                continue;
            };
            let changed = Moment::from(&meta);
            match self {
                Claim::Brought(brought) if !brought.paths.contains(Path::new(&path)) => {}
                Claim::Brought(brought) => {
                    let is_other = changed > brought.at;
                    let why = is_other.then(|| format!("{path} was replaced after it was brought here"));
                    own.push((path, why));
                }
                Claim::Left { since, .. } if since.is_some_and(|since| changed >= since) => {
                    own.push((path, None));
                }
                Claim::Left { of_others, .. } => {
                    let is_foreign = of_others.contains(path.as_str());
                    let why = format!("{path} was there before and was left as it was");
                    if is_foreign { &mut foreign } else { &mut own }.push((path, Some(why)));
                }
            }
        }
        // A stage that found all its files up to date did its work.
        Ok(if own.is_empty() { foreign } else { own })
    }
}

/// A file that went away is not there.
fn there<T>(looked: Result<T>) -> Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(PipelineError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file is one that qwex itself is just writing, to be renamed.
#[must_use]
pub fn is_our_own(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let middle = name.and_then(|name| name.strip_prefix(TEMP_HEAD)?.strip_suffix(TEMP_TAIL));
    middle.is_some_and(|middle| middle.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
}

/// The files that globs mean, as text; none that qwex is just writing.
///
/// # Errors
/// The directory cannot be read, a name is no text.
pub fn paths(project: &Path, globs: &[String]) -> Result<Vec<String>> {
    let globs = Globs::new(globs).map_err(|error| PipelineError::Refused {
        message: error.to_string(),
    })?;
    let found = find(project, &globs).map_err(|source| PipelineError::io("read", project, source))?;
    let found = found.into_iter().filter(|path| !is_our_own(path));
    found.map(|path| text_of(&path)).collect()
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

    /// Of a stage that was launched before anything was there.
    fn all(dir: &Path, glob: &str, objects: &Objects) -> Result<Made> {
        left(dir, glob, Some(Moment(0, 0)), &[], objects)
    }

    fn left(
        dir: &Path,
        glob: &str,
        since: Option<Moment>,
        of_others: &[&'static str],
        objects: &Objects,
    ) -> Result<Made> {
        let of_others = of_others.iter().copied().collect();
        collect(
            dir,
            &[glob.to_owned()],
            &Claim::Left { since, of_others },
            objects,
        )
    }

    fn names(made: &Made) -> Vec<&str> {
        made.artifacts.iter().map(|one| one.path.as_str()).collect()
    }

    #[test]
    fn what_was_there_before_is_told_from_what_was_made() {
        let (dir, objects) = project();
        let since = Some(objects.moment().unwrap());
        // A copy with the times of the old one is new all the same.
        fs::write(dir.path().join("new"), "new").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::open(dir.path().join("new"))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("out/new")).unwrap();
        fs::write(dir.path().join("out/.qwex-12-3.tmp"), "half").unwrap();
        let of_others = &["out/a.txt", "out/deep/b.txt", "out/link"];
        let made = left(dir.path(), "out", since, of_others, &objects).unwrap();
        assert_eq!((names(&made), &made.doubt), (vec!["out/new"], &None));
        let made = left(dir.path(), "out", since, &of_others[..2], &objects).unwrap();
        assert_eq!(names(&made), ["out/link", "out/new"]);
        assert!(made.doubt.unwrap().contains("out/link was there before"));
        // Everything was up to date, whoever made it.
        let made = left(dir.path(), "out/deep", since, of_others, &objects).unwrap();
        assert_eq!(names(&made), ["out/deep/b.txt"]);
        assert!(made.doubt.is_some());
    }

    #[test]
    fn only_what_was_brought_is_taken() {
        let (dir, objects) = project();
        let paths = ["out/a.txt", "out/gone"].into_iter().map(PathBuf::from).collect();
        let mut brought = Brought {
            paths,
            at: objects.moment().unwrap(),
        };
        let take = |brought: &Brought, glob: &str| {
            collect(dir.path(), &[glob.to_owned()], &Claim::Brought(brought), &objects)
        };
        let made = take(&brought, "out/**").unwrap();
        assert_eq!((names(&made), &made.doubt), (vec!["out/a.txt"], &None));
        assert!(take(&brought, "out/deep").is_err());
        brought.at = Moment(0, 0);
        let made = take(&brought, "out/**").unwrap();
        assert!(made.doubt.unwrap().contains("out/a.txt was replaced"));
    }

    #[test]
    fn what_is_missing_or_changed_comes_back() {
        let (dir, objects) = project();
        let made = all(dir.path(), "out", &objects).unwrap().artifacts;
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
        let told = all(dir.path(), "out/*.json", &objects).unwrap_err().to_string();
        assert_eq!(told, "it made no file for its output out/*.json");
    }

    #[test]
    fn g10_nothing_is_written_outside() {
        let (dir, objects) = project();
        let outside = tempfile::tempdir().unwrap();
        let made = all(dir.path(), "out/a.txt", &objects).unwrap();
        let mut artifact = made.artifacts[0].clone();
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

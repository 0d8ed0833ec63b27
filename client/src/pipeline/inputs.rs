//! What the result of a stage depends on, as one hash, and what of the project's directory its run has to see.
//!
//! The files are those that `inputs:` means, or all that are not ignored, without what any stage of the pipeline makes;
//! and the outputs of the stages before it, as those made them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qwex_runner::Transfer;
use qwex_runner::workspace::{Globs, Kind, list_everything};
use serde::Serialize;

use super::artifacts::{Artifact, is_our_own, paths, text_of};
use super::error::PipelineError;
use super::objects::sha256;
use super::record::{Pipeline, StageRecord};
use crate::project_file::names_the_run;

type Result<T> = std::result::Result<T, PipelineError>;

/// What a stage depends on.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Over the command, its surroundings, the files that `inputs:` names and the outputs of stages before.
    pub fingerprint: String,
    /// The same over all files, if the stage says enough of itself to be reused: `inputs:` or `outputs:`.
    pub key: Option<String>,
    pub send: Transfer,
}

/// Hashes of files that did not change since.
#[derive(Debug, Default)]
pub struct Hashes(HashMap<PathBuf, (Stamp, String)>);

/// Files that say what `uv run` installs.
const OF_UV: [&str; 3] = ["uv.lock", "pyproject.toml", ".python-version"];

type Stamp = (u64, u64, i64, i64, i64, i64);

impl Hashes {
    fn of(&mut self, full: &Path) -> Result<Seen> {
        let broken = |source| PipelineError::io("read", full, source);
        let meta = fs::symlink_metadata(full).map_err(broken)?;
        if meta.is_symlink() {
            let target = fs::read_link(full).map_err(broken)?;
            return Ok(Seen {
                hash: format!("link {}", text_of(&target)?),
                executable: false,
            });
        }
        let stamp = (
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        let executable = meta.permissions().mode() & 0o100 != 0;
        if let Some((_, hash)) = self.0.get(full).filter(|(known, _)| *known == stamp) {
            return Ok(Seen {
                hash: hash.clone(),
                executable,
            });
        }
        let hash = fs::File::open(full)
            .and_then(|mut file| sha256(&mut file))
            .map_err(broken)?;
        self.0.insert(full.to_owned(), (stamp, hash.clone()));
        Ok(Seen { hash, executable })
    }

    /// What was removed since it was listed is not there: stages beside this one come and go with their files.
    fn all(&mut self, project: &Path, paths: &[String]) -> Result<BTreeMap<String, Seen>> {
        let mut all = BTreeMap::new();
        for path in paths {
            match self.of(&project.join(path)) {
                Ok(seen) => drop(all.insert(path.clone(), seen)),
                Err(PipelineError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// A file as a stage sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Seen {
    hash: String,
    executable: bool,
}

/// All of a stage that its result depends on. Not what it may use of a machine, when it is given up, or where it waits.
#[derive(Serialize)]
struct Surroundings<'a> {
    command: &'a [String],
    image: Option<&'a str>,
    /// Without an image the machine is the surroundings.
    backend: Option<&'a str>,
    /// Which machine, if it is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    env: &'a BTreeMap<String, String>,
    secrets: &'a BTreeMap<String, String>,
    working_dir: Option<&'a str>,
    mounts: &'a [qwex_core::Mount],
    network: Option<&'a str>,
    user: Option<&'a str>,
    outputs: &'a [String],
}

fn surroundings(stage: &StageRecord) -> Surroundings<'_> {
    let spec = &stage.spec;
    Surroundings {
        command: &spec.command,
        image: spec.image.as_deref(),
        backend: spec.image.is_none().then_some(stage.backend.as_str()),
        host: stage.host.as_deref(),
        env: &spec.env,
        secrets: &spec.secrets,
        working_dir: spec.working_dir.as_deref(),
        mounts: &spec.mounts,
        network: spec.network.as_deref(),
        user: spec.user.as_deref(),
        outputs: &spec.outputs,
    }
}

/// The outputs of the stages before, the later ones over the earlier ones.
#[must_use]
pub fn inherited(pipeline: &Pipeline, stage: &StageRecord) -> BTreeMap<String, Artifact> {
    let before = pipeline.ancestors(stage);
    let all = before.iter().flat_map(|one| &one.outputs);
    all.map(|artifact| (artifact.path.clone(), artifact.clone()))
        .collect()
}

/// Looks at the files of a stage. What it inherits must be known, and need not be there.
///
/// # Errors
/// A file cannot be read.
pub fn gather(
    project: &Path,
    pipeline: &Pipeline,
    stage: &StageRecord,
    hashes: &mut Hashes,
) -> Result<Inputs> {
    let inherited = inherited(pipeline, stage);
    let made = made(pipeline)?;
    let is_source = |path: &String| !made.matches(Path::new(path));
    let handed: BTreeMap<&String, Seen> = inherited
        .iter()
        .map(|(path, artifact)| (path, seen(artifact)))
        .collect();
    let mut named: Vec<String> = match &stage.inputs {
        Some(inputs) => paths(project, inputs)?.into_iter().filter(is_source).collect(),
        None => Vec::new(),
    };
    if stage.runs_by.is_some() {
        // What uv installs is said here, whether or not the stage names it.
        named.extend(OF_UV.map(str::to_owned));
        named.sort();
        named.dedup();
    }
    let named_files = hashes.all(project, &named)?;
    let fingerprint = hashed(&(surroundings(stage), &named_files, &handed));
    let goes_over = stage.backend != "local";
    let says_enough = stage.inputs.is_some() || !stage.spec.outputs.is_empty();
    let may_be_reused = says_enough && !names_its_run(stage);
    let needs_list = stage.inputs.is_none() && (may_be_reused || (goes_over && !inherited.is_empty()));
    let everything: Vec<String> = if needs_list {
        sources(project, &made)?
    } else {
        Vec::new()
    };
    let key = match (may_be_reused, stage.inputs.is_some()) {
        (false, _) => None,
        (true, true) => Some(fingerprint.clone()),
        (true, false) => {
            let files = hashes.all(project, &everything)?;
            Some(hashed(&(surroundings(stage), &files, &handed)))
        }
    };
    let send = match (&stage.inputs, inherited.is_empty()) {
        (None, true) => Transfer::Everything,
        (None, false) => only(everything, &inherited),
        (Some(_), _) => only(named, &inherited),
    };
    Ok(Inputs {
        fingerprint,
        key,
        send,
    })
}

fn only(paths: Vec<String>, inherited: &BTreeMap<String, Artifact>) -> Transfer {
    let all = paths.into_iter().chain(inherited.keys().cloned());
    Transfer::Only(all.map(PathBuf::from).collect())
}

fn seen(artifact: &Artifact) -> Seen {
    let link = artifact.link.as_ref().map(|link| format!("link {link}"));
    Seen {
        hash: artifact.sha256.clone().or(link).unwrap_or_default(),
        executable: artifact.executable,
    }
}

/// What any stage makes: a leftover of it is nobody's source.
fn made(pipeline: &Pipeline) -> Result<Globs> {
    let globs: Vec<&String> = pipeline
        .stages
        .iter()
        .flat_map(|stage| &stage.spec.outputs)
        .collect();
    Globs::new(&globs).map_err(|error| PipelineError::Refused {
        message: error.to_string(),
    })
}

fn sources(project: &Path, made: &Globs) -> Result<Vec<String>> {
    let listing = list_everything(project).map_err(|source| PipelineError::io("read", project, source))?;
    let files = listing.entries.into_iter().filter(|entry| match entry.kind {
        Kind::File { .. } | Kind::Symlink { .. } => !made.matches(&entry.path) && !is_our_own(&entry.path),
        Kind::Dir => false,
    });
    files.map(|entry| text_of(&entry.path)).collect()
}

fn names_its_run(stage: &StageRecord) -> bool {
    let spec = &stage.spec;
    let texts = spec.command.iter().chain(spec.env.values()).chain(&spec.outputs);
    texts
        .chain(&spec.image)
        .chain(&spec.working_dir)
        .any(|text| names_the_run(text))
}

fn hashed(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("texts and maps of texts serialise");
    sha256(&mut json.as_slice()).expect("memory can be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_went_away_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        let mut hashes = Hashes::default();
        let paths = ["a".to_owned(), "gone".to_owned(), "gone/too".to_owned()];
        let seen = hashes.all(dir.path(), &paths).unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["a"]);
        let before = seen["a"].clone();
        fs::write(dir.path().join("a"), "yy").unwrap();
        assert_ne!(hashes.all(dir.path(), &paths).unwrap()["a"], before);
    }
}

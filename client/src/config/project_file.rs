//! The project's `qwex.yaml`: what runs of this directory have in common. It is checked in and shared, so it may name
//! a context of the user but never a server: a cloned repository must not be able to draw a token to its own address.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use qwex_core::{ClusterName, Project, QueueName};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{CliError, Exit};

pub const FILE_NAME: &str = "qwex.yaml";

/// What a project sets for its runs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectFile {
    #[serde(default)]
    pub name: Option<String>,
    /// Name of one of the user's contexts.
    #[serde(default)]
    pub context: Option<String>,
    #[serde(default)]
    pub project: Option<Project>,
    #[serde(default)]
    pub backend: Option<String>,
    #[serde(default)]
    pub image: Option<String>,
    #[serde(default)]
    pub queue: Option<QueueName>,
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Stages are checked by the commands that run them.
    #[serde(default)]
    pub stages: Option<IgnoredAny>,
}

impl ProjectFile {
    /// The nearest `qwex.yaml` at `from` or above it, with its path.
    ///
    /// # Errors
    /// There is one that cannot be read or understood.
    pub fn find(from: &Path) -> Result<Option<(PathBuf, Self)>, CliError> {
        let Some(path) = from
            .ancestors()
            .map(|dir| dir.join(FILE_NAME))
            .find(|path| path.is_file())
        else {
            return Ok(None);
        };
        let text = fs::read_to_string(&path).map_err(|error| bad(&path, &error.to_string()))?;
        let file = serde_saphyr::from_str(&text).map_err(|error| bad(&path, &error.to_string()))?;
        Ok(Some((path, file)))
    }
}

fn bad(path: &Path, why: &str) -> CliError {
    CliError::new(
        Exit::Usage,
        format!("the project file {} cannot be used", path.display()),
    )
    .why(why.trim_end())
    .fix("`qwexctl help spec` shows its fields")
    .code("project_file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        text: &str,
    ) -> (
        tempfile::TempDir,
        Result<Option<(PathBuf, ProjectFile)>, CliError>,
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), text).unwrap();
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let found = ProjectFile::find(&below);
        (dir, found)
    }

    #[test]
    fn is_found_from_below() {
        let (_dir, found) = written("name: demo\nbackend: local\nenv: { A: b }\nstages: [{name: x}]\n");
        let (path, file) = found.unwrap().unwrap();
        assert!(path.ends_with(FILE_NAME));
        assert_eq!(file.backend.as_deref(), Some("local"));
        assert_eq!(file.env["A"], "b");
    }

    #[test]
    fn an_unknown_field_is_told_with_its_line() {
        let (_dir, found) = written("name: demo\nimagee: python\n");
        let error = found.unwrap_err();
        let why = error.why.unwrap();
        assert!(why.contains("imagee") && why.contains('2'), "{why}");
    }

    #[test]
    fn cannot_name_a_server() {
        let (_dir, found) = written("server: http://evil.example\n");
        assert!(found.is_err());
    }
}

//! The user's context file: `contexts.yaml` in `$QWEX_CONFIG_DIR`, else `$XDG_CONFIG_HOME/qwex`, else
//! `~/.config/qwex`. It holds tokens, so only its owner may read it. `qwexcloud dev` writes a context into it too:
//! the format is a contract.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qwex_core::Project;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CliError, Exit};

pub const FILE_NAME: &str = "contexts.yaml";

/// Every context, and the name of the one in use.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    #[serde(default)]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: Vec<Context>,
}

/// A server and how to speak to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub name: String,
    pub server: String,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed",
        deserialize_with = "taken"
    )]
    pub token: Option<SecretString>,
    /// Absent: the token's project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// Where runs go that name no backend; absent: here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

/// The file is the one place where a token is written out.
fn exposed<S: Serializer>(token: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(token.as_ref().map_or("", |token| token.expose_secret()))
}

fn taken<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
}

impl ContextFile {
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Context> {
        self.contexts.iter().find(|context| context.name == name)
    }

    /// Adds a context or replaces the one of the same name.
    pub fn put(&mut self, context: Context) {
        match self.contexts.iter_mut().find(|known| known.name == context.name) {
            Some(known) => *known = context,
            None => self.contexts.push(context),
        }
    }

    /// Reads the file; a missing one is empty.
    ///
    /// # Errors
    /// It cannot be read, or is no context file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unreadable(path, &error.to_string())),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| unreadable(path, &error.to_string()))
    }

    /// Replaces the file in one step, readable by its owner only.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CliError> {
        self.replace(path).map_err(|error| {
            CliError::new(
                Exit::Failure,
                format!("the context file {} cannot be written", path.display()),
            )
            .why(error.to_string())
            .fix("choose another directory with QWEX_CONFIG_DIR")
            .code("context_file")
        })
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let text = serde_saphyr::to_string(self).map_err(io::Error::other)?;
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    }
}

fn unreadable(path: &Path, why: &str) -> CliError {
    CliError::new(
        Exit::Failure,
        format!("the context file {} cannot be read", path.display()),
    )
    .why(why)
    .fix("mend it, or move it away and add the context anew: `qwexctl context add`")
    .code("context_file")
}

/// Whether others than the owner may read the file; a missing one is safe.
#[must_use]
pub fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Where the context file is; `None` without a home.
#[must_use]
pub fn path(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("QWEX_CONFIG_DIR")
        .or_else(|| set("XDG_CONFIG_HOME").map(|dir| dir.join("qwex")))
        .or_else(|| set("HOME").map(|dir| dir.join(".config/qwex")))?;
    Some(dir.join(FILE_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev() -> Context {
        Context {
            backend: None,
            name: "dev".to_owned(),
            server: "http://127.0.0.1:8080".to_owned(),
            token: Some("qwx_secret".to_owned().into()),
            project: None,
        }
    }

    #[test]
    fn is_written_for_its_owner_only_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/qwex").join(FILE_NAME);
        let mut file = ContextFile::default();
        file.put(dev());
        file.put(dev());
        file.current = Some("dev".to_owned());
        file.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!is_open_to_others(&path));
        let read = ContextFile::read(&path).unwrap();
        assert_eq!(read.contexts.len(), 1);
        let token = read.find("dev").unwrap().token.as_ref().unwrap();
        assert_eq!(token.expose_secret(), "qwx_secret");
    }

    #[test]
    fn what_the_server_writes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(
            &path,
            "{current: dev, contexts: [{name: dev, server: \"http://127.0.0.1:1\", token: qwx_a, project: null}]}",
        )
        .unwrap();
        assert_eq!(ContextFile::read(&path).unwrap().current.as_deref(), Some("dev"));
    }

    #[test]
    fn a_token_is_never_printed() {
        assert!(!format!("{:?}", dev()).contains("qwx_secret"));
    }

    #[test]
    fn a_bad_file_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, "current: [").unwrap();
        let error = ContextFile::read(&path).unwrap_err();
        assert!(error.what.contains(FILE_NAME) && error.why.is_some());
    }

    #[test]
    fn the_directory_is_chosen_like_everywhere() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            }
        };
        let found = |pairs| path(&env(pairs)).map(|path| path.display().to_string());
        assert_eq!(found(&[("HOME", "/h")]).unwrap(), "/h/.config/qwex/contexts.yaml");
        assert_eq!(
            found(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]).unwrap(),
            "/x/qwex/contexts.yaml"
        );
        assert_eq!(
            found(&[("XDG_CONFIG_HOME", "/x"), ("QWEX_CONFIG_DIR", "/q")]).unwrap(),
            "/q/contexts.yaml"
        );
        assert!(found(&[]).is_none());
    }
}

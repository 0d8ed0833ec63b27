//! The context through which the user's client finds this server: one entry in the client's `contexts.yaml`. The other
//! entries, and whatever else is in the file, stay as they are.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Name of the context that `qwexcloud dev` writes.
pub const NAME: &str = "dev";

/// Why the context was not written.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("there is no place for the contexts of the client: set QWEX_CONFIG_DIR or HOME")]
    NoPlace,
    #[error("{file} is not a file of contexts ({detail}): mend it or move it away")]
    Unreadable { file: PathBuf, detail: String },
    #[error("failed to write {file}")]
    Unwritable {
        file: PathBuf,
        #[source]
        cause: std::io::Error,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contexts {
    #[serde(default)]
    current: Option<String>,
    #[serde(default)]
    contexts: Vec<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The file of contexts in `dir`.
#[must_use]
pub fn file_in(dir: &Path) -> PathBuf {
    dir.join("contexts.yaml")
}

/// The token that stands in the context of `qwexcloud dev`, if there is one.
///
/// # Errors
/// The file is there and holds something else.
pub fn find_token(file: &Path) -> Result<Option<String>, ContextError> {
    let contexts = read(file)?;
    let own = contexts.contexts.iter().find(|context| is_own(context));
    Ok(own.and_then(|context| Some(context.get("token")?.as_str()?.to_owned())))
}

/// Writes the context and makes it the current one. Returns the name of the one that was current before, if it was
/// another.
///
/// # Errors
/// The file holds something else, or cannot be written.
pub fn write(file: &Path, server: &str, token: &str) -> Result<Option<String>, ContextError> {
    let mut contexts = read(file)?;
    let own = [
        ("name", NAME),
        ("server", server),
        ("token", token),
        ("project", "default"),
    ];
    let own: Map<String, Value> = own
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    match contexts.contexts.iter_mut().find(|context| is_own(context)) {
        Some(known) => *known = own,
        None => contexts.contexts.push(own),
    }
    let before = contexts
        .current
        .replace(NAME.to_owned())
        .filter(|name| name != NAME);
    let yaml = serde_saphyr::to_string(&contexts).map_err(|error| ContextError::Unreadable {
        file: file.to_owned(),
        detail: error.to_string(),
    })?;
    replace(file, &yaml).map_err(|cause| ContextError::Unwritable {
        file: file.to_owned(),
        cause,
    })?;
    Ok(before)
}

fn is_own(context: &Map<String, Value>) -> bool {
    context.get("name").and_then(Value::as_str) == Some(NAME)
}

fn read(file: &Path) -> Result<Contexts, ContextError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts::default()),
        Err(error) => {
            return Err(ContextError::Unreadable {
                file: file.to_owned(),
                detail: error.to_string(),
            });
        }
    };
    if text.trim().is_empty() {
        return Ok(Contexts::default());
    }
    serde_saphyr::from_str(&text).map_err(|error| ContextError::Unreadable {
        file: file.to_owned(),
        detail: error.to_string(),
    })
}

/// All or nothing, and readable by its owner only: it holds tokens.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let fresh = file.with_extension(format!("{}.new", std::process::id()));
    let mut open = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    open.write_all(text.as_bytes())?;
    open.sync_all()?;
    std::fs::rename(&fresh, file)?;
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn other_contexts_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(dir.path());
        let before = "current: prod\nextra: kept\ncontexts:\n- name: prod\n  server: https://qwex.example\n  token: secret\n  colour: red\n";
        std::fs::write(&file, before).unwrap();
        assert_eq!(find_token(&file).unwrap(), None);
        assert_eq!(
            write(&file, "http://127.0.0.1:1", "qwx_1").unwrap().as_deref(),
            Some("prod")
        );
        assert_eq!(write(&file, "http://127.0.0.1:2", "qwx_2").unwrap(), None);
        assert_eq!(find_token(&file).unwrap().as_deref(), Some("qwx_2"));
        let after: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(after["extra"], "kept");
        assert_eq!(after["contexts"][0]["colour"], "red");
        assert_eq!(after["contexts"][1]["server"], "http://127.0.0.1:2");
        assert_eq!(after["contexts"].as_array().unwrap().len(), 2);
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_file_that_is_no_context_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(dir.path());
        std::fs::write(&file, "- just\n- a list\n").unwrap();
        assert!(write(&file, "http://x", "qwx_1").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "- just\n- a list\n");
    }
}

//! Finds and reads the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::FILE_NAME;
use super::complaint::{Complaint, Source, refused};
use super::locate::{Located, PassedOver, locate};
use super::misread::{FORMS, Forms, misread};
use super::model::ProjectFile;
use crate::error::{CliError, Exit};

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Read<S> {
    pub path: PathBuf,
    /// How people know it: relative to where they are.
    pub shown: String,
    pub text: String,
    pub file: ProjectFile<S>,
}

impl<S> Read<S> {
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        Source {
            path: &self.shown,
            text: &self.text,
        }
    }
}

/// The nearest `qwex.yaml` at `from` or above it, and one that was passed over on the way.
///
/// # Errors
/// There is one that cannot be read or understood.
pub fn find<S: DeserializeOwned + Default>(
    from: &Path,
) -> Result<(Option<Read<S>>, Option<PassedOver>), CliError> {
    let Located { path, passed_over } = locate(from);
    let found = path.map(|path| read(&path, from)).transpose()?;
    Ok((found, passed_over))
}

/// Reads a file; `from` is where people are.
///
/// # Errors
/// It cannot be read or understood.
pub fn read<S: DeserializeOwned + Default>(path: &Path, from: &Path) -> Result<Read<S>, CliError> {
    let shown = path.strip_prefix(from).unwrap_or(path).display().to_string();
    let text = text(path, &shown)?;
    let source = Source {
        path: &shown,
        text: &text,
    };
    match parse(&text) {
        Ok(file) => Ok(Read {
            path: path.to_owned(),
            file,
            shown,
            text,
        }),
        Err(complaint) => Err(refused(source, &[*complaint])),
    }
}

/// The text of a file; `shown` is how people know it.
///
/// # Errors
/// It is not there, is no file, or no UTF-8.
pub fn text(path: &Path, shown: &str) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|error| unreadable(shown, &error))
}

fn unreadable(shown: &str, error: &io::Error) -> CliError {
    let told = |exit| {
        CliError::new(exit, format!("the project file {shown} cannot be read"))
            .why(error.to_string())
            .code("project_file")
    };
    match error.kind() {
        io::ErrorKind::NotFound => {
            told(Exit::NotFound).fix("check the name, or write one from what is here: `qwexctl init`")
        }
        io::ErrorKind::InvalidData => told(Exit::Usage).fix("save it as UTF-8"),
        io::ErrorKind::IsADirectory => told(Exit::Usage).fix(format!("name the file: {shown}/{FILE_NAME}")),
        _ => told(Exit::Failure).fix("see that the file and the directories above it are yours to read"),
    }
}

/// Reads the text of a file. An empty one says nothing, which is allowed.
///
/// # Errors
/// What is wrong, with its place.
pub fn parse<S: DeserializeOwned + Default>(text: &str) -> Result<ProjectFile<S>, Box<Complaint>> {
    parse_strictly(text, FORMS)
}

/// Reads YAML of ours, whatever it holds, without guessing. An empty text is the default.
///
/// # Errors
/// What is wrong, with its place.
pub fn parse_strictly<T: DeserializeOwned + Default>(text: &str, forms: Forms) -> Result<T, Box<Complaint>> {
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(T::default());
    }
    let options =
        serde_saphyr::options! { with_snippet: false, strict_booleans: true, reject_unsupported_tags: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Box::new(misread(text, &error, forms)))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;

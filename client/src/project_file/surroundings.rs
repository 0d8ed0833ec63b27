//! What `${env.X}` and `${var.X}` stand for: `--set`, `--env-file`, the environment of qwexctl.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{CliError, Exit};

/// The world outside of the file.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// `--set`.
    pub set: BTreeMap<String, String>,
    /// `--env-file`; beats the environment, as a flag does.
    pub env_file: BTreeMap<String, String>,
    /// The environment of qwexctl.
    pub env: BTreeMap<String, String>,
}

impl Variables {
    /// Takes the environment of this process; variables that are no UTF-8 are left out.
    #[must_use]
    pub fn of_this_process() -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            env,
            ..Self::default()
        }
    }

    /// Adds the variables of a file in dotenv grammar; later files beat earlier ones.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_env_file(&mut self, path: &Path) -> Result<(), CliError> {
        let bad = |error: dotenvy::Error| {
            let exit = if error.not_found() {
                Exit::NotFound
            } else {
                Exit::Usage
            };
            CliError::new(
                exit,
                format!("the variables of {} cannot be read", path.display()),
            )
            .why(error.to_string())
            .fix(match exit {
                Exit::NotFound => "check the name after --env-file",
                _ => "write one NAME=value a line; quote a value that has spaces",
            })
            .code("env_file")
        };
        for pair in dotenvy::from_path_iter(path).map_err(bad)? {
            let (name, value) = pair.map_err(bad)?;
            self.env_file.insert(name, value);
        }
        Ok(())
    }

    /// What `${env.X}` stands for where the stage itself does not set X.
    #[must_use]
    pub fn outside(&self, name: &str) -> Option<&String> {
        self.env_file.get(name).or_else(|| self.env.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beats_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vars");
        std::fs::write(&path, "# note\nA=1\nexport B=\"two words\"\nC='$A'\nD=${A}2\n").unwrap();
        let mut variables = Variables::default();
        variables.env.insert("A".into(), "outer".into());
        variables.env.insert("E".into(), "outer".into());
        variables.read_env_file(&path).unwrap();
        let known = |name: &str| variables.outside(name).map(String::as_str);
        assert_eq!(
            ["A", "B", "C", "D", "E", "F"].map(known),
            [
                Some("1"),
                Some("two words"),
                Some("$A"),
                Some("12"),
                Some("outer"),
                None
            ]
        );
        assert_eq!(
            variables
                .read_env_file(&dir.path().join("none"))
                .unwrap_err()
                .exit,
            Exit::NotFound
        );
        std::fs::write(&path, "A='open\n").unwrap();
        assert_eq!(variables.read_env_file(&path).unwrap_err().exit, Exit::Usage);
    }
}

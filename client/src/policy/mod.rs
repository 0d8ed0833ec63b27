//! What runs may ask for, and what their commands may do: `policy:` of `config.yaml`. Each file is a layer and a run
//! has to keep all of them, so that the user's file can only narrow what the system's allows.
//!
//! `model` is how it is written, `check` compares a run with it, `content` looks at the command and the script that it
//! names. Asked by `commands` before anything is submitted; starts nothing and prints nothing. It holds whoever uses
//! qwexctl to what was agreed; it is no border against somebody who brings a program of his own.

mod check;
mod content;
mod images;
mod model;
mod paths;

pub use check::{Asked, Violation};
pub use content::{Action, Finding};
pub use model::PolicySection;

use crate::config::file::{Owner, ReadFile};
use crate::error::CliError;
use check::Limits;
use content::Rules;

/// All that holds here.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    layers: Vec<Layer>,
    rules: Rules,
}

/// What one file says.
#[derive(Debug, Clone)]
struct Layer {
    owner: Owner,
    path: String,
    limits: Limits,
}

impl Policy {
    /// What the files say together, and the rules of qwex itself.
    ///
    /// # Errors
    /// A value cannot be used: then nothing may be started.
    pub fn of(files: &[ReadFile]) -> Result<Self, CliError> {
        let mut layers = Vec::new();
        for file in files {
            let Some(section) = &file.file.policy else {
                continue;
            };
            let complaints = model::complaints(section);
            if !complaints.is_empty() {
                return Err(file.refused(&complaints));
            }
            layers.push(Layer {
                owner: file.owner,
                path: file.path.clone(),
                limits: Limits::of(section, file.source()),
            });
        }
        Ok(Self {
            layers,
            rules: Rules::of(files)?,
        })
    }

    /// Everything in a run that a file forbids, what the system forbids first.
    #[must_use]
    pub fn check(&self, asked: &Asked<'_>) -> Vec<Violation> {
        let all = self.layers.iter();
        all.flat_map(|layer| layer.limits.check(asked, layer.owner, &layer.path))
            .collect()
    }

    /// What the content rules say of a run's command and of the scripts that it names.
    #[must_use]
    pub fn look(&self, asked: &Asked<'_>) -> Vec<Finding> {
        self.rules.look(asked)
    }

    /// Directories of nodes that runs on clusters may mount: those that every file with a list of them allows.
    #[must_use]
    pub fn node_paths(&self) -> Vec<String> {
        let lists: Vec<&Vec<String>> = self
            .layers
            .iter()
            .filter_map(|layer| layer.limits.mount_paths())
            .collect();
        let Some((first, rest)) = lists.split_first() else {
            return Vec::new();
        };
        let mut common: Vec<String> = (*first).clone();
        for list in rest {
            common = paths::common(&common, list);
        }
        common
    }

    /// The files that say something, for `doctor`.
    #[must_use]
    pub fn sources(&self) -> Vec<&str> {
        self.layers.iter().map(|layer| layer.path.as_str()).collect()
    }
}

//! Where the directory of an attempt and its log files are. Names come from checked ids only, never
//! from what a caller or a file says.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use qwex_core::{Attempt, RunId};
use qwex_runner::Key;
use qwex_runner::durable::Dir;
use serde::{Deserialize, Serialize};

/// Shape of the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `<root>/qwex-<run id>-a<attempt>/`, log files in it.
    ByObject,
    /// `<root>/<run id>/a<attempt>/` beside the run's record; the log files of the first attempt lie
    /// beside the record too, those of later ones in their own directory.
    ByRun,
}

/// Where the log files lie, as seen from the directory of the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogPlace {
    Within,
    /// In the directory that holds it.
    Above,
}

impl Layout {
    /// The directory in which the attempt's directory lies, and the latter's name.
    pub fn place(self, root: &Dir, key: Key) -> io::Result<(Dir, String)> {
        match self {
            Self::ByObject => Ok((root.try_clone()?, key.object())),
            Self::ByRun => Ok((root.open_dir(&key.run_id.to_string())?, attempt_name(key.attempt))),
        }
    }

    /// Like [`Layout::place`], the parent made if it is not there.
    pub fn ensure_place(self, root: &Dir, key: Key) -> io::Result<(Dir, String)> {
        match self {
            Self::ByObject => {}
            Self::ByRun => drop(root.ensure_dir(&key.run_id.to_string())?),
        }
        self.place(root, key)
    }

    /// Opens the directory of an attempt; `None` if there is none.
    pub fn open(self, root: &Dir, key: Key) -> io::Result<Option<Dir>> {
        let opened = self
            .place(root, key)
            .and_then(|(parent, name)| parent.open_dir(&name));
        match opened {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the log files of an attempt are.
    #[must_use]
    pub fn log_place(self, key: Key) -> LogPlace {
        match self {
            Self::ByRun if key.attempt == Attempt::FIRST => LogPlace::Above,
            Self::ByRun | Self::ByObject => LogPlace::Within,
        }
    }

    /// Opens the directory of the log files; `None` if there is none.
    pub fn open_logs(self, root: &Dir, key: Key) -> io::Result<Option<Dir>> {
        match self.log_place(key) {
            LogPlace::Within => self.open(root, key),
            LogPlace::Above => match self.place(root, key) {
                Ok((parent, _)) => Ok(Some(parent)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Path of the directory of an attempt, for people.
    #[must_use]
    pub fn path(self, root: &Path, key: Key) -> PathBuf {
        match self {
            Self::ByObject => root.join(key.object()),
            Self::ByRun => root.join(key.run_id.to_string()).join(attempt_name(key.attempt)),
        }
    }

    /// Path of a log file, for people.
    #[must_use]
    pub fn log_path(self, root: &Path, key: Key, stream: &str) -> PathBuf {
        let within = self.path(root, key);
        let dir = match self.log_place(key) {
            LogPlace::Within => within.as_path(),
            LogPlace::Above => within.parent().unwrap_or(root),
        };
        dir.join(format!("{stream}.log"))
    }

    /// Every attempt that has a directory. Whatever else lies in the root is none of ours.
    pub fn scan(self, root: &Dir) -> io::Result<Vec<Key>> {
        let names = root.names()?;
        match self {
            Self::ByObject => Ok(names
                .iter()
                .filter_map(|name| Key::of_object(name.to_str()?))
                .collect()),
            Self::ByRun => Ok(names
                .iter()
                .filter_map(|name| run_keys(root, name))
                .flatten()
                .collect()),
        }
    }
}

fn attempt_name(attempt: Attempt) -> String {
    format!("a{attempt}")
}

fn run_keys(root: &Dir, name: &OsStr) -> Option<Vec<Key>> {
    let name = name.to_str()?;
    let run_id: RunId = name.parse().ok()?;
    let inside = root.open_dir(name).ok()?.names().ok()?;
    let attempts = inside.iter().filter_map(|name| {
        let name = name.to_str()?;
        let attempt = Attempt(name.strip_prefix('a')?.parse().ok()?);
        (attempt_name(attempt) == name).then_some(Key::new(run_id, attempt))
    });
    Some(attempts.collect())
}

//! How a [`crate::LocalBackend`] is set up by its owner: the client for a laptop, the server for the
//! embedded cluster.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use qwex_core::ClusterName;

use crate::layout::Layout;
use crate::records::OutputMode;

/// Set-up of a local backend.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Directory of all attempts; made if it is not there.
    pub root: PathBuf,
    pub layout: Layout,
    /// Program and first arguments of the supervisor; the directory of the attempt is appended. The
    /// program calls [`crate::supervise::main`]. An absolute path; [`LocalConfig::own_supervisor`] for
    /// a program that is its own supervisor.
    pub supervisor: Vec<OsString>,
    pub output: OutputMode,
    /// Name of the registered cluster; `None` on a laptop.
    pub cluster: Option<ClusterName>,
    /// Whether other machines or containers may keep runs in the same directory.
    pub shared: bool,
    /// Run the command here even if the spec names an image, and say so; else such a spec is refused.
    pub ignore_image: bool,
    pub environment: Environment,
    /// Where commands start whose spec names no directory; `None`: an empty directory per attempt.
    pub working_dir: Option<PathBuf>,
    /// From TERM to KILL.
    pub grace: Duration,
    /// How long a released attempt is kept; `None`: for ever.
    pub retention: Option<Duration>,
}

/// What a command inherits besides the variables of its spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// All that the submitting process has: right for a person's own shell.
    Inherit,
    /// Only what a program needs to find its way ([`Environment::BASICS`]): a server's own variables
    /// hold its secrets.
    Clean,
}

impl Environment {
    pub const BASICS: &'static [&'static str] = &[
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR",
    ];
}

impl LocalConfig {
    /// This very program with a subcommand: also after its file was replaced by a newer version.
    #[must_use]
    pub fn own_supervisor(subcommand: &str) -> Vec<OsString> {
        vec!["/proc/self/exe".into(), subcommand.into()]
    }

    /// For runs of one person on their own machine: split output, the caller's environment and
    /// directory, kept for ever.
    #[must_use]
    pub fn laptop(root: impl Into<PathBuf>, supervisor: Vec<OsString>, working_dir: PathBuf) -> Self {
        Self {
            root: root.into(),
            layout: Layout::ByRun,
            supervisor,
            output: OutputMode::Split,
            cluster: None,
            shared: true,
            ignore_image: false,
            environment: Environment::Inherit,
            working_dir: Some(working_dir),
            grace: GRACE,
            retention: None,
        }
    }

    /// For the cluster inside a server: merged output as a container has it, a clean environment, an
    /// empty directory per attempt, images not used, removed an hour after the release.
    #[must_use]
    pub fn embedded(root: impl Into<PathBuf>, supervisor: Vec<OsString>, cluster: ClusterName) -> Self {
        Self {
            root: root.into(),
            layout: Layout::ByObject,
            supervisor,
            output: OutputMode::Merged,
            cluster: Some(cluster),
            shared: false,
            ignore_image: true,
            environment: Environment::Clean,
            working_dir: None,
            grace: GRACE,
            retention: Some(Duration::from_secs(3600)),
        }
    }
}

const GRACE: Duration = Duration::from_secs(10);

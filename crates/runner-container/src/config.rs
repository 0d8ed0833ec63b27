//! What the client says about an engine.

use std::path::PathBuf;
use std::time::Duration;

use qwex_core::RunId;

use crate::engine::Engine;

/// How to reach an engine and where to keep what it cannot keep.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    pub(crate) engine: Engine,
    /// Holds a record per attempt; made if it is not there. Every process that looks at the same runs must name the
    /// same directory.
    pub state_dir: PathBuf,
    /// Where the engine listens (`unix:///run/docker.sock`, `tcp://host:2375`). `None`: found as the engine's own client
    /// does.
    pub address: Option<String>,
    /// Directory of Docker's `config.json`: contexts and logins. `None`: `DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Only containers of this run are watched: for a keeper of one run among hundreds.
    pub only: Option<RunId>,
    /// User and group that what is written into a workspace belongs to. `None`: those of this process.
    pub outputs_belong_to: Option<(u32, u32)>,
}

/// As long as `docker stop` and `podman stop` wait.
const GRACE: Duration = Duration::from_secs(10);

impl ContainerConfig {
    #[must_use]
    pub fn docker(state_dir: impl Into<PathBuf>) -> Self {
        Self::new(Engine::Docker, state_dir.into())
    }

    #[must_use]
    pub fn podman(state_dir: impl Into<PathBuf>) -> Self {
        Self::new(Engine::Podman, state_dir.into())
    }

    /// With the address the user named; `None` leaves the engine to be found.
    #[must_use]
    pub fn at(mut self, address: Option<String>) -> Self {
        self.address = address;
        self
    }

    fn new(engine: Engine, state_dir: PathBuf) -> Self {
        Self {
            engine,
            state_dir,
            address: None,
            docker_config: None,
            grace: GRACE,
            only: None,
            outputs_belong_to: None,
        }
    }
}

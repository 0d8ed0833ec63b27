//! Docker and podman as one backend: containers through the Docker API, one per attempt, never removed before
//! their result and logs are stored. [`ContainerBackend`] is made by the client; the server never sees it.
//!
//! # One line of registration per engine
//! ```no_run
//! # use qwex_runner_container::{ContainerBackend, ContainerConfig};
//! # fn open(dir: std::path::PathBuf, address: Option<String>) -> Result<(), qwex_runner::RunnerError> {
//! let docker = ContainerBackend::open(ContainerConfig::docker(dir.join("docker")).at(address.clone()))?;
//! let podman = ContainerBackend::open(ContainerConfig::podman(dir.join("podman")).at(address))?;
//! # Ok(())
//! # }
//! ```
//! Opening asks nobody anything; the engine is first spoken to by `probe` or `submit`. The directory holds a small record per
//! attempt, and every process that looks at the same runs must name the same one (`.qwex/engines/docker`). A keeper of one run
//! sets [`ContainerConfig::only`], so that it does not follow hundreds of others.
//!
//! # Where an engine is found
//! An address (`unix:///run/docker.sock`, `tcp://host:2375`, `https://host:2376`) wins. Without one: for docker `DOCKER_HOST`,
//! the current `docker context`, the rootless socket below `XDG_RUNTIME_DIR` (not for root), `/var/run/docker.sock`,
//! `~/.docker/run/docker.sock`; for podman `CONTAINER_HOST`, the socket of `podman.socket` (root's for root, the user's for a
//! user), else a `podman system service` that is started when it is needed and leaves when it is not. A run stays with the
//! engine that was given it: asked through another one, every answer is "unreachable" with the way back.
//!
//! # What is kept where
//! What an engine cannot keep itself (a pull under way, a container that could not be started, a cancel) is in the record;
//! everything else is read from the engine each time. No call waits for a container: a wait is cut when the engine dies, and
//! its answer is lost when nobody listens. Events begin before the list does, and an end is read by inspecting a container
//! that stays until `remove`, so there is nothing that must be registered before a start.
//!
//! A pull belongs to the process that submitted. If that is killed, the run waits and says so; submitting the attempt
//! again, from any process, goes on. Engines know no timeout either: every process that submits or watches attempts here
//! ends them at theirs, by the time that they ran and not by a comparison of clocks; the container carries its timeout as
//! a label, and an end by a signal after it is told as a timeout.
//!
//! # What a crash takes of a log
//! Docker copies a command's output itself. Killed while the command runs, it loses the begin of a line, and with live-restore
//! reads no more of a command that ends before it is back. Whoever was reading the log then is told a gap at that place.
//!
//! # What a run used
//! An engine forgets it with the end, so whoever submits or watches measures while the container runs: on this machine by
//! the files of its control group (each 50 ms at first, later each twentieth of the time it has run, at most a second apart),
//! elsewhere by asking the engine (each second, later each five). [`qwex_runner::backend::Details::usage`] is then the
//! processor time at the last sample and the greatest memory of all samples, as `docker stats` counts it. It is absent for
//! a container that ended before the first sample or while nobody measured; memory that a new keeper did not see is not told.

mod ask;
mod backend;
mod cancel;
mod config;
mod connect;
mod create;
mod deadline;
mod details;
mod discover;
mod ending;
mod engine;
mod errors;
mod features;
mod image;
mod logs;
mod manifest;
mod mounts;
mod names;
mod observe;
mod ports;
mod pull;
mod record;
mod registry;
mod service;
mod snapshot;
mod submit;
mod usage;
mod user;
mod vigil;
mod watch;

pub use backend::ContainerBackend;
pub use config::ContainerConfig;

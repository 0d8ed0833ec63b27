//! The way to the engine: found once, connected lazily, with the API version both sides speak.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker};
use qwex_runner::RunnerError;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use crate::ask::ask;
use crate::discover::{self, Address, Surroundings};
use crate::engine::{Engine, Flavor};
use crate::errors;
use crate::service;

/// Seconds until a call that gives no answer is given up: pulls and streams answer at once and go on.
const CALL_LIMIT: u64 = 120;
/// As [`CALL_LIMIT`] for the first word with an engine.
const GREETING_LIMIT: Duration = Duration::from_secs(20);

/// A connection that was made, or will be when it is first needed.
#[derive(Debug)]
pub struct Link {
    engine: Engine,
    address: Address,
    /// Where a podman service of our own listens.
    socket: PathBuf,
    client: OnceCell<Client>,
}

/// An engine that answered.
#[derive(Debug, Clone)]
pub struct Client {
    pub docker: Docker,
    pub flavor: Flavor,
    pub version: String,
    /// Whether the engine itself runs without root.
    pub rootless: bool,
    pub home: Home,
    /// As it was told at the first word.
    pub info: SystemInfo,
}

/// One particular engine: a run stays with the engine that was given it, whatever `DOCKER_HOST` says later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    pub id: String,
    /// For people.
    pub address: String,
}

impl Link {
    pub fn new(engine: Engine, named: Option<&str>, around: &Surroundings) -> Result<Self, RunnerError> {
        let address = discover::find(engine, named, around, Path::exists)?;
        let socket = match &address {
            Address::Unix(path) => path.clone(),
            Address::Tcp(_) | Address::Tls { .. } => PathBuf::new(),
            Address::OwnPodman => service::socket(around),
        };
        Ok(Self {
            engine,
            address,
            socket,
            client: OnceCell::new(),
        })
    }

    /// Whether the engine sees the files of this machine.
    pub fn is_local(&self) -> bool {
        match &self.address {
            Address::Unix(_) | Address::OwnPodman => true,
            Address::Tcp(_) | Address::Tls { .. } => false,
        }
    }

    /// For people and for the record.
    pub fn address(&self) -> String {
        match &self.address {
            Address::Unix(_) | Address::OwnPodman => format!("unix://{}", self.socket.display()),
            Address::Tcp(host) | Address::Tls { host, .. } => host.clone(),
        }
    }

    pub fn starts_own_service(&self) -> bool {
        self.address == Address::OwnPodman
    }

    /// The engine, after it answered once. A podman service of our own is started, also again when it went idle.
    ///
    /// # Errors
    /// Nobody listens, or not us are answered; with the way out.
    pub async fn client(&self) -> Result<&Client, RunnerError> {
        if self.address == Address::OwnPodman {
            service::ensure(&self.socket).await?;
        }
        self.client.get_or_try_init(|| self.greet()).await
    }

    async fn greet(&self) -> Result<Client, RunnerError> {
        let docker = self.open().map_err(|error| self.no_answer(&error))?;
        let greeting = async {
            let docker = ask(|| docker.clone().negotiate_version()).await?;
            let (version, info) = tokio::try_join!(ask(|| docker.version()), ask(|| docker.info()))?;
            Ok((docker, version, info))
        };
        let (docker, version, info) = match tokio::time::timeout(GREETING_LIMIT, greeting).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(self.no_answer(&error)),
            Err(_) => {
                return Err(RunnerError::NoConnection {
                    message: format!(
                        "{} at {} gave no answer within {GREETING_LIMIT:?}",
                        self.engine.name(),
                        self.address()
                    ),
                });
            }
        };
        let flavor = Flavor::of(version.components.as_deref().unwrap_or_default());
        Ok(Client {
            docker,
            flavor,
            version: version.version.unwrap_or_default(),
            rootless: is_rootless(&info) || flavor == Flavor::Podman && self.is_of_a_user().await,
            home: Home {
                id: identity(flavor, &info),
                address: self.address(),
            },
            info,
        })
    }

    /// Whether the socket was made by somebody else than root: podman 4 does not say itself that it is rootless.
    async fn is_of_a_user(&self) -> bool {
        match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream.peer_cred().is_ok_and(|owner| owner.uid() != 0),
            Err(_) => false,
        }
    }

    fn open(&self) -> Result<Docker, bollard::errors::Error> {
        match &self.address {
            Address::Unix(_) | Address::OwnPodman => {
                let path = self.socket.to_string_lossy();
                Docker::connect_with_unix(&path, CALL_LIMIT, API_DEFAULT_VERSION)
            }
            Address::Tcp(host) => Docker::connect_with_http(host, CALL_LIMIT, API_DEFAULT_VERSION),
            Address::Tls { host, certificates } => Docker::connect_with_ssl(
                host,
                &certificates.join("key.pem"),
                &certificates.join("cert.pem"),
                &certificates.join("ca.pem"),
                CALL_LIMIT,
                API_DEFAULT_VERSION,
            ),
        }
    }

    fn no_answer(&self, error: &bollard::errors::Error) -> RunnerError {
        let why = errors::message(error);
        let engine = self.engine.name();
        let message = format!("{engine} does not answer at {}: {why}", self.address());
        if why.to_lowercase().contains("permission denied") {
            let way = match self.engine {
                Engine::Docker => "add yourself to the group docker, or use rootless docker",
                Engine::Podman => "use a socket of your own: unset CONTAINER_HOST",
            };
            return RunnerError::Unauthorized {
                message: format!("{message}; {way}"),
            };
        }
        let way = match self.engine {
            Engine::Docker => "start it (`systemctl start docker`), or say where it listens with DOCKER_HOST",
            Engine::Podman => "start it (`systemctl --user start podman.socket`), or unset CONTAINER_HOST",
        };
        RunnerError::NoConnection {
            message: format!("{message}; {way}"),
        }
    }
}

fn is_rootless(info: &SystemInfo) -> bool {
    let options = info.security_options.as_deref().unwrap_or_default();
    options.iter().any(|option| option.contains("rootless"))
}

/// What stays the same when the engine is started again: one directory of one machine. podman makes up its id for each
/// answer; Docker's may be the same for all engines of a machine.
fn identity(flavor: Flavor, info: &SystemInfo) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let place = format!("{}:{}", text(&info.name), text(&info.docker_root_dir));
    match flavor {
        Flavor::Docker => format!("{}:{place}", text(&info.id)),
        Flavor::Podman => place,
    }
}

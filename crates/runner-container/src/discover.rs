//! Where an engine listens: the same places, in the same order, as its own client. Pure over [`Surroundings`], so that
//! tests need no environment of their own.

use std::path::{Path, PathBuf};

use qwex_runner::RunnerError;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::engine::Engine;

/// The variables and directories that decide.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub docker_host: Option<String>,
    pub docker_context: Option<String>,
    pub docker_config: Option<PathBuf>,
    pub container_host: Option<String>,
    pub registry_auth_file: Option<PathBuf>,
    pub home: Option<PathBuf>,
    pub runtime_dir: Option<PathBuf>,
    pub is_root: bool,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// Without TLS.
    Tcp(String),
    /// With the certificates in this directory.
    Tls {
        host: String,
        certificates: PathBuf,
    },
    /// No podman service runs: one is started when it is needed.
    OwnPodman,
}

impl Surroundings {
    pub fn read() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_config: path("DOCKER_CONFIG"),
            container_host: text("CONTAINER_HOST"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            home: path("HOME"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            is_root: nix::unistd::Uid::effective().is_root(),
        }
    }

    fn docker_dir(&self) -> Option<PathBuf> {
        let home = self.home.as_ref().map(|home| home.join(".docker"));
        self.docker_config.clone().or(home)
    }

    /// Where the user's logins may be, the first that has one counts: for podman its own files before Docker's.
    pub fn logins(&self, engine: Engine) -> Vec<PathBuf> {
        let docker = self.docker_dir().map(|dir| dir.join("config.json"));
        let session = self
            .runtime_dir
            .as_ref()
            .map(|dir| dir.join("containers/auth.json"));
        let home = self
            .home
            .as_ref()
            .map(|home| home.join(".config/containers/auth.json"));
        let places = match (engine, &self.registry_auth_file) {
            (Engine::Docker, _) => vec![docker],
            (Engine::Podman, Some(named)) => vec![Some(named.clone())],
            (Engine::Podman, None) => vec![session, home, docker],
        };
        places.into_iter().flatten().collect()
    }
}

/// Where the engine listens. `exists` tells whether a socket is there.
pub fn find(
    engine: Engine,
    named: Option<&str>,
    around: &Surroundings,
    exists: impl Fn(&Path) -> bool,
) -> Result<Address, RunnerError> {
    if let Some(address) = named {
        return parse(address, "the configured address", around);
    }
    match engine {
        Engine::Docker => docker(around, exists),
        Engine::Podman => podman(around, exists),
    }
}

fn docker(around: &Surroundings, exists: impl Fn(&Path) -> bool) -> Result<Address, RunnerError> {
    if let Some(host) = &around.docker_host {
        return parse(host, "DOCKER_HOST", around);
    }
    if let Some(address) = context(around)? {
        return Ok(address);
    }
    let run = PathBuf::from("/var/run/docker.sock");
    let rootless = around.runtime_dir.as_ref().map(|dir| dir.join("docker.sock"));
    let desktop = around
        .home
        .as_ref()
        .map(|home| home.join(".docker/run/docker.sock"));
    let places = [rootless.filter(|_| !around.is_root), Some(run.clone()), desktop];
    let found = places.into_iter().flatten().find(|place| exists(place));
    Ok(Address::Unix(found.unwrap_or(run)))
}

fn podman(around: &Surroundings, exists: impl Fn(&Path) -> bool) -> Result<Address, RunnerError> {
    if let Some(host) = &around.container_host {
        return parse(host, "CONTAINER_HOST", around);
    }
    let rootful = PathBuf::from("/run/podman/podman.sock");
    let own = around
        .runtime_dir
        .as_ref()
        .map(|dir| dir.join("podman/podman.sock"));
    let place = if around.is_root { Some(rootful) } else { own };
    let found = place.filter(|place| exists(place));
    Ok(found.map_or(Address::OwnPodman, Address::Unix))
}

/// `unix://`, `tcp://`, `http://`, `https://`.
fn parse(text: &str, origin: &str, around: &Surroundings) -> Result<Address, RunnerError> {
    let refused = |why: &str| RunnerError::Unsupported {
        message: format!("{origin} is {text:?}: {why}"),
    };
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| refused("it must begin with unix:// or tcp://"))?;
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
        "unix" => Err(refused("the path of a socket must be absolute")),
        "tcp" | "http" | "https" if scheme == "https" || std::env::var_os("DOCKER_TLS_VERIFY").is_some() => {
            let certificates = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from);
            let certificates = certificates
                .or_else(|| around.docker_dir())
                .ok_or_else(|| refused("set DOCKER_CERT_PATH to the directory of the certificates"))?;
            Ok(Address::Tls {
                host: format!("tcp://{rest}"),
                certificates,
            })
        }
        "tcp" | "http" => Ok(Address::Tcp(format!("tcp://{rest}"))),
        "ssh" => Err(refused(
            "engines behind ssh are not spoken to directly; forward the socket (`ssh -L \
             /tmp/engine.sock:/var/run/docker.sock HOST`) and name it, or use the backend ssh",
        )),
        _ => Err(refused("only unix://, tcp:// and https:// are known")),
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default, rename = "currentContext")]
    current_context: String,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(default, rename = "Host")]
    host: String,
}

/// The endpoint of the current `docker context`, if there is one beside the default.
fn context(around: &Surroundings) -> Result<Option<Address>, RunnerError> {
    let Some(dir) = around.docker_dir() else {
        return Ok(None);
    };
    let configured = || {
        let bytes = std::fs::read(dir.join("config.json")).ok()?;
        let config: DockerConfig = serde_json::from_slice(&bytes).ok()?;
        Some(config.current_context)
    };
    let name = around.docker_context.clone().or_else(configured);
    let Some(name) = name.filter(|name| !name.is_empty() && name != "default") else {
        return Ok(None);
    };
    let meta = dir
        .join("contexts/meta")
        .join(hex::encode(Sha256::digest(&name)))
        .join("meta.json");
    let broken = |why: String| RunnerError::Failed {
        message: format!(
            "the docker context {name:?} cannot be read from {}: {why}; choose another with `docker context use` or \
             set DOCKER_HOST",
            meta.display()
        ),
    };
    let bytes = std::fs::read(&meta).map_err(|error| broken(error.to_string()))?;
    let read: ContextMeta = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    let endpoint = read
        .endpoints
        .docker
        .ok_or_else(|| broken("it has no docker endpoint".to_owned()))?;
    parse(&endpoint.host, &format!("the docker context {name:?}"), around).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: Result<Address, RunnerError>) -> String {
        match address {
            Ok(Address::Unix(path)) => path.display().to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn docker_is_found_where_its_client_finds_it() {
        let mut around = Surroundings::default();
        let nothing = |_: &Path| false;
        assert_eq!(
            at(find(Engine::Docker, None, &around, nothing)),
            "/var/run/docker.sock"
        );
        around.runtime_dir = Some("/run/user/7".into());
        assert_eq!(
            at(find(Engine::Docker, None, &around, |_| true)),
            "/run/user/7/docker.sock"
        );
        around.docker_host = Some("unix:///x.sock".to_owned());
        assert_eq!(at(find(Engine::Docker, None, &around, nothing)), "/x.sock");
        assert_eq!(
            at(find(Engine::Docker, Some("unix:///y"), &around, nothing)),
            "/y"
        );
        let refused = at(find(Engine::Docker, Some("ssh://host"), &around, nothing));
        assert!(refused.contains("ssh -L"), "{refused}");
        assert!(at(find(Engine::Docker, Some("x.sock"), &around, nothing)).contains("unix://"));
    }

    #[test]
    fn the_current_context_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".docker");
        let around = Surroundings {
            home: Some(home.path().to_owned()),
            ..Surroundings::default()
        };
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(
            dir.join("config.json"),
            r#"{"currentContext":"colima","auths":{}}"#,
        )
        .unwrap();
        let missing = at(find(Engine::Docker, None, &around, |_| false));
        assert!(missing.contains("docker context use"), "{missing}");
        let meta = dir
            .join("contexts/meta")
            .join(hex::encode(Sha256::digest("colima")));
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"colima","Endpoints":{"docker":{"Host":"unix:///c/docker.sock","SkipTLSVerify":false}}}"#,
        )
        .unwrap();
        assert_eq!(
            at(find(Engine::Docker, None, &around, |_| false)),
            "/c/docker.sock"
        );
    }

    #[test]
    fn a_user_never_takes_podmans_root_socket() {
        let mut around = Surroundings {
            runtime_dir: Some("/run/user/7".into()),
            ..Surroundings::default()
        };
        let all = |_: &Path| true;
        assert_eq!(
            at(find(Engine::Podman, None, &around, all)),
            "/run/user/7/podman/podman.sock"
        );
        around.is_root = true;
        assert_eq!(
            at(find(Engine::Podman, None, &around, all)),
            "/run/podman/podman.sock"
        );
        assert_eq!(
            find(Engine::Podman, None, &around, |_| false).unwrap(),
            Address::OwnPodman
        );
    }

    #[test]
    fn logins_are_looked_for_where_each_engine_keeps_them() {
        let mut around = Surroundings {
            home: Some("/srv/me".into()),
            runtime_dir: Some("/run/user/7".into()),
            ..Surroundings::default()
        };
        let logins = |around: &Surroundings, engine| {
            let files = around.logins(engine);
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            files.join(" ")
        };
        assert_eq!(logins(&around, Engine::Docker), "/srv/me/.docker/config.json");
        assert_eq!(
            logins(&around, Engine::Podman),
            "/run/user/7/containers/auth.json /srv/me/.config/containers/auth.json /srv/me/.docker/config.json"
        );
        around.docker_config = Some("/etc/own".into());
        around.registry_auth_file = Some("/secret/auth.json".into());
        assert_eq!(logins(&around, Engine::Docker), "/etc/own/config.json");
        assert_eq!(logins(&around, Engine::Podman), "/secret/auth.json");
    }
}

//! One attempt of a run → the container it becomes. Pure. Every field is written here from a typed field of the spec,
//! and what is not asked for is left out: podman 4.3 takes some empty values for an answer.
//!
//! Called by `create`. Must not read anything but its arguments.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig, ResourcesUlimits,
};
use qwex_core::JobSpec;
use qwex_runner::Work;

use crate::engine::Flavor;
use crate::mounts::{self, MountError, WORKSPACE};
use crate::names;
use crate::ports::{self, PortError};
use crate::record::Record;
use crate::user::{self, Caller};

/// Set by qwex alone; a user's variable of that name is left out.
const OWN_VARIABLES: [&str; 2] = ["QWEX_RUN_ID", "QWEX_ATTEMPT"];
/// Larger than any disk: our containers' logs are never rotated away, whatever the engine's default.
const LOG_SIZE: &str = "1000t";

/// Why an attempt cannot become a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("a run in a container needs an image; name one with --image")]
    NoImage,
    #[error("the command is empty; say what to run")]
    NoCommand,
    #[error("{0}")]
    Amount(String),
    #[error("the limit {name}={text:?} must be a number, `unlimited`, or two of them as soft:hard")]
    Ulimit { name: String, text: String },
    #[error("the network {0:?} must be none, bridge, host, or the name of a network of the engine")]
    Network(String),
    #[error("ports cannot be published with the network {0}; leave out one of both")]
    PortsWithout(String),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// The container of one attempt.
pub fn container(
    work: &Work,
    record: &Record,
    flavor: Flavor,
    caller: Caller,
) -> Result<ContainerCreateBody, ManifestError> {
    let spec = &work.spec;
    if spec.command.first().is_none_or(String::is_empty) {
        return Err(ManifestError::NoCommand);
    }
    let workspace = work.workspace.as_ref().map(|workspace| workspace.dir.as_path());
    let published = ports::parse(&spec.ports)?;
    let mut host = limits(spec)?;
    host.log_config = Some(log(flavor));
    host.network_mode = network(spec)?;
    host.port_bindings = (!published.bindings.is_empty()).then_some(published.bindings);
    let mounts = mounts::mounts(workspace, &spec.mounts, flavor)?;
    host.mounts = (!mounts.is_empty()).then_some(mounts);
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone().ok_or(ManifestError::NoImage)?),
        // The command takes the place of the image's ENTRYPOINT and CMD, as `command` of a Kubernetes container does.
        entrypoint: Some(spec.command.clone()),
        cmd: Some(Vec::new()),
        env: Some(env(work)),
        labels: Some(labels(work, record)),
        working_dir: working_dir(spec, workspace.is_some()),
        user: user::user(spec.user.as_deref(), workspace.is_some(), caller),
        exposed_ports: (!published.exposed.is_empty()).then_some(published.exposed),
        // A run is over when its command is; nobody asks for its health, and podman needs systemd for it.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

/// A relative directory is one of the workspace.
fn working_dir(spec: &JobSpec, workspace: bool) -> Option<String> {
    match (&spec.working_dir, workspace) {
        (Some(dir), true) => Some(Path::new(WORKSPACE).join(dir).display().to_string()),
        (Some(dir), false) => Some(dir.clone()),
        (None, true) => Some(WORKSPACE.to_owned()),
        (None, false) => None,
    }
}

fn labels(work: &Work, record: &Record) -> HashMap<String, String> {
    let timeout = work.spec.timeout.map(|timeout| {
        let millis = timeout.as_duration().as_millis();
        (names::TIMEOUT, millis.to_string())
    });
    [
        (names::MANAGED_BY, names::QWEX.to_owned()),
        (names::RUN_ID, work.run_id.to_string()),
        (names::ATTEMPT, work.attempt.to_string()),
        (names::PROJECT, work.project.to_string()),
        (names::SPEC_HASH, record.spec_hash.clone()),
        (names::UID, record.uid.to_string()),
    ]
    .into_iter()
    .chain(timeout)
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn env(work: &Work) -> Vec<String> {
    let users = work
        .spec
        .env
        .iter()
        .filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"));
    let own = [work.run_id.to_string(), work.attempt.to_string()];
    let own = OWN_VARIABLES
        .into_iter()
        .zip(own)
        .map(|(name, value)| format!("{name}={value}"));
    users.chain(own).collect()
}

fn log(flavor: Flavor) -> HostConfigLogConfig {
    let options: &[(&str, &str)] = match flavor {
        // One file, so that nothing is dropped; compression would need a second.
        Flavor::Docker => &[("max-size", LOG_SIZE), ("max-file", "1"), ("compress", "false")],
        Flavor::Podman => &[("max-size", LOG_SIZE)],
    };
    let options = options
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    HostConfigLogConfig {
        typ: Some(flavor.log_driver().to_owned()),
        config: Some(options.collect()),
    }
}

/// What is promised is what may be used: memory without swap on top.
fn limits(spec: &JobSpec) -> Result<HostConfig, ManifestError> {
    let asked = &spec.resources;
    let amount = |error: qwex_core::resources::QuantityError| ManifestError::Amount(error.to_string());
    let memory = asked.memory_bytes().map_err(amount)?.map(clamp);
    let cpu = asked.cpu_millis().map_err(amount)?;
    let gpus = asked.gpu.filter(|count| *count > 0).map(|count| {
        vec![DeviceRequest {
            count: Some(i64::from(count)),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        }]
    });
    Ok(HostConfig {
        nano_cpus: cpu.map(|millis| clamp(millis.saturating_mul(1_000_000))),
        memory,
        memory_swap: memory,
        pids_limit: asked.pids.map(i64::from),
        device_requests: gpus,
        ulimits: ulimits(spec)?,
        ..HostConfig::default()
    })
}

fn clamp(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

fn ulimits(spec: &JobSpec) -> Result<Option<Vec<ResourcesUlimits>>, ManifestError> {
    let number = |text: &str| match text {
        "unlimited" => Some(-1),
        digits => digits.parse::<i64>().ok().filter(|limit| *limit >= 0),
    };
    let limit = |(name, text): (&String, &String)| {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        match (number(soft), number(hard)) {
            (Some(soft), Some(hard)) if hard == -1 || (soft != -1 && soft <= hard) => Ok(ResourcesUlimits {
                name: Some(name.clone()),
                soft: Some(soft),
                hard: Some(hard),
            }),
            _ => Err(ManifestError::Ulimit {
                name: name.clone(),
                text: text.clone(),
            }),
        }
    };
    let all: Vec<ResourcesUlimits> = spec.ulimits.iter().map(limit).collect::<Result<_, _>>()?;
    Ok((!all.is_empty()).then_some(all))
}

/// Words that would join another container's or process' network are no names.
fn network(spec: &JobSpec) -> Result<Option<String>, ManifestError> {
    let Some(name) = &spec.network else {
        return Ok(None);
    };
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !first
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    {
        return Err(ManifestError::Network(name.clone()));
    }
    if !spec.ports.is_empty() && (name == "none" || name == "host") {
        return Err(ManifestError::PortsWithout(name.clone()));
    }
    Ok(Some(name.clone()))
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

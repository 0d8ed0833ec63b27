//! Runs: submit, list rows, attempts, episodes, why.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qwex_core::spec::{Placement, PullPolicy};
use qwex_core::{
    Attempt, ClusterName, Failure, Flags, Imported, JobSpec, Mount, Pending, PriorityClass, Project,
    QueueName, Resources, RetryPolicy, Run, RunId, RunName, RunStatus, Span,
};
use serde::{Deserialize, Serialize};

use crate::log::LogWaiting;
use crate::strict::{StrictPlacement, StrictResources, StrictRetry};

/// Body of `POST /v1/runs`: a [`JobSpec`] with what names it. Only `command` is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// UUIDv7 minted by the client: a repeat with the same id and spec is the same run. Absent: the server mints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<RunName>,
    /// Absent: the token's project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// A list is executed as it is; a string is run by `sh -c`.
    pub command: Command,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Resources::is_empty",
        deserialize_with = "StrictResources::deserialize"
    )]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    #[serde(default, deserialize_with = "StrictRetry::deserialize")]
    pub retry: RetryPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<PriorityClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    #[serde(default, deserialize_with = "StrictPlacement::deserialize")]
    pub placement: Placement,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
}

/// A command: exec form or shell form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Command {
    Exec(Vec<String>),
    Shell(String),
}

impl Default for Command {
    fn default() -> Self {
        Self::Exec(Vec::new())
    }
}

impl From<Command> for Vec<String> {
    fn from(command: Command) -> Self {
        match command {
            Command::Exec(words) => words,
            Command::Shell(line) => vec!["sh".to_owned(), "-c".to_owned(), line],
        }
    }
}

impl SubmitRequest {
    /// The request that asks for `spec` again.
    #[must_use]
    pub fn from_spec(spec: JobSpec) -> Self {
        Self {
            id: None,
            name: None,
            project: None,
            labels: BTreeMap::new(),
            command: Command::Exec(spec.command),
            image: spec.image,
            env: spec.env,
            secrets: spec.secrets,
            working_dir: spec.working_dir,
            resources: spec.resources,
            timeout: spec.timeout,
            retry: spec.retry,
            queue: spec.queue,
            priority_class: spec.priority_class,
            cluster: spec.cluster,
            placement: spec.placement,
            pull_policy: spec.pull_policy,
            mounts: spec.mounts,
            network: spec.network,
            ports: spec.ports,
            user: spec.user,
            ulimits: spec.ulimits,
            service_account: spec.service_account,
            outputs: spec.outputs,
        }
    }

    /// The spec it asks for; not yet validated.
    #[must_use]
    pub fn into_spec(self) -> JobSpec {
        JobSpec {
            command: self.command.into(),
            image: self.image,
            env: self.env,
            secrets: self.secrets,
            working_dir: self.working_dir,
            resources: self.resources,
            timeout: self.timeout,
            retry: self.retry,
            queue: self.queue,
            priority_class: self.priority_class,
            cluster: self.cluster,
            placement: self.placement,
            pull_policy: self.pull_policy,
            mounts: self.mounts,
            network: self.network,
            ports: self.ports,
            user: self.user,
            ulimits: self.ulimits,
            service_account: self.service_account,
            outputs: self.outputs,
        }
    }
}

impl From<JobSpec> for SubmitRequest {
    /// A request for what a spec says, without a name, a project or an id.
    fn from(spec: JobSpec) -> Self {
        Self {
            id: None,
            name: None,
            project: None,
            labels: BTreeMap::new(),
            command: Command::Exec(spec.command),
            image: spec.image,
            env: spec.env,
            secrets: spec.secrets,
            working_dir: spec.working_dir,
            resources: spec.resources,
            timeout: spec.timeout,
            retry: spec.retry,
            queue: spec.queue,
            priority_class: spec.priority_class,
            cluster: spec.cluster,
            placement: spec.placement,
            pull_policy: spec.pull_policy,
            mounts: spec.mounts,
            network: spec.network,
            ports: spec.ports,
            user: spec.user,
            ulimits: spec.ulimits,
            service_account: spec.service_account,
            outputs: spec.outputs,
        }
    }
}

/// A row of `GET /v1/runs`: a run without its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunRow {
    pub id: RunId,
    #[serde(default)]
    pub name: Option<RunName>,
    pub project: Project,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub status: RunStatus,
    #[serde(default)]
    pub pending: Option<Pending>,
    #[serde(default)]
    pub failure: Option<Failure>,
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    #[serde(default)]
    pub queue: Option<QueueName>,
    pub attempt: Attempt,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub flags: Flags,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub finished_at: Option<Timestamp>,
    pub created_by: String,
    /// The run ended elsewhere and was brought here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

/// One try of a run, with everything that ran for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AttemptInfo {
    pub attempt: Attempt,
    pub status: RunStatus,
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub object: Option<String>,
    #[serde(default)]
    pub uid: Option<String>,
    #[serde(default)]
    pub failure: Option<Failure>,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub dispatched_at: Option<Timestamp>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub finished_at: Option<Timestamp>,
    pub episodes: Vec<EpisodeInfo>,
}

/// One pod or process that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EpisodeInfo {
    /// Pod UID or process identity.
    pub id: String,
    #[serde(default)]
    pub node: Option<String>,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    /// The backend's word for its end.
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub ended_at: Option<Timestamp>,
}

/// Answer of `GET /v1/runs/{id}/why`: why the run waits, failed, or where it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Why {
    pub run: RunRow,
    /// One sentence.
    pub summary: String,
    /// What to do about it, if anything.
    #[serde(default)]
    pub hint: Option<String>,
    /// Every cluster considered at the last placement.
    #[serde(default)]
    pub placement: Option<PlacementReport>,
    /// Set while bytes of its log wait for the archive.
    #[serde(default)]
    pub log_waiting: Option<LogWaiting>,
}

/// Which clusters were considered, and why each was taken or not. Stored with the run for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PlacementReport {
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    #[serde(default)]
    pub chosen: Option<ClusterName>,
    pub candidates: Vec<Candidate>,
}

/// One cluster in a placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Candidate {
    pub cluster: ClusterName,
    pub fits: bool,
    /// The filter that it failed (`health`, `draining`, `pinned`, `labels`, `queue`, `resources`), with the reason in words.
    #[serde(default)]
    pub failed_filter: Option<String>,
    pub reason: String,
    /// Higher is better; set where it fits.
    #[serde(default)]
    pub score: Option<f64>,
}

/// Body of `POST /v1/runs/{id}/rerun`. All optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RerunRequest {
    /// UUIDv7 of the new run, minted by the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
}

/// Last item of every stream of a run (`event: end`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StreamEnd {
    pub run: Run,
}

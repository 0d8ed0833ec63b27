//! The graph record of a pipeline: what is stored, and what `-o json` prints.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use qwex_core::{Failure, JobSpec, RunId, RunName, RunStatus};
use serde::{Deserialize, Serialize};

use super::artifacts::{Artifact, Moment};

/// Version of the record that this qwex writes.
pub const VERSION: u64 = 1;

/// Identity of a pipeline: a UUIDv7, like that of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PipelineId(RunId);

impl PipelineId {
    #[must_use]
    pub fn mint() -> Self {
        Self(RunId::mint())
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PipelineId {
    type Err = qwex_core::ids::RunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A pipeline: its stages and how far they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    pub version: u64,
    pub id: PipelineId,
    #[serde(default)]
    pub name: Option<String>,
    /// The project file that it was made from.
    pub file: String,
    /// Of the whole: the worst of its stages.
    pub status: RunStatus,
    /// Most stages at the same time; `None`: as many as are free.
    #[serde(default)]
    pub max_parallel: Option<u32>,
    /// Every stage runs, whatever ran before.
    #[serde(default)]
    pub no_cache: bool,
    /// How often it was taken up again after its end.
    #[serde(default)]
    pub resumed: u32,
    pub created_at: Timestamp,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Why it does not go on now although something could run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Each after those that it needs.
    pub stages: Vec<StageRecord>,
}

/// Where a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageStatus {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    /// It never ran: its `if` did not hold, or a stage that it needs did not succeed.
    Skipped,
}

impl StageStatus {
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped => true,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// A stage and its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Like `train[lr=0.1,seed=1]`.
    pub name: String,
    /// The stage of the file.
    pub stage: String,
    pub run_name: RunName,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, String>,
    #[serde(default)]
    pub needs: Vec<String>,
    pub backend: String,
    /// Machine of the backend ssh, by the user's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What its command is run through: `uv run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_by: Option<String>,
    /// The `if`, with its variables filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    #[serde(default)]
    pub allow_failure: bool,
    /// Globs; `None`: none were named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    #[serde(default)]
    pub no_cache: bool,
    /// Filled in, but for the id of the run.
    pub spec: JobSpec,
    pub status: StageStatus,
    /// A sentence beside the status.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether a failure before it is why it was skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped_by_failure: bool,
    /// It was given up without anybody knowing whether its run goes on, or what its run made is still to come: no other run
    /// before that is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// Minted before anything is handed over. Of a reused stage: the run that it is reused from.
    pub run_id: RunId,
    /// The runs of it before the pipeline was resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_runs: Vec<RunId>,
    #[serde(default)]
    pub reused_from: Option<RunId>,
    /// SHA-256 over its command, its surroundings, its declared inputs and the outputs of stages before.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The key under which its success can be used again, if it says enough of itself for that.
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub attempt: Option<u32>,
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub failure: Option<Failure>,
    #[serde(default)]
    pub image_digest: Option<String>,
    /// The files that it made.
    #[serde(default)]
    pub outputs: Vec<Artifact>,
    /// Since when what changes in the project's directory is of its making, by the clock of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched: Option<Moment>,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// How it ended before the pipeline was resumed; still good if it depends on the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// A success of before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub run_id: RunId,
    pub reused_from: Option<RunId>,
    pub fingerprint: String,
    pub key: Option<String>,
    pub attempt: Option<u32>,
    pub image_digest: Option<String>,
    pub outputs: Vec<Artifact>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl StageRecord {
    /// One that nothing has become of yet, with the id of its run; it needs nothing, and nothing is special about it.
    #[must_use]
    pub fn new(name: String, stage: String, run_name: RunName, backend: String, spec: JobSpec) -> Self {
        Self {
            name,
            stage,
            run_name,
            matrix: BTreeMap::new(),
            needs: Vec::new(),
            backend,
            host: None,
            runs_by: None,
            condition: None,
            allow_failure: false,
            inputs: None,
            no_cache: false,
            spec,
            status: StageStatus::Pending,
            reason: None,
            skipped_by_failure: false,
            in_doubt: false,
            run_id: RunId::mint(),
            earlier_runs: Vec::new(),
            reused_from: None,
            fingerprint: None,
            key: None,
            attempt: None,
            exit_code: None,
            failure: None,
            image_digest: None,
            outputs: Vec::new(),
            launched: None,
            started_at: None,
            finished_at: None,
            kept: None,
        }
    }

    /// It succeeded, or its failure is allowed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self.status {
            StageStatus::Succeeded => true,
            StageStatus::Failed => self.allow_failure,
            StageStatus::Pending | StageStatus::Running | StageStatus::Cancelled | StageStatus::Skipped => {
                false
            }
        }
    }

    /// Whether it works in the project's directory itself, beside whatever else does.
    #[must_use]
    pub fn works_in_place(&self) -> bool {
        ["local", "docker", "podman"].contains(&self.backend.as_str())
    }

    /// Nobody sees its run now, or saw its end.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        self.in_doubt || (self.status == StageStatus::Running && self.reason.is_some())
    }

    /// It failed and that is not allowed, or it was skipped for such a failure.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        match self.status {
            StageStatus::Failed => !self.allow_failure,
            StageStatus::Cancelled => true,
            StageStatus::Skipped => self.skipped_by_failure,
            StageStatus::Pending | StageStatus::Running | StageStatus::Succeeded => false,
        }
    }
}

impl Pipeline {
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&StageRecord> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The stages that it needs, and those that they need, in order.
    #[must_use]
    pub fn ancestors(&self, stage: &StageRecord) -> Vec<&StageRecord> {
        let mut wanted: Vec<&str> = stage.needs.iter().map(String::as_str).collect();
        let mut next = 0;
        while let Some(name) = wanted.get(next).copied() {
            next += 1;
            let more = self.find(name).map_or(&[][..], |found| &found.needs);
            let more: Vec<&str> = more
                .iter()
                .map(String::as_str)
                .filter(|name| !wanted.contains(name))
                .collect();
            wanted.extend(more);
        }
        let all = self.stages.iter();
        all.filter(|one| wanted.contains(&one.name.as_str())).collect()
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stages.iter().all(|stage| stage.status.is_over())
    }

    /// The status of the whole, once every stage is over.
    #[must_use]
    pub fn verdict(&self) -> RunStatus {
        let any = |status: StageStatus| self.stages.iter().any(|stage| stage.status == status);
        if self
            .stages
            .iter()
            .any(|stage| stage.status == StageStatus::Failed && !stage.allow_failure)
        {
            RunStatus::Failed
        } else if any(StageStatus::Cancelled) {
            RunStatus::Cancelled
        } else {
            RunStatus::Succeeded
        }
    }

    /// Stages that are over, and all.
    #[must_use]
    pub fn done(&self) -> (usize, usize) {
        let over = self.stages.iter().filter(|stage| stage.status.is_over()).count();
        (over, self.stages.len())
    }
}

/// Pipelines for tests.
#[cfg(test)]
pub mod sample {
    use super::*;

    pub fn stage(name: &str, needs: &[&str]) -> StageRecord {
        StageRecord {
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            ..StageRecord::new(
                name.to_owned(),
                name.to_owned(),
                RunName::new(name).unwrap(),
                "local".to_owned(),
                JobSpec::for_command(["true"]),
            )
        }
    }

    pub fn pipeline(stages: Vec<StageRecord>) -> Pipeline {
        Pipeline {
            version: VERSION,
            id: PipelineId::mint(),
            name: None,
            file: "qwex.yaml".to_owned(),
            status: RunStatus::Running,
            max_parallel: None,
            no_cache: false,
            resumed: 0,
            created_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            waiting: None,
            stages,
        }
    }
}

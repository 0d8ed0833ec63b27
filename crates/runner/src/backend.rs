//! [`Backend`]: a Runner and a Watcher together with what a command line needs to know about them before
//! anything starts and after everything is over.
//!
//! Implemented by every runner crate, used by the client through its registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use qwex_core::{JobSpec, MountKind, SpecProblem, Usage, secret_from_env};

use crate::clock::Skew;
use crate::error::RunnerError;
use crate::runner::{Handle, Runner, Work, Workspace};
use crate::watcher::Watcher;

/// Something that a spec may ask for and that not every backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    Image,
    /// Secrets that the backend keeps.
    Secrets,
    /// Secrets out of the caller's own environment, which never stand in an object or a record.
    EnvSecrets,
    Cpu,
    Memory,
    Gpu,
    Pids,
    Ulimits,
    Queue,
    /// `priority_class`, in a queue.
    Priority,
    /// `cluster` and `placement`: a choice among several.
    Placement,
    PullPolicy,
    Mount(MountKind),
    Network,
    Ports,
    User,
    ServiceAccount,
    Outputs,
    /// stdout and stderr are told apart.
    SeparateStreams,
}

impl Feature {
    /// What people call it.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Image => "images".to_owned(),
            Self::Secrets => "secrets by reference".to_owned(),
            Self::EnvSecrets => "secrets out of the caller's environment".to_owned(),
            Self::Cpu => "a limit of cpu".to_owned(),
            Self::Memory => "a limit of memory".to_owned(),
            Self::Gpu => "GPUs".to_owned(),
            Self::Pids => "a limit of processes".to_owned(),
            Self::Ulimits => "ulimits".to_owned(),
            Self::Queue => "queues".to_owned(),
            Self::Priority => "priority classes".to_owned(),
            Self::Placement => "a choice of clusters".to_owned(),
            Self::PullPolicy => "a pull policy".to_owned(),
            Self::Mount(kind) => format!("mounts of kind {kind}"),
            Self::Network => "container networks".to_owned(),
            Self::Ports => "published ports".to_owned(),
            Self::User => "a user of its own".to_owned(),
            Self::ServiceAccount => "service accounts".to_owned(),
            Self::Outputs => "outputs brought back".to_owned(),
            Self::SeparateStreams => "stdout and stderr apart".to_owned(),
        }
    }

    /// What a spec asks for, with the JSON pointer of the field that asks.
    #[must_use]
    pub fn asked(spec: &JobSpec) -> Vec<(Self, String)> {
        let mut asked = Vec::new();
        let mut ask = |when: bool, feature: Self, pointer: &str| {
            if when {
                asked.push((feature, pointer.to_owned()));
            }
        };
        ask(spec.image.is_some(), Self::Image, "/image");
        let of_env = |reference: &String| secret_from_env(reference).is_some();
        ask(!spec.secrets.values().all(of_env), Self::Secrets, "/secrets");
        ask(spec.secrets.values().any(of_env), Self::EnvSecrets, "/secrets");
        ask(spec.resources.cpu.is_some(), Self::Cpu, "/resources/cpu");
        ask(spec.resources.memory.is_some(), Self::Memory, "/resources/memory");
        ask(
            spec.resources.gpu.is_some_and(|gpu| gpu > 0),
            Self::Gpu,
            "/resources/gpu",
        );
        ask(spec.resources.pids.is_some(), Self::Pids, "/resources/pids");
        ask(spec.queue.is_some(), Self::Queue, "/queue");
        ask(spec.priority_class.is_some(), Self::Priority, "/priority_class");
        ask(spec.cluster.is_some(), Self::Placement, "/cluster");
        ask(
            !spec.placement.require.is_empty(),
            Self::Placement,
            "/placement/require",
        );
        ask(spec.pull_policy.is_some(), Self::PullPolicy, "/pull_policy");
        ask(spec.network.is_some(), Self::Network, "/network");
        ask(!spec.ports.is_empty(), Self::Ports, "/ports");
        ask(spec.user.is_some(), Self::User, "/user");
        ask(!spec.ulimits.is_empty(), Self::Ulimits, "/ulimits");
        ask(
            spec.service_account.is_some(),
            Self::ServiceAccount,
            "/service_account",
        );
        ask(!spec.outputs.is_empty(), Self::Outputs, "/outputs");
        for (index, mount) in spec.mounts.iter().enumerate() {
            asked.push((Self::Mount(mount.kind), format!("/mounts/{index}/kind")));
        }
        asked
    }
}

/// What a run may ask of a server, whichever of its clusters takes it.
pub const SERVER_FEATURES: &[Feature] = &[
    Feature::Image,
    Feature::Secrets,
    Feature::Cpu,
    Feature::Memory,
    Feature::Gpu,
    Feature::Queue,
    Feature::Priority,
    Feature::Placement,
    Feature::PullPolicy,
];

/// What a backend says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    pub version: Option<String>,
    /// Where and as what it was found, in one line.
    pub detail: String,
    /// What does not work there although the backend does, each with what to do.
    pub notes: Vec<String>,
    /// Its clock against ours; `None`: it is the same one, or nobody tells.
    pub skew: Option<Skew>,
}

/// What is known of an attempt after its end, beside how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// `sha256:…`, with the repository where it is known.
    pub image_digest: Option<String>,
    /// Machine or node that executed it.
    pub host: Option<String>,
    pub usage: Option<Usage>,
}

/// A backend as a command line sees it. It ends an attempt at its timeout by itself, at the latest while somebody watches it:
/// how long a command has run, nobody can tell who only compares the clocks of two machines.
#[async_trait]
pub trait Backend: Runner + Watcher {
    /// The word of `--backend`.
    fn name(&self) -> &str;

    /// What a spec may ask for here.
    fn features(&self) -> &[Feature];

    /// Everything in a spec that is refused here, before anything is submitted.
    fn validate(&self, spec: &JobSpec) -> Vec<SpecProblem> {
        unsupported(self.name(), self.features(), spec)
    }

    /// Looks whether it works. Has a deadline of its own and never hangs.
    ///
    /// # Errors
    /// It does not; the message says why and what to do.
    async fn probe(&self) -> Result<Probe, RunnerError>;

    /// How long to pause between two looks at a cancelled run.
    fn cancel_pause(&self) -> Duration {
        Duration::from_millis(50)
    }

    /// What is known after the end.
    ///
    /// # Errors
    /// The backend cannot be asked.
    async fn details(&self, _handle: &Handle) -> Result<Details, RunnerError> {
        Ok(Details::default())
    }

    /// Brings the files of `workspace` to an attempt that was submitted with it, where a submit alone cannot: on a
    /// backend that starts things in its own time. Whoever keeps the run calls it right after the submit and lets
    /// it run beside the watch; it returns once nothing of the attempt will ask for files any more, and may be
    /// dropped when the attempt is over. Calling it again, also from another process, does no harm.
    ///
    /// # Errors
    /// The files cannot be read or sent, and waiting does not mend it: the attempt should be cancelled.
    async fn supply(&self, _handle: &Handle, _workspace: &Workspace) -> Result<(), RunnerError> {
        Ok(())
    }

    /// Goes on with what a submit began behind its answer, a pull of the image for instance, and what may have ended
    /// with the process that submitted. Called before anything is watched by a process that did not submit the
    /// attempt itself. Starts nothing that was started before.
    ///
    /// # Errors
    /// Those of [`Runner::submit`].
    async fn resume(&self, _work: &Work, _handle: &Handle) -> Result<(), RunnerError> {
        Ok(())
    }

    /// After the end and before [`Backend::remove`]: brings the files that match `outputs` into
    /// `workspace`; gives their paths below it. Where the run worked in that very directory there is
    /// nothing to bring.
    ///
    /// # Errors
    /// They cannot be read or written.
    async fn collect(
        &self,
        _handle: &Handle,
        _workspace: &Path,
        _outputs: &[String],
    ) -> Result<Vec<PathBuf>, RunnerError> {
        Ok(Vec::new())
    }

    /// Removes what the attempt left on the backend; called once result and log are stored by the caller.
    /// Idempotent.
    ///
    /// # Errors
    /// The backend cannot be asked, or it refuses.
    async fn remove(&self, handle: &Handle) -> Result<(), RunnerError>;
}

/// Problems for whatever `spec` asks and `features` lack.
#[must_use]
pub fn unsupported(name: &str, features: &[Feature], spec: &JobSpec) -> Vec<SpecProblem> {
    Feature::asked(spec)
        .into_iter()
        .filter(|(feature, _)| !features.contains(feature))
        .map(|(feature, pointer)| SpecProblem {
            pointer,
            code: "unsupported",
            detail: format!(
                "the backend {name} has no {}; leave it out or choose another backend (`qwexctl doctor` lists what each can do)",
                feature.words()
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use qwex_core::Mount;

    use super::*;

    #[test]
    fn what_is_asked_and_absent_is_refused() {
        let mut spec = JobSpec::for_command(["true"]);
        assert_eq!(unsupported("local", &[], &spec), []);
        spec.image = Some("busybox".to_owned());
        spec.mounts = vec![Mount {
            kind: MountKind::Pvc,
            source: Some("data".to_owned()),
            target: "/data".to_owned(),
            read_only: false,
            size: None,
        }];
        let problems = unsupported("docker", &[Feature::Image], &spec);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].pointer, "/mounts/0/kind");
        assert!(problems[0].detail.contains("docker has no mounts of kind pvc"));
    }
}

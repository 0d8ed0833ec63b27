//! The same backend with the user's own rights: from a kubeconfig of this machine, no server between.
//!
//! Called by the command line. [`K8sBackend::connect_direct`] makes it, [`Backend`] is what it then is; all that acts and
//! reads is shared with the server.

mod identity;
mod kubeconfig;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use qwex_core::{ClusterName, JobSpec, QueueName, SpecProblem};
use qwex_runner::backend::{Backend, Details, Feature, Probe};
use qwex_runner::{Handle, RunnerError, Workspace};

pub use identity::{Identity, Placement};
pub use kubeconfig::Surroundings;
pub(crate) use report::with_way;

use crate::backend::{K8sBackend, NAME_A_QUEUE};
use crate::config::{Access, FilesPolicy, K8sConfig, Measured, Names, Policy, Tuning};
use crate::connect::ConnectError;
use crate::{cancel, check, files, observe};

/// The longest a look at a cluster takes.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// The word of `--backend`. Both are one runner: `kueue` only means that every run waits in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Word {
    #[default]
    K8s,
    Kueue,
}

impl Word {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::K8s => "k8s",
            Self::Kueue => "kueue",
        }
    }
}

/// How the user reaches a cluster, and what the user's policy lets runs do there.
#[derive(Debug, Clone, Default)]
pub struct K8sDirectConfig {
    pub word: Word,
    /// One kubeconfig; `None`: the list in `KUBECONFIG`, `~/.kube/config`, the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// `None`: the kubeconfig's current one.
    pub context: Option<String>,
    /// `None`: that of the context, else `default`.
    pub namespace: Option<String>,
    /// The cluster that the context led to before, by [`K8sBackend::placement`]: one that leads to another by now is refused.
    pub identity: Option<Identity>,
    /// LocalQueue of runs that name none. With [`Word::Kueue`] and without one, the namespace's only queue.
    pub queue: Option<QueueName>,
    /// Directories of nodes that runs may mount. Empty: none.
    pub host_paths: Vec<String>,
    /// Service accounts that runs may name; `None`: any, the cluster knows what they may do.
    pub service_accounts: Option<Vec<String>>,
    /// How files go over and back.
    pub files: FilesPolicy,
    /// `None`: the usual patience.
    pub tuning: Option<Tuning>,
    /// `None`: those of this process.
    pub surroundings: Option<Surroundings>,
}

impl K8sBackend {
    /// Finds the cluster and makes the clients. A program that the kubeconfig names to log in is run here. Nothing is
    /// asked of the cluster yet, but for which it is where one is expected.
    ///
    /// # Errors
    /// No kubeconfig is there, it lacks the context, it cannot be used, or it leads to another cluster than the one expected.
    pub async fn connect_direct(config: K8sDirectConfig) -> Result<Self, ConnectError> {
        let around = config.surroundings.unwrap_or_else(Surroundings::of_process);
        let found = kubeconfig::find(config.kubeconfig.as_deref(), config.context.as_deref(), &around)?;
        let service_accounts = match config.service_accounts {
            None => Names::Any,
            Some(names) => Names::Only(names),
        };
        let policy = Policy {
            any_user: true,
            env_secrets: true,
            host_paths: config.host_paths,
            service_accounts,
            files: Some(config.files),
        };
        let k8s = K8sConfig {
            word: config.word,
            cluster: None::<ClusterName>,
            address: Some(found.context.clone()),
            namespace: Some(config.namespace.unwrap_or(found.namespace)),
            identity: config.identity.as_ref().and_then(|expected| expected.uid.clone()),
            queue: config.queue,
            measured: Measured::Asked,
            policy,
            tuning: config.tuning.unwrap_or_default(),
            access: Access::Own {
                kubeconfig: Box::new(found.kubeconfig),
                context: found.context,
                origin: found.origin,
            },
        };
        let backend = Self::made(k8s).await?;
        if let Some(expected) = &config.identity {
            backend.must_be(expected).await?;
        }
        Ok(backend)
    }
}

#[async_trait]
impl Backend for K8sBackend {
    fn name(&self) -> &str {
        self.config().word.as_str()
    }

    fn features(&self) -> &[Feature] {
        &self.shared.features
    }

    fn validate(&self, spec: &JobSpec) -> Vec<SpecProblem> {
        let config = self.config();
        let mut problems = check::problems(self.name(), self.features(), &config.policy, spec);
        let has_queue = spec.queue.is_some() || config.queue.is_some() || config.word == Word::Kueue;
        if let Some(class) = spec.priority_class.as_ref().filter(|_| !has_queue) {
            problems.push(SpecProblem {
                pointer: "/priority_class".to_owned(),
                code: "needs_queue",
                detail: format!("the priority class {class} is for runs in a queue; {NAME_A_QUEUE}"),
            });
        }
        problems
    }

    async fn probe(&self) -> Result<Probe, RunnerError> {
        let look = async {
            let found = K8sBackend::probe(self).await?;
            let mut probe = report::probe(self.config(), &found, self.may_exec().await?);
            probe.detail = format!("{}, usage {}", probe.detail, self.who_measures().await?);
            Ok(probe)
        };
        match tokio::time::timeout(PROBE_DEADLINE, look).await {
            Ok(probe) => probe.map_err(|error| report::unusable(self.config(), error)),
            Err(_) => Err(report::unusable(
                self.config(),
                RunnerError::Unreachable {
                    message: format!("no answer within {}s", PROBE_DEADLINE.as_secs()),
                },
            )),
        }
    }

    fn cancel_pause(&self) -> Duration {
        Duration::from_millis(500)
    }

    async fn details(&self, handle: &Handle) -> Result<Details, RunnerError> {
        let pods = cancel::pods_of(&self.shared.clients.logs, self.config(), handle).await?;
        let usage = self.shared.usages().of((handle.run_id, handle.attempt));
        Ok(Details {
            usage,
            ..observe::details(&pods)
        })
    }

    async fn supply(&self, handle: &Handle, workspace: &Workspace) -> Result<(), RunnerError> {
        files::supply(&self.shared, handle, workspace).await
    }

    async fn collect(
        &self,
        handle: &Handle,
        workspace: &Path,
        outputs: &[String],
    ) -> Result<Vec<PathBuf>, RunnerError> {
        files::collect(&self.shared, handle, workspace, outputs).await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), RunnerError> {
        self.shared.usages().forget((handle.run_id, handle.attempt));
        cancel::remove(&self.shared.clients.acts, self.config(), handle).await
    }
}

//! [`K8sBackend`]: one cluster as `Runner` and `Watcher`. Holds the clients and hands each question
//! to the module that answers it.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use qwex_core::{Attempt, BackendKind, Fact, Observation, QueueName, RunId};
use qwex_runner::backend::Feature;
use qwex_runner::{
    CancelProgress, Handle, LogItem, LogPosition, LogSource, Runner, RunnerError, SightingStream, Submitted,
    WatchPosition, Watcher, Work,
};
use tokio::sync::{Mutex, Semaphore};

use crate::cancel::{self, Found};
use crate::config::K8sConfig;
use crate::connect::{self, Clients, ConnectError};
use crate::decode::JobView;
use crate::direct::Word;
use crate::observe::{self, Evidence, Patience, PodEvidence};
use crate::probe::{self, Check, ProbeReport, QueueInfo};
use crate::trouble::{self, Still};
use crate::usage::Usages;
use crate::watch::{self, Retained};
use crate::{check, direct, logs, submit};

/// What mends a priority class without a queue.
pub(crate) const NAME_A_QUEUE: &str = "name the queue with --queue, or leave the class out";

/// One cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct K8sBackend {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub config: K8sConfig,
    pub clients: Clients,
    /// What runs may ask for here.
    pub features: Vec<Feature>,
    /// Version of Kueue's API, once seen served; asked again while it is not.
    pub kueue: Mutex<Option<String>>,
    /// What the last watch knew, for the next one.
    pub retained: std::sync::Mutex<Retained>,
    /// What runs used, as far as it was measured.
    pub usages: std::sync::Mutex<Usages>,
    /// Turns at asking why something stands still.
    pub explains: Semaphore,
}

impl K8sBackend {
    /// Reads the credentials and makes the clients. If the config pins an identity, the cluster is
    /// asked for it, so that a swapped address is refused before anything is done there; an
    /// unreachable cluster is no error then, its calls will say so.
    pub async fn connect(config: K8sConfig) -> Result<Self, ConnectError> {
        let backend = Self::made(config).await?;
        backend.check_identity().await?;
        Ok(backend)
    }

    /// Without a look at which cluster it is.
    pub(crate) async fn made(config: K8sConfig) -> Result<Self, ConnectError> {
        let clients = connect::clients(&config.access, &config.tuning).await?;
        Ok(Self {
            shared: Arc::new(Shared {
                features: check::features(&config.policy),
                usages: std::sync::Mutex::new(Usages::new(config.measured)),
                explains: Semaphore::new(4),
                config,
                clients,
                kueue: Mutex::new(None),
                retained: std::sync::Mutex::default(),
            }),
        })
    }

    /// Reach, version, identity, rights and queues of the cluster.
    pub async fn probe(&self) -> Result<ProbeReport, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        probe::probe(&clients.acts, config.namespace.as_deref()).await
    }

    /// The LocalQueues that runs can name now; none where Kueue is not served.
    ///
    /// # Errors
    /// The cluster does not answer, or does not let us list them.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        match self.shared.kueue_version().await? {
            Some(version) => probe::queues(&clients.acts, &version, config.namespace.as_deref()).await,
            None => Ok(Vec::new()),
        }
    }

    /// What the backend was made from.
    #[must_use]
    pub fn config(&self) -> &K8sConfig {
        &self.shared.config
    }

    /// Whether files can be carried into pods and out of them.
    pub(crate) async fn may_exec(&self) -> Result<Check, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        Ok(probe::may_exec(&clients.acts, config.namespace.as_deref()).await?)
    }

    /// Who tells what runs use, in words that follow "usage".
    pub(crate) async fn who_measures(&self) -> Result<&'static str, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        Ok(probe::who_measures(&clients.acts, config.namespace.as_deref()).await?)
    }

    /// The queue that a run waits in: its own, the config's, for `kueue` the only one there is.
    async fn queue_of(&self, work: &Work) -> Result<Option<QueueName>, RunnerError> {
        let config = &self.shared.config;
        let named = work.spec.queue.clone().or_else(|| config.queue.clone());
        if named.is_none() && config.word == Word::K8s {
            return Ok(None);
        }
        if self.shared.kueue_version().await?.is_none() {
            // A suspended Job without Kueue would wait for ever.
            let message = match named {
                Some(queue) => format!("the run asks for queue {queue}, but this cluster has no Kueue"),
                None => "this cluster has no Kueue; use the backend k8s, or have Kueue installed".to_owned(),
            };
            return Err(RunnerError::Unsupported { message });
        }
        match named {
            Some(queue) => Ok(Some(queue)),
            None => self.only_queue().await.map(Some),
        }
    }

    async fn only_queue(&self) -> Result<QueueName, RunnerError> {
        let queues = self.queues().await?;
        let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
        let unclear = || RunnerError::Unsupported {
            message: format!(
                "the run names no queue and namespace {} has {}; name one with --queue",
                self.shared.config.namespace.as_deref().unwrap_or("default"),
                match names.as_slice() {
                    [] => "no LocalQueue".to_owned(),
                    several => format!("several: {}", several.join(", ")),
                }
            ),
        };
        match names.as_slice() {
            [only] => QueueName::new(*only).map_err(|_| unclear()),
            _ => Err(unclear()),
        }
    }

    /// Kueue makes no Workload for a class that is not there, and says nothing to the run.
    async fn check_priority(&self, work: &Work, queue: Option<&QueueName>) -> Result<(), RunnerError> {
        let Some(class) = &work.spec.priority_class else {
            return Ok(());
        };
        let (Some(_), Some(version)) = (queue, self.shared.kueue_version().await?) else {
            let message = format!("the priority class {class} is for runs in a queue; {NAME_A_QUEUE}");
            return Err(RunnerError::Unsupported { message });
        };
        let known = probe::priority_class(&self.shared.clients.acts, &version, class.as_str()).await?;
        if known == Some(false) {
            let message = format!(
                "this cluster has no priority class {class}; `kubectl get workloadpriorityclasses` lists those that it has"
            );
            return Err(RunnerError::Rejected { message });
        }
        Ok(())
    }

    async fn check_identity(&self) -> Result<(), ConnectError> {
        let Some(expected) = &self.shared.config.identity else {
            return Ok(());
        };
        match probe::identity(&self.shared.clients.acts).await {
            Ok(Some(found)) if found != *expected => Err(ConnectError::OtherCluster {
                expected: expected.clone(),
                found,
            }),
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the cluster's identity could not be checked");
                Ok(())
            }
        }
    }
}

impl Shared {
    /// The version of Kueue's API to read, if the cluster serves one.
    pub async fn kueue_version(&self) -> Result<Option<String>, RunnerError> {
        let mut known = self.kueue.lock().await;
        if known.is_none() {
            *known = probe::kueue_version(&self.clients.acts).await?;
        }
        Ok(known.clone())
    }

    pub fn retained(&self) -> std::sync::MutexGuard<'_, Retained> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn usages(&self) -> std::sync::MutexGuard<'_, Usages> {
        self.usages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what the attempt uses is measured.
    fn want_usage(&self, run_id: RunId, attempt: Attempt) {
        self.usages().want((run_id, attempt));
    }
}

#[async_trait]
impl Runner for K8sBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::K8s
    }

    async fn submit(&self, work: &Work) -> Result<Submitted, RunnerError> {
        let submitted = self.hand_over(work).await;
        submitted.map_err(|error| direct::with_way(self.config(), error))
    }

    async fn cancel(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        cancel::cancel(&self.shared.clients.acts, &self.shared.config, handle).await
    }

    async fn release(&self, handle: &Handle) -> Result<(), RunnerError> {
        self.shared.usages().forget((handle.run_id, handle.attempt));
        cancel::release(&self.shared.clients.acts, &self.shared.config, handle).await
    }
}

#[async_trait]
impl Watcher for K8sBackend {
    async fn watch(&self, from: Option<WatchPosition>) -> Result<SightingStream, RunnerError> {
        watch::watch(Arc::clone(&self.shared), from).await
    }

    async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        self.shared.want_usage(handle.run_id, handle.attempt);
        match cancel::find_job(&clients.watches, config, handle).await? {
            Found::Ours(job) => self.describe(handle, &job).await,
            Found::Absent { message } => self.prove_absent(handle, message).await,
        }
    }

    async fn list_logs(&self, handle: &Handle) -> Result<Vec<LogSource>, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        let pods = cancel::pods_of(&clients.logs, config, handle).await?;
        let of_pod = |pod| logs::sources(handle.run_id, handle.attempt, pod);
        Ok(pods.iter().flat_map(of_pod).collect())
    }

    async fn read_log(
        &self,
        source: &LogSource,
        from: LogPosition,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        logs::read(
            clients.logs.clone(),
            config.tuning.log_stall,
            source,
            &from,
            follow,
        )
    }
}

impl K8sBackend {
    async fn hand_over(&self, work: &Work) -> Result<Submitted, RunnerError> {
        let shared = &self.shared;
        let queue = self.queue_of(work).await?;
        self.check_priority(work, queue.as_ref()).await?;
        shared.want_usage(work.run_id, work.attempt);
        submit::submit(&shared.clients.acts, &shared.config, work, queue).await
    }

    /// What one read of an attempt's objects says.
    async fn describe(&self, handle: &Handle, job: &JobView) -> Result<Vec<Observation>, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        let pinned = cancel::handle_of(job, handle.run_id, handle.attempt);
        let pods = cancel::pods_of(&clients.watches, config, &pinned).await?;
        let still = match pods.as_slice() {
            _ if job.is_suspended() => None,
            [] => Some(Still::Job(job.metadata.uid.clone())),
            some => {
                let silent = some.iter().find(|pod| observe::is_being_made(pod));
                silent.map(|pod| Still::Pod(pod.metadata.uid.clone()))
            }
        };
        let trouble = match &still {
            Some(still) => trouble::trouble(&clients.watches, &job.metadata.namespace, still).await,
            None => None,
        };
        let workload = match job.is_suspended() {
            true => watch::workload_of(&self.shared, job).await,
            false => None,
        };
        let pods: Vec<PodEvidence> = pods.into_iter().map(PodEvidence::of).collect();
        let evidence = Evidence {
            run_id: handle.run_id,
            attempt: handle.attempt,
            job,
            job_deleted: false,
            pods: &pods,
            workload: workload.as_ref(),
            trouble: trouble.as_deref(),
            now: Timestamp::now(),
            patience: Patience::from(&config.tuning),
        };
        Ok(observe::observe(&evidence).all())
    }

    /// The Job was not found by name. That counts only if the cluster is still the one that was
    /// registered: a swapped address has none of our objects either.
    async fn prove_absent(&self, handle: &Handle, message: String) -> Result<Vec<Observation>, RunnerError> {
        let Shared { config, clients, .. } = &*self.shared;
        if handle.backend.uid.is_none() {
            // Never pinned, so nothing that was there is gone: it may still be on its way.
            return Ok(Vec::new());
        }
        if let Some(expected) = &config.identity {
            let found = probe::identity(&clients.watches).await?;
            if found.is_some_and(|found| found != *expected) {
                let message = "the address answers as another cluster".to_owned();
                return Err(RunnerError::Unreachable { message });
            }
        }
        Ok(vec![Observation {
            run_id: handle.run_id,
            attempt: handle.attempt,
            uid: handle.backend.uid.clone(),
            at: Timestamp::now(),
            fact: Fact::Gone { message },
        }])
    }
}

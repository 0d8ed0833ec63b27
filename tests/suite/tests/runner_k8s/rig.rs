//! A backend in a namespace of its own, works for it, and a listener that keeps all sightings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use qwex_core::{
    Attempt, BackendInfo, BackendKind, Ending, Fact, Failure, JobSpec, ObjectUid, Project, Resources, RunId,
};
use qwex_runner::{
    Handle, LogItem, LogPosition, LogSource, Runner as _, Sighting, WatchPosition, Watcher as _, Work,
};
use qwex_runner_k8s::{K8sBackend, K8sConfig, K8sDirectConfig, Tuning, manifest};
use qwex_testbed::http_proxy::HttpProxy;
use qwex_testbed::{Cluster, images, wait};
use tokio_util::task::AbortOnDropHandle;

/// Long, because the machine may build at the same time; each wait ends as soon as it can.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A backend and a plain client in one namespace.
pub struct Rig {
    pub backend: K8sBackend,
    pub namespace: String,
    pub client: kube::Client,
}

/// Patience for tests.
pub fn tuning() -> Tuning {
    Tuning {
        start_deadline: Duration::from_secs(20),
        config_grace: Duration::from_secs(3),
        log_stall: Duration::from_secs(2),
        call_deadline: Duration::from_secs(20),
        ..Tuning::default()
    }
}

pub fn config(kubeconfig: &str, namespace: &str) -> K8sConfig {
    K8sConfig {
        namespace: Some(namespace.to_owned()),
        tuning: tuning(),
        ..K8sConfig::from_kubeconfig(kubeconfig)
    }
}

impl Rig {
    pub async fn on(cluster: &Cluster) -> Result<Self> {
        let namespace = cluster.namespace("k8s").await?;
        Self::at(cluster.kubeconfig(), cluster.client().await?, namespace).await
    }

    /// Through a proxy that does harm; the plain client goes past it.
    pub async fn behind(proxy: &HttpProxy, cluster: &Cluster) -> Result<Self> {
        let namespace = cluster.namespace("k8s").await?;
        Self::at(&proxy.kubeconfig_text()?, cluster.client().await?, namespace).await
    }

    pub async fn at(kubeconfig: &str, client: kube::Client, namespace: String) -> Result<Self> {
        Self::with(config(kubeconfig, &namespace), client).await
    }

    /// With the rights of a user of the command line.
    pub async fn direct(cluster: &Cluster, change: impl FnOnce(&mut K8sDirectConfig)) -> Result<Self> {
        let namespace = cluster.namespace("direct").await?;
        let mut config = K8sDirectConfig {
            kubeconfig: Some(cluster.kubeconfig_path()),
            namespace: Some(namespace.clone()),
            tuning: Some(tuning()),
            ..K8sDirectConfig::default()
        };
        change(&mut config);
        Ok(Self {
            backend: K8sBackend::connect_direct(config).await?,
            namespace,
            client: cluster.client().await?,
        })
    }

    pub async fn with(config: K8sConfig, client: kube::Client) -> Result<Self> {
        Ok(Self {
            namespace: config.namespace.clone().context("one namespace")?,
            backend: K8sBackend::connect(config).await?,
            client,
        })
    }

    pub fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Submits, and gives the handle with the UID pinned.
    pub async fn submit(&self, work: &Work) -> Result<Handle> {
        let submitted = self.backend.submit(work).await?;
        Ok(Handle {
            run_id: work.run_id,
            attempt: work.attempt,
            backend: submitted.backend,
        })
    }

    /// Creates the Job of a work past the backend, asking a simulated node for its end.
    pub async fn simulate(&self, work: &Work, wishes: &[(&str, &str)]) -> Result<Handle> {
        self.create(work, |job| {
            let pod = job.spec.as_mut().map(|spec| &mut spec.template);
            let meta = pod.and_then(|pod| pod.metadata.as_mut());
            if let Some(meta) = meta {
                let wishes = wishes
                    .iter()
                    .map(|(wish, value)| (format!("testbed.qwex.dev/{wish}"), (*value).to_owned()));
                meta.annotations = Some(wishes.collect());
            }
        })
        .await
    }

    /// Creates the Job of a work past the backend, changed.
    pub async fn create(&self, work: &Work, change: impl FnOnce(&mut Job)) -> Result<Handle> {
        let mut job = manifest::job(work, self.backend.config(), work.spec.queue.as_ref())?;
        change(&mut job);
        let created = self.jobs().create(&PostParams::default(), &job).await?;
        Ok(self.handle(work, created.metadata.uid))
    }

    pub fn handle(&self, work: &Work, uid: Option<String>) -> Handle {
        Handle {
            run_id: work.run_id,
            attempt: work.attempt,
            backend: BackendInfo {
                kind: BackendKind::K8s,
                cluster: None,
                address: None,
                namespace: Some(self.namespace.clone()),
                object: work.object_name(),
                uid: uid.map(ObjectUid),
            },
        }
    }

    /// The pods that exist for a work.
    pub async fn pods_of(&self, work: &Work) -> Result<Vec<Pod>> {
        let selector = format!("qwex.dev/run-id={}", work.run_id);
        Ok(self
            .pods()
            .list(&ListParams::default().labels(&selector))
            .await?
            .items)
    }

    /// Waits until the work has a pod that `ready` accepts.
    pub async fn pod_that(&self, work: &Work, what: &str, ready: impl Fn(&Pod) -> bool) -> Result<Pod> {
        let probe = || async {
            let pods = self.pods_of(work).await.ok()?;
            pods.into_iter().find(|pod| ready(pod))
        };
        Ok(wait::until(LIMIT, what, probe).await?)
    }

    pub async fn running_pod(&self, work: &Work) -> Result<Pod> {
        self.pod_that(work, "a running pod", |pod| phase(pod) == "Running")
            .await
    }

    pub fn listen(&self) -> Listener {
        Listener::start(&self.backend, None)
    }

    /// Reads a log to its end, resuming after each cut, as the server does.
    pub async fn whole_log(&self, source: &LogSource) -> Result<Log> {
        let mut log = Log::default();
        let read = async {
            while !log.ended {
                if let Err(error) = log.read_on(&self.backend, source, true).await {
                    log.cuts.push(error.to_string());
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::time::timeout(LIMIT, read)
            .await
            .map_err(|_| anyhow!("the log did not end"))?;
        Ok(log)
    }
}

pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// A work that runs `command` in busybox.
pub fn work(command: &[&str]) -> Work {
    Work {
        run_id: RunId::mint(),
        attempt: Attempt::FIRST,
        project: Project::new("default").expect("a valid name"),
        name: None,
        labels: BTreeMap::new(),
        spec: JobSpec {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            image: Some(images::BUSYBOX.to_owned()),
            resources: Resources::default(),
            ..JobSpec::default()
        },
        workspace: None,
    }
}

pub fn shell(script: &str) -> Work {
    work(&["sh", "-c", script])
}

/// A log as it was read.
#[derive(Debug, Default)]
pub struct Log {
    pub bytes: Vec<u8>,
    pub gaps: Vec<String>,
    pub cuts: Vec<String>,
    pub lines: usize,
    pub ended: bool,
    pub position: LogPosition,
}

impl Log {
    /// Reads from where it stands until the stream stops.
    pub async fn read_on(&mut self, backend: &K8sBackend, source: &LogSource, follow: bool) -> Result<()> {
        let mut items = backend.read_log(source, self.position.clone(), follow).await?;
        while let Some(item) = items.next().await {
            match item? {
                LogItem::Chunk(chunk) => {
                    self.bytes.extend_from_slice(&chunk.bytes);
                    self.lines += chunk.lines.len();
                    self.position = chunk.position;
                }
                LogItem::Gap { message } => self.gaps.push(message),
                LogItem::End => self.ended = true,
            }
        }
        Ok(())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Keeps what a watch tells, starting it over after each error as the server's supervisor does.
pub struct Listener {
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    sightings: Vec<Sighting>,
    errors: Vec<String>,
    position: Option<WatchPosition>,
}

impl Listener {
    pub fn start(backend: &K8sBackend, from: Option<WatchPosition>) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            position: from,
            ..Seen::default()
        }));
        let task = tokio::spawn(listen(backend.clone(), Arc::clone(&seen)));
        Self {
            seen,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn errors(&self) -> Vec<String> {
        self.seen().errors.clone()
    }

    pub fn position(&self) -> Option<WatchPosition> {
        self.seen().position.clone()
    }

    pub fn sightings(&self) -> Vec<Sighting> {
        self.seen().sightings.clone()
    }

    /// The facts about one run, in the order told.
    pub fn facts(&self, run_id: RunId) -> Vec<Fact> {
        let facts = self
            .sightings()
            .into_iter()
            .filter_map(|sighting| match sighting {
                Sighting::Seen(seen) if seen.run_id == run_id => Some(seen.fact),
                _ => None,
            });
        facts.collect()
    }

    /// Waits for a sighting.
    pub async fn sighting<T>(&self, what: &str, pick: impl Fn(&Sighting) -> Option<T>) -> Result<T> {
        let probe = || async { self.seen().sightings.iter().find_map(&pick) };
        let found = wait::until(LIMIT, what, probe).await;
        found.with_context(|| format!("errors: {:?}; sightings: {:#?}", self.errors(), self.sightings()))
    }

    /// Waits for a fact about a work.
    pub async fn fact<T>(&self, work: &Work, what: &str, pick: impl Fn(&Fact) -> Option<T>) -> Result<T> {
        let of_run = |sighting: &Sighting| match sighting {
            Sighting::Seen(seen) if seen.run_id == work.run_id => pick(&seen.fact),
            _ => None,
        };
        self.sighting(what, of_run).await
    }

    pub async fn waiting(&self, work: &Work, code: qwex_core::PendingCode, part: &str) -> Result<String> {
        self.fact(
            work,
            &format!("waiting for {code} with {part:?}"),
            |fact| match fact {
                Fact::Waiting {
                    code: seen, message, ..
                } if *seen == code && message.contains(part) => Some(message.clone()),
                _ => None,
            },
        )
        .await
    }

    pub async fn running(&self, work: &Work) -> Result<u64> {
        self.fact(work, "it runs", |fact| match fact {
            Fact::Running { round } => Some(*round),
            _ => None,
        })
        .await
    }

    pub async fn ending(&self, work: &Work) -> Result<Ending> {
        self.fact(work, "its end", |fact| match fact {
            Fact::Ended { ending, .. } => Some(ending.clone()),
            Fact::Gone { message } => Some(Ending::Stopped {
                message: message.clone(),
                exit_code: None,
                signal: None,
            }),
            _ => None,
        })
        .await
    }

    pub async fn failure(&self, work: &Work) -> Result<Failure> {
        match self.ending(work).await? {
            Ending::Failed { failure } => Ok(failure),
            other => Err(anyhow!("it did not fail but {other:?}")),
        }
    }

    pub async fn log_of(&self, work: &Work) -> Result<LogSource> {
        self.sighting("its log", |sighting| match sighting {
            Sighting::LogReady(source) if source.run_id == work.run_id => Some(source.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the first list.
    pub async fn listed(&self) -> Result<()> {
        self.sighting("a list", |sighting| {
            matches!(sighting, Sighting::Listed(_)).then_some(())
        })
        .await
    }
}

async fn listen(backend: K8sBackend, seen: Arc<Mutex<Seen>>) {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let from = lock().position.clone();
        let mut pause = Duration::from_millis(50);
        match backend.watch(from).await {
            Ok(mut sightings) => {
                while let Some(sighting) = sightings.next().await {
                    match sighting {
                        Ok(Sighting::Position(position)) => lock().position = Some(position),
                        Ok(sighting) => lock().sightings.push(sighting),
                        Err(error) => lock().errors.push(error.to_string()),
                    }
                }
            }
            Err(error) => {
                lock().errors.push(error.to_string());
                pause = Duration::from_millis(200);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

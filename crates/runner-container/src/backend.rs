//! [`ContainerBackend`]: an engine as a backend. The traits over the rooms of this crate, and what those share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use qwex_core::{BackendInfo, BackendKind, JobSpec, Observation, SpecProblem};
use qwex_runner::backend::{Backend, Details, Feature, Probe, unsupported};
use qwex_runner::{
    CancelProgress, Handle, Key, LogItem, LogPosition, LogSource, Runner, RunnerError, SightingStream,
    Submitted, WatchPosition, Watcher, Work,
};
use tokio::sync::broadcast;

use crate::config::ContainerConfig;
use crate::connect::Link;
use crate::deadline::Guarded;
use crate::discover::Surroundings;
use crate::engine::Engine;
use crate::features;
use crate::logs::{self, Cuts};
use crate::observe::View;
use crate::pull::Pulls;
use crate::record::{Record, Records, StopCause};
use crate::snapshot::{Phase, Snapshot};
use crate::usage::Usages;
use crate::vigil::Vigil;
use crate::watch;

/// News that wait for a watch of this process; one that falls behind looks at everything.
const NEWS: usize = 256;

/// Runs commands in containers of one engine. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct ContainerBackend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub struct Inner {
    pub config: ContainerConfig,
    pub link: Link,
    pub around: Surroundings,
    pub records: Records,
    /// Attempts of which something changed by what this process did.
    pub changed: broadcast::Sender<Key>,
    /// How far the pulls of this process are.
    progress: Mutex<HashMap<Key, String>>,
    pub vigil: Vigil,
    pub usages: Usages,
    pub guarded: Guarded,
    pub pulls: Pulls,
    pub cuts: Cuts,
}

impl ContainerBackend {
    /// Makes the state directory if it is not there. The engine is not asked anything yet.
    ///
    /// # Errors
    /// The state directory cannot be used, or the engine's address cannot be understood.
    pub fn open(config: ContainerConfig) -> Result<Self, RunnerError> {
        let mut around = Surroundings::read();
        around.docker_config = config.docker_config.clone().or(around.docker_config);
        let inner = Inner {
            link: Link::new(config.engine, config.address.as_deref(), &around)?,
            around,
            records: Records::open(&config.state_dir)?,
            config,
            changed: broadcast::Sender::new(NEWS),
            progress: Mutex::default(),
            vigil: Vigil::default(),
            usages: Usages::default(),
            guarded: Guarded::default(),
            pulls: Pulls::default(),
            cuts: Cuts::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }
}

impl Inner {
    /// Without a UID.
    pub fn backend_info(&self, key: Key) -> BackendInfo {
        BackendInfo {
            kind: self.config.engine.kind(),
            cluster: None,
            namespace: None,
            object: key.object(),
            uid: None,
            address: Some(self.link.address()),
        }
    }

    pub fn problems(&self, spec: &JobSpec) -> Vec<SpecProblem> {
        let engine = self.config.engine;
        let mut problems = unsupported(engine.name(), features::of(engine), spec);
        if spec.image.is_none() {
            problems.push(SpecProblem {
                pointer: "/image".to_owned(),
                code: "required",
                detail: format!("a run on {} needs an image; name one with --image", engine.name()),
            });
        }
        problems
    }

    /// Whether this engine is the one that was given the attempt. Another one knows nothing of it, which is no news.
    ///
    /// # Errors
    /// It is another one, or does not answer.
    pub async fn is_at_home(&self, record: &Record) -> Result<(), RunnerError> {
        let Some(home) = &record.home else { return Ok(()) };
        let here = &self.link.client().await?.home;
        if here.id == home.id {
            return Ok(());
        }
        let variable = match self.config.engine {
            Engine::Docker => "DOCKER_HOST",
            Engine::Podman => "CONTAINER_HOST",
        };
        Err(RunnerError::Unreachable {
            message: format!(
                "the run is on the engine at {}, and {} is another one; set {variable} or the backend's address back",
                home.address, here.address
            ),
        })
    }

    pub fn tell_changed(&self, key: Key) {
        // Nobody may be watching.
        self.changed.send(key).ok();
    }

    pub fn tell_progress(&self, key: Key, message: String) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.insert(key, message);
        drop(progress);
        self.tell_changed(key);
    }

    pub fn forget_progress(&self, key: Key) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.remove(&key);
    }

    /// All that is known of an attempt now.
    ///
    /// # Errors
    /// The engine does not answer, or another one does than the attempt is on.
    pub async fn view(&self, key: Key) -> Result<View, RunnerError> {
        let record = self.records.read(key)?;
        let made = record.as_ref().and_then(|record| record.container.clone());
        let found = self.inspect(&made.unwrap_or_else(|| key.object())).await?;
        let container = found.filter(|container| container.key() == Some(key));
        if let (None, Some(record)) = (&container, &record) {
            self.is_at_home(record).await?;
        }
        self.view_of(key, container)
    }

    /// The record is read after the container: it is written before whatever makes a container go.
    pub fn view_of(&self, key: Key, container: Option<Snapshot>) -> Result<View, RunnerError> {
        let record = self.records.read(key)?;
        let unmade = record
            .as_ref()
            .filter(|record| record.container.is_none() && record.end.is_none());
        let pulling = match (&container, unmade) {
            (None, Some(record)) => self.pulling(key, &record.image)?,
            (Some(_), _) | (None, None) => None,
        };
        Ok(View {
            key,
            record,
            container,
            pulling,
        })
    }

    fn pulling(&self, key: Key, image: &str) -> Result<Option<String>, RunnerError> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = progress.get(&key) {
            return Ok(Some(told.clone()));
        }
        drop(progress);
        Ok(self.records.is_pulling(key)?.then(|| format!("pulling {image}")))
    }

    fn observe(&self, handle: &Handle, view: &View) -> Vec<Observation> {
        let gone = |message: &str| vec![Key::of(handle).gone(handle.backend.uid.clone(), message)];
        match (view.uid(), &handle.backend.uid) {
            (None, _) => gone("the engine has no container of this attempt"),
            (Some(found), Some(pinned)) if found != *pinned => gone("another container took its place"),
            (Some(_), _) => view.observations(&self.backend_info(view.key)),
        }
    }

    async fn remove(&self, handle: &Handle) -> Result<(), RunnerError> {
        let key = Key::of(handle);
        let lock = self.records.lock(key).await?;
        let view = self.view(key).await?;
        let foreign =
            handle.backend.uid.is_some() && view.uid().is_some() && view.uid() != handle.backend.uid;
        if foreign {
            return Ok(());
        }
        if let Some(container) = &view.container {
            if !view.is_over() {
                return Err(RunnerError::Failed {
                    message: format!("{} is not over; cancel it first", container.name),
                });
            }
            let force = container.phase == Phase::Abandoned;
            self.remove_container(&container.id, force).await?;
        }
        self.usages.forget(key);
        self.records.remove(key, &lock)
    }
}

#[async_trait]
impl Runner for ContainerBackend {
    fn kind(&self) -> BackendKind {
        self.inner.config.engine.kind()
    }

    async fn submit(&self, work: &Work) -> Result<Submitted, RunnerError> {
        self.inner.submit(work).await
    }

    async fn cancel(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        let uid = handle.backend.uid.as_ref();
        self.inner.stop(Key::of(handle), uid, StopCause::Cancelled).await
    }

    /// An engine removes nothing in its own time; nothing would ever come of a later.
    async fn release(&self, handle: &Handle) -> Result<(), RunnerError> {
        self.inner.remove(handle).await
    }
}

#[async_trait]
impl Watcher for ContainerBackend {
    /// The position is only a token: everything is read from the engine anew.
    async fn watch(&self, _from: Option<WatchPosition>) -> Result<SightingStream, RunnerError> {
        watch::stream(self.inner.clone()).await
    }

    async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        let view = self.inner.view(Key::of(handle)).await?;
        Ok(self.inner.observe(handle, &view))
    }

    async fn list_logs(&self, handle: &Handle) -> Result<Vec<LogSource>, RunnerError> {
        let view = self.inner.view(Key::of(handle)).await?;
        let pinned = handle.backend.uid.is_none() || view.uid() == handle.backend.uid;
        Ok(if pinned { logs::sources(&view) } else { Vec::new() })
    }

    async fn read_log(
        &self,
        source: &LogSource,
        from: LogPosition,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
        logs::read(self.inner.clone(), source, from, follow).await
    }
}

#[async_trait]
impl Backend for ContainerBackend {
    fn name(&self) -> &str {
        self.inner.config.engine.name()
    }

    fn features(&self) -> &[Feature] {
        features::of(self.inner.config.engine)
    }

    fn validate(&self, spec: &JobSpec) -> Vec<SpecProblem> {
        self.inner.problems(spec)
    }

    async fn probe(&self) -> Result<Probe, RunnerError> {
        self.inner.probe().await
    }

    /// A pull is a task of the process that submitted.
    async fn resume(&self, work: &Work, _handle: &Handle) -> Result<(), RunnerError> {
        let record = self.inner.records.read(Key::of_work(work))?;
        if record.is_some_and(|record| record.end.is_none() && record.stop.is_none()) {
            self.inner.submit(work).await?;
        }
        Ok(())
    }

    async fn details(&self, handle: &Handle) -> Result<Details, RunnerError> {
        self.inner.details(Key::of(handle)).await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), RunnerError> {
        self.inner.remove(handle).await
    }
}

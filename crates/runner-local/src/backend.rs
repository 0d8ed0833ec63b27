//! [`LocalBackend`]: processes of this machine as a backend. The traits over the synchronous parts;
//! those are public too, because `qwexctl run -d` must not start a runtime to start a process.

use std::io;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use futures::stream::BoxStream;
use qwex_core::{BackendInfo, BackendKind, Observation};
use qwex_runner::durable::Dir;
use qwex_runner::{
    CancelProgress, Handle, Key, LogItem, LogPosition, LogSource, Runner, RunnerError, SightingStream,
    Submitted, WatchPosition, Watcher, Work,
};
use tokio::sync::Notify;

use crate::config::LocalConfig;
use crate::identity::Place;
use crate::snapshot::{Snapshot, Stage};
use crate::{logs, watch};

/// Runs commands as processes of this machine. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub config: LocalConfig,
    pub root: Dir,
    /// Supervisors started by this process, to be reaped when they end.
    pub supervisors: Mutex<Vec<Child>>,
    /// Wakes the watches: something was submitted or cancelled here.
    pub changed: Notify,
    /// When released attempts were last looked through.
    pub swept: Mutex<Option<Instant>>,
}

impl LocalBackend {
    /// Makes the root directory if it is not there.
    pub fn new(mut config: LocalConfig) -> Result<Self, RunnerError> {
        let broken = |error: io::Error| RunnerError::Failed {
            message: format!("cannot use {} for local runs: {error}", config.root.display()),
        };
        std::fs::create_dir_all(&config.root).map_err(broken)?;
        let root = std::path::absolute(&config.root).map_err(broken)?;
        let dir = Dir::open(&root).map_err(broken)?;
        config.root = root;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                root: dir,
                supervisors: Mutex::new(Vec::new()),
                changed: Notify::new(),
                swept: Mutex::new(None),
            }),
        })
    }

    #[must_use]
    pub fn config(&self) -> &LocalConfig {
        &self.inner.config
    }

    /// [`Watcher::observe`] without a runtime.
    pub fn observe_sync(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        let key = Key::of(handle);
        let uid = || handle.backend.uid.clone();
        match self.inner.snapshot(key)? {
            Some(snapshot) if handle.is_about(snapshot.uid().as_ref()) => {
                self.inner.seen(&snapshot)?;
                Ok(snapshot.observations(&self.inner.backend_info(key)))
            }
            Some(_) => Ok(vec![key.gone(uid(), "another process took its place")]),
            None => Ok(vec![key.gone(uid(), "its directory was removed")]),
        }
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, RunnerError> + Send + 'static,
    ) -> Result<T, RunnerError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this))
            .await
            .map_err(|error| RunnerError::Failed {
                message: format!("the worker thread ended early: {error}"),
            })?
    }
}

impl Inner {
    pub fn snapshot(&self, key: Key) -> Result<Option<Snapshot>, RunnerError> {
        let read = || match self.config.layout.open(&self.root, key)? {
            Some(dir) => Snapshot::read(&dir, key, self.config.shared),
            None => Ok(None),
        };
        read().map_err(|error| failed("read", key, &error))
    }

    /// Refuses an attempt of another machine: of its processes nothing can be known here. A watch waits for its end, which
    /// comes by the shared files.
    pub fn seen(&self, snapshot: &Snapshot) -> Result<(), RunnerError> {
        let there = match &snapshot.stage {
            Stage::Elsewhere => snapshot.supervisor.as_ref().and_then(|it| it.machine.as_deref()),
            Stage::Unattended | Stage::Attended | Stage::Ended(_) | Stage::Lost(_) => return Ok(()),
        };
        let there = there.unwrap_or_default();
        let own = Place::own();
        let here = &own.machine;
        let (there, here) = match (there == here, own.is_the_machine()) {
            (true, true) => (format!("in a container on {here}"), format!("{here} itself")),
            (true, false) => (format!("on {here} itself"), format!("a container on {here}")),
            (false, _) => (format!("on {there}"), here.clone()),
        };
        let key = snapshot.key;
        let dir = self.config.layout.path(&self.config.root, key);
        Err(RunnerError::Unreachable {
            message: format!(
                "run {} is {there}, and this is {here}, which sees its files and not its processes. Ask there; if there \
                 is no such machine or container any more, remove {}",
                key.run_id,
                dir.display()
            ),
        })
    }

    pub fn backend_info(&self, key: Key) -> BackendInfo {
        BackendInfo {
            kind: BackendKind::Local,
            cluster: self.config.cluster.clone(),
            address: None,
            namespace: None,
            object: key.object(),
            uid: None,
        }
    }

    /// Keeps a supervisor of ours until it can be taken off the process table.
    pub fn look_after(&self, supervisor: Child) {
        let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        supervisors.push(supervisor);
    }

    /// Takes ended supervisors off the process table.
    pub fn reap(&self) {
        let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        supervisors.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

pub(crate) fn failed(what: &str, key: Key, error: &io::Error) -> RunnerError {
    RunnerError::Failed {
        message: format!(
            "cannot {what} attempt {} of run {}: {error}",
            key.attempt, key.run_id
        ),
    }
}

#[async_trait]
impl Runner for LocalBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Local
    }

    async fn submit(&self, work: &Work) -> Result<Submitted, RunnerError> {
        let work = work.clone();
        self.blocking(move |this| this.submit_sync(&work)).await
    }

    async fn cancel(&self, handle: &Handle) -> Result<CancelProgress, RunnerError> {
        let handle = handle.clone();
        self.blocking(move |this| this.cancel_sync(&handle)).await
    }

    async fn release(&self, handle: &Handle) -> Result<(), RunnerError> {
        let handle = handle.clone();
        self.blocking(move |this| this.release_sync(&handle)).await
    }
}

#[async_trait]
impl Watcher for LocalBackend {
    /// The position is only a token: everything is read from disk anew.
    async fn watch(&self, _from: Option<WatchPosition>) -> Result<SightingStream, RunnerError> {
        Ok(watch::stream(self.clone()))
    }

    async fn observe(&self, handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        let handle = handle.clone();
        self.blocking(move |this| this.observe_sync(&handle)).await
    }

    async fn list_logs(&self, handle: &Handle) -> Result<Vec<LogSource>, RunnerError> {
        let handle = handle.clone();
        self.blocking(move |this| {
            let snapshot = this.inner.snapshot(Key::of(&handle))?;
            let ours = snapshot.filter(|snapshot| handle.is_about(snapshot.uid().as_ref()));
            Ok(ours.map_or_else(Vec::new, |snapshot| logs::sources(&this.inner.config, &snapshot)))
        })
        .await
    }

    async fn read_log(
        &self,
        source: &LogSource,
        from: LogPosition,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
        logs::read(self.clone(), source.clone(), from, follow)
    }
}

//! A backend whose answers get lost, as no real one can be asked to do on demand; for tests of what keeps a run.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use qwex_core::{BackendInfo, BackendKind, EpisodeId, Fact, ObjectUid, Observation, Run, RunId};
use qwex_runner::{
    Backend, CancelProgress, Feature, Handle, LogChunk, LogItem, LogPosition, LogSource, Probe, Runner,
    RunnerError, SightingStream, Store, Submitted, WatchPosition, Watcher, Work,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::drive::Drive;
use super::hand_over::Patience;
use super::placed::Placed;

pub type Answer<T> = Result<T, RunnerError>;

/// Answers in order; the last one of each for ever.
pub struct Scripted {
    pub submits: Mutex<VecDeque<Answer<()>>>,
    pub cancels: Mutex<VecDeque<Answer<CancelProgress>>>,
    /// Whether the object is there.
    pub observes: Mutex<VecDeque<Answer<bool>>>,
    pub submitted: Mutex<u32>,
    /// A submit answers once this is told.
    pub slow: Option<Notify>,
    pub collects: Mutex<VecDeque<Answer<Vec<PathBuf>>>>,
    pub removed: AtomicBool,
    /// What stdout is; each read gives one byte of it and breaks.
    pub log: String,
}

pub fn next<T: Clone>(answers: &Mutex<VecDeque<T>>) -> T {
    let mut answers = answers.lock().unwrap();
    let first = answers.front().expect("an answer").clone();
    if answers.len() > 1 {
        answers.pop_front();
    }
    first
}

#[async_trait]
impl Runner for Scripted {
    fn kind(&self) -> BackendKind {
        BackendKind::Ssh
    }

    async fn submit(&self, work: &Work) -> Answer<Submitted> {
        *self.submitted.lock().unwrap() += 1;
        if let Some(slow) = &self.slow {
            slow.notified().await;
        }
        next(&self.submits).map(|()| Submitted {
            backend: BackendInfo {
                kind: BackendKind::Ssh,
                cluster: None,
                address: None,
                namespace: None,
                object: work.object_name(),
                uid: Some(ObjectUid("1".to_owned())),
            },
            adopted: false,
        })
    }

    async fn cancel(&self, _: &Handle) -> Answer<CancelProgress> {
        next(&self.cancels)
    }

    async fn release(&self, _: &Handle) -> Answer<()> {
        unreachable!("nothing is over")
    }
}

#[async_trait]
impl Watcher for Scripted {
    async fn watch(&self, _: Option<WatchPosition>) -> Answer<SightingStream> {
        unreachable!("nothing is watched")
    }

    async fn observe(&self, handle: &Handle) -> Answer<Vec<Observation>> {
        let is_there = next(&self.observes)?;
        let fact = if is_there {
            Fact::Running { round: 0 }
        } else {
            Fact::Gone {
                message: "there is none".to_owned(),
            }
        };
        Ok(vec![Observation {
            run_id: handle.run_id,
            attempt: handle.attempt,
            uid: is_there.then(|| ObjectUid("1".to_owned())),
            at: jiff::Timestamp::now(),
            fact,
        }])
    }

    async fn list_logs(&self, handle: &Handle) -> Answer<Vec<LogSource>> {
        let stdout = LogSource {
            run_id: handle.run_id,
            attempt: handle.attempt,
            episode: EpisodeId("one".to_owned()),
            stream: "stdout".to_owned(),
            locator: "there".to_owned(),
        };
        Ok(if self.log.is_empty() { vec![] } else { vec![stdout] })
    }

    async fn read_log(
        &self,
        _: &LogSource,
        from: LogPosition,
        _: bool,
    ) -> Answer<BoxStream<'static, Answer<LogItem>>> {
        let at = usize::try_from(from.offset).expect("a short log");
        let items = match self.log.get(at..=at) {
            None => vec![Ok(LogItem::End)],
            Some(byte) => {
                let position = LogPosition {
                    offset: from.offset + 1,
                    ..from
                };
                let chunk = LogChunk {
                    bytes: byte.to_owned().into(),
                    lines: Vec::new(),
                    position,
                };
                vec![Ok(LogItem::Chunk(chunk)), lost()]
            }
        };
        Ok(futures::stream::iter(items).boxed())
    }
}

#[async_trait]
impl Backend for Scripted {
    fn name(&self) -> &'static str {
        "ssh"
    }

    fn features(&self) -> &[Feature] {
        &[]
    }

    async fn probe(&self) -> Answer<Probe> {
        unreachable!("nobody asks")
    }

    async fn collect(&self, _: &Handle, _: &Path, _: &[String]) -> Answer<Vec<PathBuf>> {
        next(&self.collects)
    }

    async fn remove(&self, _: &Handle) -> Answer<()> {
        self.removed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

pub struct Bench {
    _dir: TempDir,
    pub backend: Arc<Scripted>,
    pub drive: Drive,
}

pub fn bench(submits: Vec<Answer<()>>, cancels: Vec<Answer<CancelProgress>>) -> Bench {
    bench_of(scripted(submits, cancels))
}

pub fn scripted(submits: Vec<Answer<()>>, cancels: Vec<Answer<CancelProgress>>) -> Scripted {
    Scripted {
        submits: Mutex::new(submits.into()),
        cancels: Mutex::new(cancels.into()),
        observes: Mutex::new([Ok(false)].into()),
        submitted: Mutex::default(),
        slow: None,
        collects: Mutex::new([Ok(Vec::new())].into()),
        removed: AtomicBool::default(),
        log: String::new(),
    }
}

pub fn run() -> Run {
    serde_json::from_value(json!({
        "id": RunId::mint(), "project": "default", "spec": {"command": ["true"]}, "status": "pending",
        "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
    }))
    .unwrap()
}

pub fn bench_of(backend: Scripted) -> Bench {
    bench_with(backend, &run())
}

pub fn bench_with(backend: Scripted, run: &Run) -> Bench {
    let dir = TempDir::new().unwrap();
    let journal = Store::open(dir.path()).unwrap().create(run).unwrap();
    let backend = Arc::new(backend);
    let drive = Drive {
        journal,
        placed: Placed::default(),
        backend: backend.clone(),
        handed_over: Mutex::default(),
        patience: Patience {
            limit: Duration::from_millis(100),
            pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(4),
        },
    };
    Bench {
        _dir: dir,
        backend,
        drive,
    }
}

impl Bench {
    pub async fn hand_over(&self) -> Run {
        let run = self.drive.journal.read().unwrap();
        self.drive.hand_over(&run).await.unwrap();
        self.drive.journal.read().unwrap()
    }

    pub fn tries(&self) -> u32 {
        *self.backend.submitted.lock().unwrap()
    }
}

pub fn no_connection() -> Answer<()> {
    Err(RunnerError::NoConnection {
        message: "no route".to_owned(),
    })
}

pub fn lost<T>() -> Answer<T> {
    Err(RunnerError::Unreachable {
        message: "the connection broke".to_owned(),
    })
}

//! `wait` over a watcher that plays a script.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use qwex_core::{Attempt, BackendInfo, BackendKind, Ending, ObjectUid, RetryPolicy, RunId, RunStatus};

use super::*;
use crate::log::{LogItem, LogPosition, LogSource};
use crate::watcher::SightingStream;

type Script = VecDeque<Result<Vec<Result<Sighting, RunnerError>>, RunnerError>>;

/// Gives one stream of the script per watch, and remembers from where it was asked to go on.
struct Scripted {
    streams: Mutex<Script>,
    asked_from: Mutex<Vec<Option<WatchPosition>>>,
    read: Vec<Observation>,
}

#[async_trait]
impl Watcher for Scripted {
    async fn watch(&self, from: Option<WatchPosition>) -> Result<SightingStream, RunnerError> {
        self.asked_from.lock().unwrap().push(from);
        let next = self.streams.lock().unwrap().pop_front();
        let sightings = next.expect("the script is long enough")?;
        Ok(Box::pin(stream::iter(sightings)))
    }

    async fn observe(&self, _handle: &Handle) -> Result<Vec<Observation>, RunnerError> {
        Ok(self.read.clone())
    }

    async fn list_logs(&self, _handle: &Handle) -> Result<Vec<LogSource>, RunnerError> {
        Ok(Vec::new())
    }

    async fn read_log(
        &self,
        _source: &LogSource,
        _from: LogPosition,
        _follow: bool,
    ) -> Result<BoxStream<'static, Result<LogItem, RunnerError>>, RunnerError> {
        Ok(Box::pin(stream::empty()))
    }
}

struct Scene {
    handle: Handle,
    state: RunState,
}

fn scene() -> Scene {
    let run_id = RunId::mint();
    let backend = BackendInfo {
        kind: BackendKind::Local,
        cluster: None,
        address: None,
        namespace: None,
        object: run_id.object_name(Attempt::FIRST),
        uid: Some(ObjectUid("u".to_owned())),
    };
    let mut state = RunState::accepted(Timestamp::UNIX_EPOCH, RetryPolicy::default());
    state.backend = Some(backend.clone());
    let handle = Handle {
        run_id,
        attempt: Attempt::FIRST,
        backend,
    };
    Scene { handle, state }
}

impl Scene {
    fn seen(&self, fact: Fact) -> Observation {
        Observation {
            run_id: self.handle.run_id,
            attempt: Attempt::FIRST,
            uid: self.handle.backend.uid.clone(),
            at: Timestamp::UNIX_EPOCH,
            fact,
        }
    }

    fn ended(&self) -> Sighting {
        Sighting::Seen(self.seen(Fact::Ended {
            ending: Ending::Succeeded { verified: true },
            started_at: None,
        }))
    }

    fn listed(&self) -> Sighting {
        Sighting::Listed(vec![ObjectRef {
            run_id: self.handle.run_id,
            attempt: Attempt::FIRST,
            uid: ObjectUid("u".to_owned()),
        }])
    }
}

fn scripted(streams: Vec<Result<Vec<Result<Sighting, RunnerError>>, RunnerError>>) -> Scripted {
    Scripted {
        streams: Mutex::new(streams.into()),
        asked_from: Mutex::new(Vec::new()),
        read: Vec::new(),
    }
}

fn unreachable() -> RunnerError {
    RunnerError::Unreachable {
        message: "connection refused".to_owned(),
    }
}

fn position(word: &str) -> WatchPosition {
    WatchPosition(word.to_owned())
}

#[tokio::test]
async fn outlives_closed_and_broken_streams_and_resumes_where_it_was() {
    let scene = scene();
    let running = Sighting::Seen(scene.seen(Fact::Running { round: 0 }));
    let watcher = scripted(vec![
        Err(unreachable()),
        Ok(vec![
            Ok(scene.listed()),
            Ok(running),
            Ok(Sighting::Position(position("7"))),
        ]),
        Ok(vec![Err(unreachable())]),
        Err(RunnerError::PositionGone {
            message: "too old".to_owned(),
        }),
        Ok(vec![Ok(Sighting::Alive), Ok(scene.ended())]),
    ]);
    let mut facts = Vec::new();
    let end = wait_with(&watcher, &scene.handle, scene.state.clone(), |seen, _| {
        facts.push(seen.fact.clone());
    });
    let end = end.await.unwrap();
    assert_eq!(end.status, RunStatus::Succeeded);
    assert!(end.flags.is_empty(), "{:?}", end.flags);
    let asked = watcher.asked_from.into_inner().unwrap();
    assert_eq!(
        asked,
        [None, None, Some(position("7")), Some(position("7")), None]
    );
    assert_eq!(facts.iter().filter(|fact| **fact == Fact::Reachable).count(), 2);
}

#[tokio::test]
async fn an_absent_object_is_read_once_more_before_it_counts_as_gone() {
    let scene = scene();
    let mut watcher = scripted(vec![Ok(vec![Ok(Sighting::Listed(Vec::new()))])]);
    watcher.read = vec![scene.seen(Fact::Gone {
        message: "not there".to_owned(),
    })];
    let end = wait(&watcher, &scene.handle, scene.state.clone()).await.unwrap();
    assert_eq!(end.status, RunStatus::Failed);
}

#[tokio::test]
async fn what_asking_again_cannot_mend_is_given_back() {
    let scene = scene();
    let rejected = RunnerError::Unsupported {
        message: "no watch here".to_owned(),
    };
    let watcher = scripted(vec![Err(rejected.clone())]);
    let error = wait(&watcher, &scene.handle, scene.state.clone()).await;
    assert_eq!(error.unwrap_err(), rejected);
}

#[tokio::test]
async fn facts_about_other_runs_are_none_of_ours() {
    let (scene, other) = (scene(), self::scene());
    let watcher = scripted(vec![Ok(vec![
        Ok(scene.listed()),
        Ok(other.ended()),
        Ok(scene.ended()),
    ])]);
    let mut heard = 0;
    let end = wait_with(&watcher, &scene.handle, scene.state.clone(), |_, _| heard += 1);
    end.await.unwrap();
    assert_eq!(heard, 1);
}

//! A backend whose answers get lost, as no real one can be asked to do on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use qwex_core::{
    BackendInfo, BackendKind, Fact, FailureCode, ObjectUid, Observation, Run, RunId, RunStatus,
};
use qwex_runner::durable::Durability;
use qwex_runner::{
    Backend, CancelProgress, Feature, Handle, LogItem, LogPosition, LogSource, Probe, Runner, RunnerError,
    SightingStream, Store, Submitted, WatchPosition, Watcher, Work,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::{Patience, begun};
use crate::direct::drive::Drive;
use crate::direct::facts::about;
use crate::direct::placed::Placed;

type Answer<T> = Result<T, RunnerError>;

/// Answers in order; the last one of each for ever.
struct Scripted {
    submits: Mutex<VecDeque<Answer<()>>>,
    cancels: Mutex<VecDeque<Answer<CancelProgress>>>,
    /// Whether the object is there.
    observes: Mutex<VecDeque<Answer<bool>>>,
    submitted: Mutex<u32>,
    /// A submit answers once this is told.
    slow: Option<Notify>,
}

fn next<T: Clone>(answers: &Mutex<VecDeque<T>>) -> T {
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

    async fn list_logs(&self, _: &Handle) -> Answer<Vec<LogSource>> {
        unreachable!("nothing is read")
    }

    async fn read_log(
        &self,
        _: &LogSource,
        _: LogPosition,
        _: bool,
    ) -> Answer<BoxStream<'static, Answer<LogItem>>> {
        unreachable!("nothing is read")
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

    async fn remove(&self, _: &Handle) -> Answer<()> {
        unreachable!("nothing is over")
    }
}

struct Bench {
    _dir: TempDir,
    backend: Arc<Scripted>,
    drive: Drive,
}

fn bench(submits: Vec<Answer<()>>, cancels: Vec<Answer<CancelProgress>>) -> Bench {
    bench_of(scripted(submits, cancels))
}

fn scripted(submits: Vec<Answer<()>>, cancels: Vec<Answer<CancelProgress>>) -> Scripted {
    Scripted {
        submits: Mutex::new(submits.into()),
        cancels: Mutex::new(cancels.into()),
        observes: Mutex::new([Ok(false)].into()),
        submitted: Mutex::default(),
        slow: None,
    }
}

fn bench_of(backend: Scripted) -> Bench {
    let dir = TempDir::new().unwrap();
    let run: Run = serde_json::from_value(json!({
        "id": RunId::mint(), "project": "default", "spec": {"command": ["true"]}, "status": "pending",
        "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me"
    }))
    .unwrap();
    let journal = Store::open(dir.path()).unwrap().create(&run).unwrap();
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
    async fn hand_over(&self) -> Run {
        let run = self.drive.journal.read().unwrap();
        self.drive.hand_over(&run).await.unwrap();
        self.drive.journal.read().unwrap()
    }

    fn tries(&self) -> u32 {
        *self.backend.submitted.lock().unwrap()
    }
}

fn no_connection() -> Answer<()> {
    Err(RunnerError::NoConnection {
        message: "no route".to_owned(),
    })
}

fn lost<T>() -> Answer<T> {
    Err(RunnerError::Unreachable {
        message: "the connection broke".to_owned(),
    })
}

fn failed() -> Answer<()> {
    Err(RunnerError::Failed {
        message: "no room".to_owned(),
    })
}

fn failure(run: &Run) -> Option<FailureCode> {
    run.failure.as_ref().map(|failure| failure.code)
}

#[tokio::test]
async fn what_was_surely_never_sent_is_given_up_in_time() {
    let bench = bench(vec![no_connection()], vec![]);
    let run = bench.hand_over().await;
    assert_eq!(failure(&run), Some(FailureCode::StartError));
    assert!(bench.tries() > 1, "{}", bench.tries());
}

#[tokio::test]
async fn a_refusal_for_ever_is_the_end_at_once() {
    let rejected = RunnerError::Rejected {
        message: "no".to_owned(),
    };
    let bench = bench(vec![Err(rejected)], vec![]);
    let run = bench.hand_over().await;
    assert_eq!((failure(&run), bench.tries()), (Some(FailureCode::Rejected), 1));
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_is_asked_again_until_it_is_known() {
    let answers = [vec![lost()], vec![no_connection(); 60], vec![Ok(())]].concat();
    let bench = bench(answers, vec![]);
    let run = bench.hand_over().await;
    assert_eq!((run.status, bench.tries()), (RunStatus::Pending, 62));
    assert!(run.backend.is_some_and(|backend| backend.uid.is_some()));
}

#[tokio::test]
async fn a_submit_that_a_killed_keeper_began_is_in_doubt() {
    let answers = [vec![no_connection(); 60], vec![Ok(())]].concat();
    let bench = bench(answers, vec![]);
    let run = bench.drive.journal.read().unwrap();
    let journal = &bench.drive.journal;
    journal
        .write_file(&begun(run.attempt), b"", Durability::Machine)
        .unwrap();
    let run = bench.hand_over().await;
    assert!(run.backend.is_some() && run.failure.is_none());
}

#[tokio::test]
async fn a_backend_that_answers_no_is_made_to_say_that_nothing_runs() {
    let stopping = CancelProgress::Stopping {
        message: "soon".to_owned(),
    };
    let cancels = vec![lost(), Ok(stopping), Ok(CancelProgress::Stopped)];
    let bench = bench(vec![failed()], cancels);
    let run = bench.hand_over().await;
    assert_eq!(failure(&run), Some(FailureCode::StartError));
    assert_eq!(bench.backend.cancels.lock().unwrap().len(), 1);
}

fn quota() -> Answer<()> {
    Err(RunnerError::Rejected {
        message: "exceeded quota".to_owned(),
    })
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_adopts_what_runs() {
    let bench = bench(vec![lost(), quota()], vec![]);
    *bench.backend.observes.lock().unwrap() = [Ok(true)].into();
    let run = bench.hand_over().await;
    assert_eq!((run.status, failure(&run)), (RunStatus::Running, None));
    assert_eq!(run.backend.unwrap().uid, Some(ObjectUid("1".to_owned())));
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_ends_a_run_only_once_nothing_of_it_can_start() {
    let stopping = CancelProgress::Stopping {
        message: "soon".to_owned(),
    };
    let cancels = vec![lost(), Ok(stopping), Ok(CancelProgress::Stopped)];
    let bench = bench(vec![lost(), quota()], cancels);
    *bench.backend.observes.lock().unwrap() = [lost(), Ok(false)].into();
    let run = bench.hand_over().await;
    assert_eq!(failure(&run), Some(FailureCode::Rejected));
    assert_eq!(bench.backend.cancels.lock().unwrap().len(), 1, "it was asked to the end");
    assert_eq!(bench.tries(), 5);
}

#[tokio::test]
async fn a_cancel_waits_for_the_answer_of_a_submit_on_its_way() {
    let mut bench = bench_of(Scripted {
        slow: Some(Notify::new()),
        ..scripted(vec![Ok(())], vec![])
    });
    bench.drive.patience.limit = Duration::from_secs(10);
    let run = bench.drive.journal.read().unwrap();
    let by = "local:me".to_owned();
    let (handed_over, ()) = tokio::join!(bench.drive.hand_over(&run), async {
        while bench.tries() == 0 {
            tokio::task::yield_now().await;
        }
        let asked = about(&run, Fact::CancelRequested { by });
        bench.drive.journal.apply(&[asked]).unwrap();
        // Longer than it takes to hear of the cancel.
        tokio::time::sleep(crate::direct::drive::LOOK * 2).await;
        bench.backend.slow.as_ref().unwrap().notify_one();
    });
    handed_over.unwrap();
    let run = bench.drive.journal.read().unwrap();
    assert!(run.backend.is_some_and(|backend| backend.uid.is_some()), "what there is to stop is known");
}

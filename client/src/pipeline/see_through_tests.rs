//! A runner whose answers get lost, as no real one can be asked to do on demand.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use async_trait::async_trait;
use qwex_core::{JobSpec, Run, RunId, RunName};
use qwex_runner::Transfer;
use serde_json::json;

use super::super::record::PipelineId;
use super::super::shelf::{Shelf, Shelved};
use super::*;

type Answer<T> = Result<T, StageError>;

const QUICK: Patience = Patience {
    first_pause: Duration::from_millis(2),
    longest_pause: Duration::from_millis(5),
    ask_again: Duration::from_millis(5),
    give_up: Duration::from_millis(40),
};

/// Answers in order; the last one of each for ever.
struct Scripted {
    submit: RefCell<VecDeque<Answer<()>>>,
    has: RefCell<VecDeque<Answer<bool>>>,
    wait: RefCell<VecDeque<Answer<Waited>>>,
    cancel: RefCell<VecDeque<Answer<()>>>,
    submitted: Cell<u32>,
    asked_again: Cell<u32>,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            submit: RefCell::new([Ok(())].into()),
            has: RefCell::new([Ok(false)].into()),
            wait: RefCell::new([over()].into()),
            cancel: RefCell::new([Ok(())].into()),
            submitted: Cell::new(0),
            asked_again: Cell::new(0),
        }
    }
}

fn next<T: Clone>(answers: &RefCell<VecDeque<T>>) -> T {
    let mut answers = answers.borrow_mut();
    let first = answers.front().expect("an answer").clone();
    if answers.len() > 1 {
        answers.pop_front();
    }
    first
}

fn over() -> Answer<Waited> {
    let run: Run = serde_json::from_value(json!({
        "id": RunId::mint(), "name": null, "project": "default", "labels": {}, "status": "succeeded",
        "pending": null, "failure": null, "spec": {"command": ["true"]}, "backend": null, "attempt": 1,
        "exit_code": 0, "flags": [], "logs": null, "created_at": "2026-01-01T00:00:00Z", "created_by": "token:ci"
    }))
    .unwrap();
    Ok(Waited::Over(Box::new(Over { run, brought: None })))
}

fn on(held_up: Option<&str>) -> Answer<Waited> {
    let held_up = held_up.map(str::to_owned);
    Ok(Waited::On { held_up })
}

fn blind<T>() -> Answer<T> {
    Err(StageError::Unreachable {
        message: "log in".to_owned(),
    })
}

fn refused<T>() -> Answer<T> {
    Err(StageError::Refused {
        message: "never".to_owned(),
    })
}

#[async_trait(?Send)]
impl StageRunner for Scripted {
    async fn submit(&self, _: &StageRun) -> Answer<()> {
        self.submitted.set(self.submitted.get() + 1);
        next(&self.submit)
    }

    async fn has(&self, _: &str, _: RunId) -> Answer<bool> {
        next(&self.has)
    }

    async fn wait(&self, _: &str, _: RunId) -> Answer<Waited> {
        next(&self.wait)
    }

    async fn ask_again(&self, _: &str, _: RunId) -> Answer<()> {
        self.asked_again.set(self.asked_again.get() + 1);
        Ok(())
    }

    async fn cancel(&self, _: &str, _: RunId) -> Answer<()> {
        next(&self.cancel)
    }
}

struct Seen {
    end: End,
    told: Vec<Option<String>>,
}

fn shelved() -> (tempfile::TempDir, Shelved) {
    let dir = tempfile::tempdir().unwrap();
    let shelved = Shelf::open(dir.path()).unwrap().make(PipelineId::mint()).unwrap();
    (dir, shelved)
}

async fn see(runner: &Scripted, known: bool, shelved: &Shelved, cancelling: bool) -> Seen {
    let (news, mut told) = mpsc::unbounded_channel();
    let sender = watch::Sender::new(cancelling);
    let journey = Journey {
        runner,
        run: StageRun {
            id: RunId::mint(),
            name: RunName::new("a").unwrap(),
            labels: Default::default(),
            backend: "remote".to_owned(),
            host: None,
            runs_by: None,
            spec: JobSpec::for_command(["true"]),
            send: Transfer::Nothing,
        },
        index: 0,
        known,
        cancelling: sender.subscribe(),
        shelved,
        news,
        patience: QUICK,
    };
    let end = journey.see_through().await;
    let mut all = Vec::new();
    while let Ok((_, why)) = told.try_recv() {
        all.push(why);
    }
    Seen { end, told: all }
}

/// What did not come is asked for before it is waited for; only what is lost is another matter.
#[tokio::test]
async fn whoever_takes_a_run_up_again_asks_for_what_it_made() {
    let (_dir, shelved) = shelved();
    for (answer, is_there) in [
        (
            StageError::Unbrought {
                message: "there".to_owned(),
            },
            true,
        ),
        (
            StageError::Refused {
                message: "lost".to_owned(),
            },
            false,
        ),
    ] {
        for known in [false, true] {
            let runner = Scripted {
                has: RefCell::new([Ok(true)].into()),
                wait: RefCell::new([Err(answer.clone())].into()),
                ..Scripted::default()
            };
            let seen = see(&runner, known, &shelved, false).await;
            let is_right = match seen.end {
                End::Unbrought(_) => is_there,
                End::Unmade(_) => !is_there,
                _ => false,
            };
            assert!(is_right, "{:?}", seen.end);
            assert_eq!(runner.asked_again.get(), u32::from(known));
            assert_eq!(runner.submitted.get(), u32::from(!known), "nothing runs twice");
        }
    }
}

#[tokio::test]
async fn blind_is_not_dead_and_is_told_once() {
    let (_dir, shelved) = shelved();
    let runner = Scripted {
        wait: RefCell::new([blind(), blind(), blind(), on(None), over()].into()),
        ..Scripted::default()
    };
    let seen = see(&runner, false, &shelved, false).await;
    assert!(matches!(seen.end, End::Over(_)), "{:?}", seen.end);
    assert_eq!(seen.told, [Some("log in".to_owned()), None]);
}

#[tokio::test]
async fn why_a_run_waits_is_told_once_until_it_does_not() {
    let (_dir, shelved) = shelved();
    let waits = [
        on(Some("second")),
        on(Some("second")),
        on(Some("first")),
        blind(),
        on(None),
        over(),
    ];
    let runner = Scripted {
        wait: RefCell::new(waits.into()),
        ..Scripted::default()
    };
    let seen = see(&runner, false, &shelved, false).await;
    let told = ["second", "first", "log in"].map(|why| Some(why.to_owned()));
    assert_eq!(seen.told, [&told[..], &[None][..]].concat());
}

#[tokio::test]
async fn a_lost_answer_to_a_submit_is_looked_up() {
    let (_dir, shelved) = shelved();
    for submit in [blind(), refused()] {
        let runner = Scripted {
            submit: RefCell::new([submit].into()),
            has: RefCell::new([Ok(true)].into()),
            ..Scripted::default()
        };
        let seen = see(&runner, false, &shelved, false).await;
        assert!(matches!(seen.end, End::Over(_)), "{:?}", seen.end);
        assert_eq!(runner.submitted.get(), 1);
    }
    // Refused after an answer that was lost: only who surely does not have it ends this.
    let runner = Scripted {
        submit: RefCell::new([blind(), refused()].into()),
        has: RefCell::new([blind(), blind(), blind(), Ok(true)].into()),
        ..Scripted::default()
    };
    let seen = see(&runner, false, &shelved, false).await;
    assert!(matches!(seen.end, End::Over(_)), "{:?}", seen.end);
    let runner = Scripted {
        submit: RefCell::new([refused()].into()),
        has: RefCell::new([blind()].into()),
        ..Scripted::default()
    };
    let seen = see(&runner, false, &shelved, false).await;
    assert!(matches!(seen.end, End::Failed(_)), "{:?}", seen.end);
}

#[tokio::test]
async fn cancelled_before_it_was_handed_over_nothing_is() {
    let (_dir, shelved) = shelved();
    let runner = Scripted::default();
    for known in [false, true] {
        let seen = see(&runner, known, &shelved, true).await;
        assert!(
            matches!(seen.end, End::Withdrawn { in_doubt: false }),
            "{:?}",
            seen.end
        );
    }
    // The driver did not notice yet.
    shelved.ask_to_cancel().unwrap();
    let seen = see(&runner, true, &shelved, false).await;
    assert!(matches!(seen.end, End::Withdrawn { .. }), "{:?}", seen.end);
    assert_eq!(runner.submitted.get(), 0);
}

#[tokio::test]
async fn a_cancelled_run_out_of_sight_is_given_up_in_doubt() {
    let (_dir, shelved) = shelved();
    let nobody = Scripted {
        has: RefCell::new([blind()].into()),
        wait: RefCell::new([blind()].into()),
        cancel: RefCell::new([blind()].into()),
        ..Scripted::default()
    };
    let seen = see(&nobody, true, &shelved, true).await;
    assert!(
        matches!(&seen.end, End::Lost(why) if why.contains("log in")),
        "{:?}",
        seen.end
    );
    let gone = Scripted {
        has: RefCell::new([blind()].into()),
        cancel: RefCell::new(
            [Err(StageError::Absent {
                message: String::new(),
            })]
            .into(),
        ),
        ..Scripted::default()
    };
    let seen = see(&gone, true, &shelved, true).await;
    assert!(
        matches!(seen.end, End::Withdrawn { in_doubt: true }),
        "{:?}",
        seen.end
    );
}

//! Submits without an answer, refusals in doubt, and cancels on the way.

use std::time::Duration;

use qwex_core::{Fact, FailureCode, ObjectUid, Run, RunStatus};
use qwex_runner::durable::Durability;
use qwex_runner::{CancelProgress, RunnerError};
use tokio::sync::Notify;

use super::super::drive::LOOK;
use super::super::facts::about;
use super::super::scripted::{Answer, Scripted, bench, bench_of, lost, no_connection, scripted};
use super::begun;

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
    assert_eq!(
        bench.backend.cancels.lock().unwrap().len(),
        1,
        "it was asked to the end"
    );
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
        tokio::time::sleep(LOOK * 2).await;
        bench.backend.slow.as_ref().unwrap().notify_one();
    });
    handed_over.unwrap();
    let run = bench.drive.journal.read().unwrap();
    assert!(
        run.backend.is_some_and(|backend| backend.uid.is_some()),
        "what there is to stop is known"
    );
}

//! Outputs that cannot be brought at once, late, or never.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::super::facts::about;
use super::super::scripted::{Answer, Bench, bench_with, lost, run, scripted};
use super::*;

type Collects = Vec<Answer<Vec<PathBuf>>>;

fn rejected() -> Answer<Vec<PathBuf>> {
    Err(RunnerError::Rejected {
        message: "a link leads out of the workspace".to_owned(),
    })
}

fn brought() -> Answer<Vec<PathBuf>> {
    Ok(vec![PathBuf::from("model.bin")])
}

/// A run with outputs that succeeded.
fn bench(collects: Collects) -> Bench {
    let mut run = run();
    run.spec.outputs = vec!["*.bin".to_owned()];
    let backend = scripted(vec![Ok(())], vec![]);
    *backend.collects.lock().unwrap() = collects.into();
    let mut bench = bench_with(backend, &run);
    let workspace = bench.drive.journal.path_of("workspace");
    std::fs::create_dir(&workspace).unwrap();
    bench.drive.placed.workspace = Some(workspace);
    bench.drive.placed.write(&bench.drive.journal).unwrap();
    let object = json!({"kind": "ssh", "object": run.id.object_name(run.attempt), "uid": "1"});
    let backend = serde_json::from_value(object).unwrap();
    let ended = qwex_core::Fact::Ended {
        ending: qwex_core::Ending::Succeeded { verified: true },
        started_at: Some(Timestamp::now()),
    };
    let ended = qwex_core::Observation {
        uid: Some(qwex_core::ObjectUid("1".to_owned())),
        ..about(&run, ended)
    };
    let dispatched = about(&run, qwex_core::Fact::Dispatched { backend });
    bench.drive.journal.apply(&[dispatched, ended]).unwrap();
    bench
}

impl Bench {
    fn outputs(&self) -> Outputs {
        Outputs::read(&self.drive.journal).unwrap().unwrap_or_default()
    }

    fn is_removed(&self) -> bool {
        self.backend.removed.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn outputs_that_come_are_taken_and_the_attempt_goes() {
    let bench = bench(vec![lost(), brought()]);
    bench.drive.run().await.unwrap();
    assert_eq!(bench.outputs().collected, Some(vec![PathBuf::from("model.bin")]));
    assert!(bench.is_removed());
}

#[tokio::test]
async fn what_cannot_be_brought_stays_until_it_comes_and_the_end_is_told_meanwhile() {
    let bench = bench(vec![lost()]);
    tokio::select! {
        driven = bench.drive.run() => panic!("it gave up: {driven:?}"),
        () = async {
            while bench.drive.journal.read().unwrap().logs.is_none() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    let told = bench.outputs();
    assert!(told.is_tried && told.is_there && !bench.is_removed(), "{told:?}");
    assert!(told.trouble().unwrap().contains("the connection broke"));

    // Another keeper goes on, and the host is back.
    *bench.backend.collects.lock().unwrap() = [lost(), brought()].into();
    bench.drive.run().await.unwrap();
    assert_eq!(bench.outputs().trouble(), None);
    assert!(bench.is_removed());
}

#[tokio::test]
async fn what_can_never_be_brought_is_told_and_left_where_it_is() {
    let bench = bench(vec![rejected()]);
    bench.drive.run().await.unwrap();
    let told = bench.outputs();
    assert!(!told.is_tried && told.is_there && !bench.is_removed(), "{told:?}");
    assert!(bench.drive.journal.read().unwrap().logs.is_some());
}

#[tokio::test]
async fn what_was_given_up_is_tried_once_more_when_somebody_asks() {
    let bench = bench(vec![rejected()]);
    bench.drive.run().await.unwrap();
    let word = Outputs::ask(&bench.drive.journal).unwrap();
    assert!(!bench.outputs().is_answer_to(&word));
    // It is in vain, and that is an answer too.
    *bench.backend.collects.lock().unwrap() = [rejected()].into();
    bench.drive.run().await.unwrap();
    let told = bench.outputs();
    assert!(
        told.is_answer_to(&word) && told.is_there && !bench.is_removed(),
        "{told:?}"
    );
    // Nobody asked again.
    *bench.backend.collects.lock().unwrap() = [brought()].into();
    bench.drive.run().await.unwrap();
    assert_eq!(bench.outputs().collected, None);
    Outputs::ask(&bench.drive.journal).unwrap();
    bench.drive.run().await.unwrap();
    assert!(bench.outputs().collected.is_some() && bench.is_removed());
}

#[tokio::test]
async fn whoever_asks_does_not_wait_for_the_next_try() {
    let mut bench = bench(vec![lost()]);
    bench.drive.patience.pause = Duration::from_secs(3600);
    bench.drive.patience.limit = Duration::ZERO;
    let asked = async {
        while bench.drive.journal.read().unwrap().logs.is_none() {
            tokio::task::yield_now().await;
        }
        *bench.backend.collects.lock().unwrap() = [brought()].into();
        Outputs::ask(&bench.drive.journal).unwrap();
    };
    let (driven, ()) = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(bench.drive.run(), asked)
    })
    .await
    .expect("it sleeps");
    driven.unwrap();
    assert!(bench.outputs().collected.is_some());
}

#[tokio::test]
async fn a_keeper_that_was_killed_between_the_log_and_the_outputs_loses_none() {
    let bench = bench(vec![brought()]);
    let complete = super::super::log_files::LogIndex {
        complete: true,
        ..Default::default()
    };
    super::super::log_files::write_index(&bench.drive.journal, Attempt::FIRST, &complete).unwrap();
    bench.drive.run().await.unwrap();
    assert!(bench.outputs().collected.is_some() && bench.is_removed());
}

#[tokio::test]
async fn a_backend_that_answers_is_not_asked_without_end() {
    let failed = RunnerError::Failed {
        message: "a link leads out of the workspace".to_owned(),
    };
    let mut bench = bench(vec![Err(failed)]);
    bench.drive.patience.pause = Duration::from_micros(1);
    bench.drive.run().await.unwrap();
    let told = bench.outputs();
    assert!(!told.is_tried && told.is_there && !bench.is_removed(), "{told:?}");
}

/// What came is here: whoever brings it may forget it, whatever lies in its place.
#[tokio::test]
async fn what_somebody_changed_meanwhile_is_left_and_told_and_taken_by_force() {
    let bench = bench(vec![brought()]);
    let journal = &bench.drive.journal;
    let mine = journal.path_of("workspace").join("model.bin");
    let arrived = arrive::ready(journal).unwrap().join("model.bin");
    std::fs::write(&arrived, "theirs").unwrap();
    std::fs::write(&mine, "mine").unwrap();
    std::fs::File::open(journal.path_of("placed.json"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    bench.drive.run().await.unwrap();
    let told = bench.outputs();
    assert_eq!(
        (told.held.len(), told.is_tried, bench.is_removed()),
        (1, false, true),
        "{told:?}"
    );
    let trouble = told.trouble().unwrap();
    assert!(
        trouble.contains("model.bin was changed in the workspace"),
        "{trouble}"
    );
    assert_eq!(std::fs::read(&mine).unwrap(), b"mine");
    let workspace = journal.path_of("workspace");
    let told = told.put_held(journal, &workspace, true).unwrap();
    assert_eq!(
        (told.trouble(), std::fs::read(&mine).unwrap()),
        (None, b"theirs".to_vec())
    );
    assert_eq!(bench.outputs().collected, Some(vec![PathBuf::from("model.bin")]));
}

#[tokio::test]
async fn what_arrived_needs_no_backend_any_more() {
    let bench = bench(vec![brought(), rejected()]);
    let blocked = bench.drive.journal.path_of("workspace").join("model.bin");
    std::fs::create_dir(&blocked).unwrap();
    let arrived = arrive::ready(&bench.drive.journal).unwrap().join("model.bin");
    std::fs::write(&arrived, "theirs").unwrap();
    tokio::select! {
        driven = bench.drive.run() => panic!("it gave up: {driven:?}"),
        () = async {
            while !bench.outputs().is_tried {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    assert!(
        bench
            .outputs()
            .trouble()
            .unwrap()
            .contains("a directory of that name")
    );
    std::fs::remove_dir(&blocked).unwrap();
    bench.drive.run().await.unwrap();
    assert_eq!(std::fs::read(&blocked).unwrap(), b"theirs");
}

#[test]
fn a_backend_that_does_not_open_is_an_answer_to_whoever_asks() {
    let bench = bench(vec![]);
    let journal = &bench.drive.journal;
    let no_context = RunnerError::NotFound {
        message: "the kubeconfig has no context one".to_owned(),
    };
    for (error, is_tried) in [(no_context, false), (lost::<()>().unwrap_err(), true)] {
        let word = Outputs::ask(journal).unwrap();
        let run = Run {
            finished_at: Some(Timestamp::now()),
            ..journal.read().unwrap()
        };
        Outputs::note_unopened(journal, &run, &error).unwrap();
        let told = bench.outputs();
        assert!(
            told.is_answer_to(&word) && told.is_there && told.is_away,
            "{told:?}"
        );
        assert_eq!(
            (told.is_tried, Outputs::are_tried(journal, &run).unwrap()),
            (is_tried, is_tried)
        );
        // After a day nobody tries by himself any more.
        let old = Run {
            finished_at: Some(Timestamp::now() - LONG),
            ..run
        };
        Outputs::note_unopened(journal, &old, &error).unwrap();
        assert!(!bench.outputs().is_tried);
    }
}

#[test]
fn a_record_goes_only_by_force_while_its_outputs_are_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let direct = super::super::Direct::at(dir.path()).unwrap();
    let mut run = run();
    run.spec.outputs = vec!["*.bin".to_owned()];
    run.status = qwex_core::RunStatus::Succeeded;
    let journal = direct.store().create(&run).unwrap();
    journal
        .seal_logs(super::super::log_files::sum_up(&journal, Attempt::FIRST).unwrap())
        .unwrap();
    let error = rejected().unwrap_err();
    Outputs::failed(&error, false).write(&journal).unwrap();
    let refused = direct.remove(run.id).unwrap_err().to_string();
    assert!(refused.contains("a link leads out"), "{refused}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert_eq!(runtime.block_on(direct.remove_anyway(run.id)).unwrap(), None);
    assert!(direct.get(run.id).is_err());
}

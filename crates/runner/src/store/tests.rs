//! The store on a real disk, with what a hostile checkout or a crash may leave there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use jiff::Timestamp;
use qwex_core::{
    Attempt, Ending, Fact, Failure, FailureCode, Flag, JobSpec, Observation, Project, RunName, RunState,
};

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    (temp, store)
}

fn run(name: Option<&str>) -> Run {
    let now = Timestamp::now();
    let spec = JobSpec {
        command: vec!["true".to_owned()],
        ..JobSpec::default()
    };
    let state = RunState::accepted(now, spec.retry.clone());
    Run {
        id: RunId::mint(),
        name: name.map(|name| RunName::new(name).unwrap()),
        project: Project::new("default").unwrap(),
        labels: BTreeMap::new(),
        status: state.status,
        pending: state.pending,
        failure: None,
        spec,
        backend: None,
        attempt: Attempt::FIRST,
        exit_code: None,
        flags: state.flags,
        logs: None,
        created_at: now,
        dispatched_at: None,
        started_at: None,
        finished_at: None,
        created_by: "local:tester".to_owned(),
        provenance: None,
        usage: None,
        imported: None,
    }
}

fn seen(run: &Run, fact: Fact) -> Observation {
    Observation {
        run_id: run.id,
        attempt: run.attempt,
        uid: None,
        at: Timestamp::now(),
        fact,
    }
}

fn failed(run: &Run) -> Observation {
    let failure = Failure {
        exit_code: Some(3),
        ..Failure::new(FailureCode::ExitCode, "exit code 3")
    };
    let ending = Ending::Failed { failure };
    seen(
        run,
        Fact::Ended {
            ending,
            started_at: None,
        },
    )
}

#[test]
fn keeps_a_run_and_moves_it_through_the_transition_function() {
    let (_temp, store) = store();
    let run = run(None);
    let journal = store.create(&run).unwrap();
    assert_eq!(store.get(run.id).unwrap(), run);
    let applied = journal
        .apply(&[seen(&run, Fact::Running { round: 7 }), failed(&run)])
        .unwrap();
    assert!(applied.moved);
    assert_eq!(applied.run.exit_code, Some(3));
    assert_eq!(store.get(run.id).unwrap(), applied.run);
    let again = journal.apply(&[seen(&run, Fact::Running { round: 9 })]).unwrap();
    assert!(!again.moved, "terminal is final");
}

#[test]
fn the_same_run_twice_is_one_and_another_spec_is_refused() {
    let (_temp, store) = store();
    let run = run(None);
    store.create(&run).unwrap();
    store.create(&run).unwrap();
    let mut other = run.clone();
    other.spec.command = vec!["false".to_owned()];
    assert!(matches!(store.create(&other), Err(StoreError::Conflict { .. })));
}

#[test]
fn the_file_has_the_shape_of_the_api_object_and_a_version() {
    let (_temp, store) = store();
    let run = run(Some("train"));
    store.create(&run).unwrap();
    let text = fs::read(store.run_path(run.id).join("run.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let mut api = serde_json::to_value(&run).unwrap();
    api["version"] = 1.into();
    assert_eq!(file, api);
}

#[test]
fn fields_of_a_newer_version_survive_a_rewrite_at_every_depth() {
    let (_temp, store) = store();
    let run = run(None);
    let journal = store.create(&run).unwrap();
    let path = store.run_path(run.id).join("run.json");
    let mut file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    file["starred"] = true.into();
    file["spec"]["resources"]["tpu"] = serde_json::Value::Null;
    file["spec"]["mood"] = "calm".into();
    file["spec"]["resources"] = serde_json::json!({});
    fs::write(&path, file.to_string()).unwrap();
    journal.apply(&[failed(&run)]).unwrap();
    let after: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        (&after["starred"], &after["spec"]["mood"]),
        (&true.into(), &"calm".into())
    );
    assert_eq!(after["status"], "failed");
}

#[test]
fn a_record_of_a_newer_version_is_read_but_never_written() {
    let (_temp, store) = store();
    let run = run(None);
    let journal = store.create(&run).unwrap();
    let path = store.run_path(run.id).join("run.json");
    let newer = fs::read_to_string(&path)
        .unwrap()
        .replace("\"version\": 1", "\"version\": 2");
    fs::write(&path, &newer).unwrap();
    assert_eq!(store.get(run.id).unwrap(), run);
    assert!(matches!(
        journal.apply(&[failed(&run)]),
        Err(StoreError::Newer { version: 2, .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn g07_a_torn_record_is_named_and_hides_no_other() {
    let (_temp, store) = store();
    let (good, bad) = (run(None), run(None));
    store.create(&good).unwrap();
    let journal = store.create(&bad).unwrap();
    let path = store.run_path(bad.id).join("run.json");
    let whole = fs::read(&path).unwrap();
    for torn in [
        Vec::new(),
        vec![0; whole.len()],
        whole[..whole.len() / 2].to_vec(),
    ] {
        fs::write(&path, &torn).unwrap();
        assert!(matches!(store.get(bad.id), Err(StoreError::Damaged { .. })));
        assert!(journal.apply(&[failed(&bad)]).is_err());
        assert_eq!(
            fs::read(&path).unwrap(),
            torn,
            "a damaged record is not overwritten"
        );
        let listing = store.list().unwrap();
        assert_eq!((listing.runs.len(), listing.damaged.len()), (1, 1));
    }
    store.remove(bad.id).unwrap();
    assert!(!path.exists());
}

#[test]
fn g07_a_reader_never_sees_a_part_while_a_writer_writes() {
    let (_temp, store) = store();
    let run = run(None);
    let journal = store.create(&run).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..100 {
                let fact = Fact::Waiting {
                    code: qwex_core::PendingCode::Admission,
                    message: "x".repeat(usize::try_from(round).unwrap() * 50),
                    round,
                };
                journal.apply(&[seen(&run, fact)]).unwrap();
            }
        });
        while !writer.is_finished() {
            store.get(run.id).unwrap();
        }
        writer.join().unwrap();
    });
}

#[test]
fn g09_concurrent_writers_lose_no_update() {
    let (_temp, store) = store();
    let run = run(None);
    store.create(&run).unwrap();
    let facts = [
        Fact::CancelRequested { by: "me".to_owned() },
        Fact::LogsIncomplete {
            message: "gap".to_owned(),
        },
        Fact::DuplicateStart { episodes: Vec::new() },
        Fact::Unreachable {
            message: "link down".to_owned(),
        },
    ];
    std::thread::scope(|scope| {
        for n in 0..20 {
            let (store, run, fact) = (&store, &run, facts[n % facts.len()].clone());
            scope.spawn(move || {
                let journal = store.journal(run.id).unwrap();
                journal.apply(&[seen(run, fact)]).unwrap();
                if n == 13 {
                    journal.apply(&[failed(run)]).unwrap();
                }
            });
        }
    });
    let end = store.get(run.id).unwrap();
    assert!(end.status.is_terminal());
    for flag in [Flag::LogsIncomplete, Flag::DuplicateStart] {
        assert!(
            end.flags.contains(&flag),
            "{flag} is missing from {:?}",
            end.flags
        );
    }
}

#[test]
fn g10_ids_are_uuids_and_nothing_else() {
    let (temp, store) = store();
    fs::create_dir(temp.path().join(".qwex/runs/not-a-run")).unwrap();
    let run = run(None);
    store.create(&run).unwrap();
    let upper = temp
        .path()
        .join(".qwex/runs")
        .join(RunId::mint().to_string().to_uppercase());
    fs::create_dir(upper).unwrap();
    assert_eq!(store.list_ids().unwrap(), [run.id]);
    for word in ["../x", "..", "/etc", "a/b", ""] {
        assert!(
            matches!(store.resolve(word), Err(StoreError::NotFound { .. })),
            "{word}"
        );
    }
}

#[test]
fn g10_planted_symlinks_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "theirs").unwrap();
    let hostile = tempfile::tempdir().unwrap();
    symlink(outside.path(), hostile.path().join(".qwex")).unwrap();
    assert!(Store::open(hostile.path()).is_err());
    let half = tempfile::tempdir().unwrap();
    fs::create_dir(half.path().join(".qwex")).unwrap();
    symlink(outside.path(), half.path().join(".qwex/runs")).unwrap();
    assert!(Store::open(half.path()).is_err());
    let (_temp, store) = store();
    let (planted, taken) = (run(None), run(None));
    symlink(outside.path(), store.run_path(planted.id)).unwrap();
    assert!(store.create(&planted).is_err());
    let journal = store.create(&taken).unwrap();
    let record = store.run_path(taken.id).join("run.json");
    fs::remove_file(&record).unwrap();
    symlink(&victim, &record).unwrap();
    assert!(store.get(taken.id).is_err());
    assert!(journal.apply(&[failed(&taken)]).is_err());
    let inside: Vec<_> = fs::read_dir(outside.path()).unwrap().collect();
    assert_eq!(inside.len(), 1);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
}

#[test]
fn words_find_runs() {
    let (_temp, store) = store();
    let runs = [run(Some("train")), run(Some("train")), run(Some("eval"))];
    for run in &runs {
        store.create(run).unwrap();
    }
    let [old, failing, newest] = &runs;
    store
        .journal(failing.id)
        .unwrap()
        .apply(&[failed(failing)])
        .unwrap();
    let mut by_age: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    by_age.sort_unstable();
    assert_eq!(store.resolve("@latest").unwrap(), by_age[2]);
    assert_eq!(store.resolve("@last-failed").unwrap(), failing.id);
    assert_eq!(store.resolve("eval").unwrap(), newest.id);
    assert_eq!(store.resolve("train").unwrap(), old.id.max(failing.id));
    assert_eq!(store.resolve(&old.id.to_string()).unwrap(), old.id);
    assert_eq!(store.resolve(&old.id.to_string()[..30]).unwrap(), old.id);
    let shared = &old.id.to_string()[..6];
    assert!(matches!(store.resolve(shared), Err(StoreError::Ambiguous { .. })));
    assert!(matches!(store.remove(old.id), Err(StoreError::Active { .. })));
}

fn newest(store: &Store, most: usize) -> Vec<RunId> {
    let mut ids = store.newest_ids(most).unwrap();
    ids.truncate(most);
    ids
}

#[test]
fn the_index_follows_what_is_made_and_removed() {
    let (_temp, store) = store();
    let ids: Vec<RunId> = (0..5)
        .map(|_| {
            let run = run(None);
            store.create(&run).unwrap();
            run.id
        })
        .collect();
    let backwards: Vec<RunId> = ids.iter().rev().copied().collect();
    assert_eq!(newest(&store, 9), backwards);
    assert_eq!(newest(&store, 2), backwards[..2]);
    let made = run(None);
    store.create(&made).unwrap();
    assert_eq!(newest(&store, 1), [made.id], "appended, not made again");
    fs::remove_dir_all(store.run_path(made.id)).unwrap();
    assert_eq!(
        newest(&store, 9),
        backwards,
        "made again after a change behind its back"
    );
}

#[test]
fn a_run_from_elsewhere_finds_its_place_by_age() {
    let (_temp, store) = store();
    let mut old = run(None);
    old.id = "01890000-0000-7000-8000-000000000000".parse().unwrap();
    let new = run(None);
    store.create(&new).unwrap();
    assert_eq!(newest(&store, 1), [new.id]);
    store.create(&old).unwrap();
    assert_eq!(newest(&store, 2), [new.id, old.id]);
}

#[test]
fn a_torn_or_foreign_index_is_made_again() {
    let (temp, store) = store();
    let run = run(None);
    store.create(&run).unwrap();
    assert_eq!(newest(&store, 1), [run.id]);
    fs::write(temp.path().join(".qwex/index"), b"torn").unwrap();
    assert_eq!(newest(&store, 1), [run.id]);
}

#[test]
fn a_list_with_a_limit_looks_no_further() {
    let (_temp, store) = store();
    for name in ["a", "b", "a", "b", "b"] {
        store.create(&run(Some(name))).unwrap();
    }
    let named = |run: &Run| run.name.as_ref().is_some_and(|name| name.as_str() == "a");
    assert_eq!(store.list_newest(1, named).unwrap().runs.len(), 1);
    assert_eq!(store.list_newest(9, named).unwrap().runs.len(), 2);
    assert_eq!(store.list_newest(2, |_| true).unwrap().runs.len(), 2);
}

#[test]
fn records_of_another_user_are_neither_opened_nor_found_from_below() {
    if !nix::unistd::Uid::effective().is_root() {
        // Nobody else can give a directory away.
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let below = dir.path().join("below");
    std::fs::create_dir(&below).unwrap();
    Store::open(dir.path()).unwrap();
    assert!(Store::find(&below).unwrap().is_some());
    let stranger = Some(54_321.into());
    nix::unistd::chown(&dir.path().join(".qwex"), stranger, None).unwrap();
    let foreign =
        |found: Result<(), StoreError>| matches!(found, Err(StoreError::Foreign { owner: 54_321, .. }));
    assert!(foreign(Store::open(dir.path()).map(drop)));
    assert!(foreign(Store::find(dir.path()).map(drop)));
    assert!(Store::find(&below).unwrap().is_none());
}

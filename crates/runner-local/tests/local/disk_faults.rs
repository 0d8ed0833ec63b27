//! Rows G07 to G10 of the fault list: torn files, full disks, many hands at once, hostile directories.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use qwex_core::{Attempt, Ending, EpisodeId, Fact, FailureCode, Observation};
use qwex_runner::{Handle, LogPosition, LogSource, RunnerError, Store, Watcher};
use qwex_runner_local::{LocalBackend, LocalConfig};

use crate::support::{embedded, embedded_with, laptop, run_of, shell, skip, supervisor, until, work};

#[test]
fn g07_a_record_is_whole_whenever_its_writer_is_killed() {
    let project = tempfile::tempdir().unwrap();
    let store = Store::open(project.path()).unwrap();
    let work = work(&["true"]);
    store.create(&run_of(&work)).unwrap();
    let written = || {
        let run = store.get(work.run_id).unwrap();
        run.pending.map_or(0, |pending| pending.message.len())
    };
    let untouched = written();
    for point in 0..50_u64 {
        let mut writer = Command::new(&supervisor()[0])
            .arg("scribble")
            .arg(project.path())
            .arg(work.run_id.to_string())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if point == 0 {
            until("a first word", || (written() != untouched).then_some(()));
        }
        std::thread::sleep(Duration::from_micros(3000 + point * 170));
        writer.kill().unwrap();
        writer.wait().unwrap();
        // Whatever it says, it can be read.
        written();
    }
    // And nobody holds a lock any more.
    let seen = Observation {
        run_id: work.run_id,
        attempt: Attempt::FIRST,
        uid: None,
        at: jiff::Timestamp::now(),
        fact: Fact::CancelRequested { by: "me".to_owned() },
    };
    assert!(store.journal(work.run_id).unwrap().apply(&[seen]).unwrap().moved);
}

#[test]
fn g07_an_attempt_that_a_power_failure_left_empty_is_made_again() {
    let bench = embedded();
    let run = shell("exit 3");
    let place = bench.backend.config().root.join(run.object_name());
    fs::create_dir(&place).unwrap();
    let handle = bench.submit(&run);
    assert!(
        matches!(bench.wait(&handle), Ending::Failed { failure } if failure.exit_code == Some(3)),
        "it ran"
    );

    let theirs = shell("exit 3");
    let place = bench.backend.config().root.join(theirs.object_name());
    fs::create_dir(&place).unwrap();
    fs::write(place.join("notes"), "of somebody else").unwrap();
    let refused = bench.backend.submit_sync(&theirs).unwrap_err();
    assert!(matches!(refused, RunnerError::NameConflict { .. }), "{refused}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "what is theirs stays");
}

#[test]
fn g07_a_torn_end_is_no_end() {
    let bench = embedded();
    let run = shell("exit 3");
    let handle = bench.submit(&run);
    bench.wait(&handle);
    let end = bench
        .backend
        .config()
        .root
        .join(run.object_name())
        .join("end.json");
    let whole = fs::read(&end).unwrap();
    for torn in [Vec::new(), vec![0; whole.len()], whole[..20].to_vec()] {
        fs::write(&end, torn).unwrap();
        until("a lost run", || match bench.wait(&handle) {
            Ending::Failed { failure } => (failure.code == FailureCode::Lost).then_some(()),
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn g07_a_damaged_record_of_the_start_never_starts_anew() {
    let bench = embedded();
    let count = bench.backend.config().root.join("count");
    let run = shell(&format!("echo once >> {}", count.display()));
    let handle = bench.submit(&run);
    bench.wait(&handle);
    let dir = bench.backend.config().root.join(run.object_name());
    for name in ["supervisor.json", "work.json"] {
        let whole = fs::read(dir.join(name)).unwrap();
        fs::write(dir.join(name), &whole[..whole.len() / 2]).unwrap();
        let error = bench.backend.submit_sync(&run).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(
            bench.backend.observe_sync(&handle).is_err(),
            "unreadable is not absent"
        );
        fs::write(dir.join(name), whole).unwrap();
    }
    assert_eq!(fs::read_to_string(&count).unwrap(), "once\n");
}

/// A small file system of its own, gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted() -> Option<Self> {
        let temp = tempfile::tempdir().unwrap();
        let options = Some("size=1m");
        match mount(
            Some("tmpfs"),
            temp.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        ) {
            Ok(()) => Some(Self(temp)),
            Err(error) => {
                skip(&format!(
                    "cannot mount a small disk ({error}); run the tests as root"
                ));
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

#[test]
fn g08_a_full_disk_neither_holds_the_command_nor_loses_its_end() {
    let Some(disk) = SmallDisk::mounted() else { return };
    let bench = embedded_with(|config| config.root = disk.0.path().join("runs"));
    // Fills the disk with its own log, to the last byte; then it ends as it likes.
    let run = shell("head -c 4000000 /dev/zero; cat /dev/zero | head -c 100000; exit 6");
    match bench.run(&run) {
        Ending::Failed { failure } => {
            assert_eq!(failure.exit_code, Some(6), "{failure:?}");
            assert!(failure.message.contains("is full"), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn g07_a_record_that_cannot_be_replaced_stays_as_it_was() {
    let Some(disk) = SmallDisk::mounted() else { return };
    let store = Store::open(disk.0.path()).unwrap();
    let work = work(&["true"]);
    let journal = store.create(&run_of(&work)).unwrap();
    let before = store.get(work.run_id).unwrap();
    let filled = fs::write(disk.0.path().join("ballast"), vec![b'x'; 2 << 20]);
    assert!(filled.is_err(), "the disk is full");
    let seen = Observation {
        run_id: work.run_id,
        attempt: Attempt::FIRST,
        uid: None,
        at: jiff::Timestamp::now(),
        fact: Fact::Running { round: 0 },
    };
    let error = journal.apply(std::slice::from_ref(&seen)).unwrap_err();
    assert!(error.to_string().contains("run.json"), "{error}");
    assert_eq!(store.get(work.run_id).unwrap(), before);
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    // A small file system gives its blocks back in its own time.
    let after = until("room on the disk", || {
        journal.apply(std::slice::from_ref(&seen)).ok()
    });
    assert!(after.moved);
    let names: Vec<_> = fs::read_dir(store.run_path(work.run_id)).unwrap().collect();
    assert_eq!(names.len(), 2, "record and lock, no temporary file: {names:?}");
}

#[test]
fn g09_many_hands_on_one_run_make_one_object_and_one_end() {
    let bench = laptop();
    let project = tempfile::tempdir().unwrap();
    let store = Store::open(project.path()).unwrap();
    let count = project.path().join("count");
    let work = shell(&format!("echo once >> {}; sleep 300", count.display()));
    store.create(&run_of(&work)).unwrap();
    let uids: Vec<_> = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..50)
            .map(|hand| {
                let (bench, store, work) = (&bench, &store, &work);
                scope.spawn(move || {
                    let handle = bench.submit(work);
                    if hand % 5 == 0 {
                        until("the start", || {
                            let seen = bench.backend.observe_sync(&handle).unwrap();
                            seen.iter()
                                .any(|seen| matches!(seen.fact, Fact::Running { .. }))
                                .then_some(())
                        });
                        bench.backend.cancel_sync(&handle).unwrap();
                    }
                    let journal = store.journal(work.run_id).unwrap();
                    bench.wait(&handle);
                    journal
                        .apply(&bench.backend.observe_sync(&handle).unwrap())
                        .unwrap();
                    bench.backend.release_sync(&handle).unwrap();
                    handle.backend.uid.unwrap()
                })
            })
            .collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).collect()
    });
    assert!(uids.iter().all(|uid| *uid == uids[0]));
    assert_eq!(fs::read_to_string(&count).unwrap(), "once\n");
    let run = store.get(work.run_id).unwrap();
    assert!(run.status.is_terminal(), "{run:?}");
    assert_eq!(run.backend.unwrap().uid, Some(uids[0].clone()));
}

#[test]
fn g10_a_planted_symlink_makes_us_write_nowhere_else() {
    let bench = embedded();
    let outside = tempfile::tempdir().unwrap();
    let run = work(&["true"]);
    let place = bench.backend.config().root.join(run.object_name());
    symlink(outside.path(), &place).unwrap();
    assert!(bench.backend.submit_sync(&run).is_err());
    symlink(outside.path(), bench.backend.config().root.join("link")).unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let linked_root = outside.path().join("root");
    symlink(bench.backend.config().root.clone(), &linked_root).unwrap();
    let config = LocalConfig::laptop(linked_root, supervisor(), "/".into());
    assert!(LocalBackend::new(config).is_err());
}

#[tokio::test]
async fn g10_a_log_is_what_the_command_wrote_and_no_other_file() {
    let bench = embedded();
    let run = work(&["echo", "mine"]);
    let handle: Handle = bench.submit(&run);
    bench.wait(&handle);
    let named = |stream: &str| LogSource {
        run_id: run.run_id,
        attempt: run.attempt,
        episode: EpisodeId("e".to_owned()),
        stream: stream.to_owned(),
        locator: "/etc/passwd".to_owned(),
    };
    for stream in ["../work", "/etc/passwd", "work.json", ""] {
        let read = bench
            .backend
            .read_log(&named(stream), LogPosition::default(), false)
            .await;
        assert!(read.is_err(), "{stream}");
    }
    let log = bench
        .backend
        .config()
        .root
        .join(run.object_name())
        .join("output.log");
    fs::remove_file(&log).unwrap();
    symlink("/etc/passwd", &log).unwrap();
    let mut read = bench
        .backend
        .read_log(&named("output"), LogPosition::default(), false)
        .await
        .unwrap();
    let first = futures::StreamExt::next(&mut read).await.unwrap();
    assert!(first.is_err(), "{first:?}");
}

//! From submit to the end, the way the server and the client use it.

use std::time::Duration;

use futures::StreamExt;
use qwex_core::{BackendInfo, BackendKind, Ending, Fact, FailureCode, ObjectUid};
use qwex_runner::{CancelProgress, Runner, RunnerError, Sighting, Watcher};

use crate::support::{embedded, embedded_with, laptop, shell, skip, work};

fn failure(ending: Ending) -> (FailureCode, Option<i32>, Option<i32>) {
    match ending {
        Ending::Failed { failure } => (failure.code, failure.exit_code, failure.signal),
        other => panic!("not a failure: {other:?}"),
    }
}

#[test]
fn exit_codes_and_start_errors() {
    let bench = embedded();
    assert_eq!(bench.run(&work(&["true"])), Ending::Succeeded { verified: true });
    let three = failure(bench.run(&shell("exit 3")));
    assert_eq!(three, (FailureCode::ExitCode, Some(3), None));
    let missing = failure(bench.run(&work(&["no-such-program-here"])));
    assert_eq!(missing, (FailureCode::StartError, Some(127), None));
    let not_executable = failure(bench.run(&work(&["/etc/passwd"])));
    assert_eq!(not_executable, (FailureCode::StartError, Some(126), None));
}

#[test]
fn output_goes_where_the_mode_says() {
    let script = "echo out; echo err >&2";
    let server = embedded();
    let run = shell(script);
    server.run(&run);
    assert_eq!(server.file(&run, "output.log"), "out\nerr\n");
    let person = laptop();
    let run = shell(script);
    person.run(&run);
    let dir = person.backend.config().root.join(run.run_id.to_string());
    assert_eq!(std::fs::read_to_string(dir.join("stdout.log")).unwrap(), "out\n");
    assert_eq!(std::fs::read_to_string(dir.join("stderr.log")).unwrap(), "err\n");
}

#[test]
fn a_server_keeps_its_own_environment_to_itself() {
    let bench = embedded();
    let mut run = shell("env");
    run.spec.env.insert("MINE".to_owned(), "yes".to_owned());
    bench.run(&run);
    let env = bench.file(&run, "output.log");
    let names: Vec<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.contains(&"MINE") && names.contains(&"QWEX_RUN_ID") && names.contains(&"QWEX_ATTEMPT"));
    assert!(
        !names.contains(&"CARGO_MANIFEST_DIR") && !names.contains(&"QWEX_SUPERVISES"),
        "{names:?}"
    );
}

#[test]
fn the_timeout_ends_a_command() {
    let bench = embedded();
    let mut run = work(&["sleep", "60"]);
    run.spec.timeout = Some("200ms".parse().unwrap());
    let (code, _, signal) = failure(bench.run(&run));
    assert_eq!((code, signal), (FailureCode::Timeout, Some(15)));
}

#[test]
fn the_same_attempt_with_another_spec_is_refused() {
    let bench = embedded();
    let run = work(&["true"]);
    let first = bench.backend.submit_sync(&run).unwrap();
    let second = bench.backend.submit_sync(&run).unwrap();
    assert!(!first.adopted && second.adopted);
    assert_eq!(first.backend, second.backend);
    let mut other = run.clone();
    other.spec.command = vec!["false".to_owned()];
    let refused = bench.backend.submit_sync(&other).unwrap_err();
    assert!(matches!(refused, RunnerError::NameConflict { .. }), "{refused}");
}

#[test]
fn what_a_process_cannot_have_is_refused_with_a_way_out() {
    let bench = laptop();
    let mut run = work(&["true"]);
    run.spec.image = Some("busybox".to_owned());
    let refused = bench.backend.submit_sync(&run).unwrap_err();
    assert!(refused.to_string().contains("container backend"), "{refused}");
    let mut run = work(&["echo", "a\0b"]);
    assert!(matches!(
        bench.backend.submit_sync(&run),
        Err(RunnerError::Rejected { .. })
    ));
    run.spec.command = vec![];
    assert!(bench.backend.submit_sync(&run).is_err());
}

#[tokio::test]
async fn a_watch_tells_the_whole_story_and_says_that_the_image_is_not_used() {
    let bench = embedded();
    let mut watch = bench.backend.watch(None).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap(), Sighting::Listed(vec![]));
    let mut run = shell("echo hi; exit 4");
    run.spec.image = Some("busybox:1".to_owned());
    bench.backend.submit(&run).await.unwrap();
    let mut story = Vec::new();
    while let Some(sighting) = watch.next().await {
        match sighting.unwrap() {
            Sighting::Seen(seen) => {
                if let Fact::Waiting { message, .. } = &seen.fact {
                    assert!(
                        message.contains("not used here: the image busybox:1"),
                        "{message}"
                    );
                }
                story.push(seen.fact);
            }
            Sighting::Detailed(object, details) => {
                assert_eq!((object.run_id, object.attempt), (run.run_id, run.attempt));
                assert!(details.host.is_some() && details.usage.is_some(), "{details:?}");
                break;
            }
            Sighting::LogReady(source) => assert_eq!(source.stream, "output"),
            Sighting::Claimed(_) | Sighting::Listed(_) | Sighting::Position(_) | Sighting::Alive => {}
        }
    }
    assert!(
        matches!(
            story.as_slice(),
            [
                Fact::Dispatched { .. },
                Fact::Waiting { .. },
                Fact::EpisodeStarted { .. },
                Fact::Running { round: 0 },
                Fact::EpisodeEnded { .. },
                Fact::Ended { .. },
            ]
        ),
        "{story:?}"
    );
}

#[test]
fn a_released_attempt_is_removed_when_its_time_is_over() {
    let bench = embedded_with(|config| config.retention = Some(Duration::ZERO));
    let run = work(&["true"]);
    let handle = bench.submit(&run);
    bench.wait(&handle);
    bench.backend.release_sync(&handle).unwrap();
    assert!(!bench.backend.config().root.join(run.object_name()).exists());
    let kept = embedded_with(|config| config.retention = Some(Duration::from_secs(3600)));
    let handle = kept.submit(&run);
    kept.wait(&handle);
    kept.backend.release_sync(&handle).unwrap();
    assert!(kept.backend.config().root.join(run.object_name()).exists());
}

#[test]
fn a_run_under_way_cannot_be_released() {
    let bench = embedded();
    let handle = bench.submit(&work(&["sleep", "300"]));
    assert!(bench.backend.release_sync(&handle).is_err());
    assert_eq!(bench.backend.stop_all_sync(Duration::from_secs(20)).unwrap(), 0);
    bench.backend.release_sync(&handle).unwrap();
}

#[test]
fn stopping_all_is_no_cancel_and_no_failure_of_the_command() {
    let bench = embedded();
    let handles: Vec<_> = (0..3).map(|_| bench.submit(&work(&["sleep", "300"]))).collect();
    assert_eq!(bench.backend.stop_all_sync(Duration::from_secs(20)).unwrap(), 0);
    for handle in handles {
        let end = bench.wait(&handle);
        assert!(matches!(end, Ending::Stopped { signal: Some(15), .. }), "{end:?}");
    }
}

#[test]
fn another_uid_than_the_handles_is_never_touched() {
    let bench = embedded();
    let run = work(&["sleep", "300"]);
    let mut handle = bench.submit(&run);
    let real = handle.backend.uid.replace(ObjectUid("another".to_owned()));
    assert_eq!(
        bench.backend.cancel_sync(&handle).unwrap(),
        CancelProgress::Stopped
    );
    let seen = bench.backend.observe_sync(&handle).unwrap();
    assert!(matches!(seen[0].fact, Fact::Gone { .. }), "{seen:?}");
    handle.backend.uid = real;
    let seen = bench.backend.observe_sync(&handle).unwrap();
    assert!(!seen.iter().any(|seen| matches!(seen.fact, Fact::Ended { .. })));
    bench.backend.stop_all_sync(Duration::from_secs(20)).unwrap();
}
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_the_ends_of_two_hundred_runs_at_once() {
    let bench = embedded();
    let mut watch = bench.backend.watch(None).await.unwrap();
    let runs: Vec<_> = (0..200).map(|n| shell(&format!("exit {}", n % 7))).collect();
    let submits = runs.iter().map(|run| bench.backend.submit(run));
    let begun = std::time::Instant::now();
    let submitted = futures::future::try_join_all(submits).await.unwrap();
    let took = begun.elapsed();
    assert!(submitted.iter().all(|submitted| !submitted.adopted));
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < runs.len() {
        let next = tokio::time::timeout(crate::support::LIMIT, watch.next());
        if let Sighting::Seen(seen) = next.await.unwrap().unwrap().unwrap()
            && let Fact::Ended { ending, .. } = seen.fact
        {
            assert!(ends.insert(seen.run_id, ending).is_none(), "an end is told once");
        }
    }
    eprintln!("200 submits took {took:?}, 200 ends {:?}", begun.elapsed());
    for (n, run) in runs.iter().enumerate() {
        let code = match &ends[&run.run_id] {
            Ending::Succeeded { .. } => Some(0),
            Ending::Failed { failure } => failure.exit_code,
            Ending::Stopped { .. } => None,
        };
        assert_eq!(code, Some(i32::try_from(n % 7).unwrap()));
    }
}

#[test]
fn limits_are_a_control_group_that_is_said_and_gone_afterwards() {
    let bench = laptop();
    let mut work = shell("cat /proc/self/cgroup");
    work.spec.resources.memory = Some("64Mi".to_owned());
    work.spec.resources.cpu = Some("500m".to_owned());
    let handle = bench.submit(&work);
    assert_eq!(bench.wait(&handle), Ending::Succeeded { verified: true });
    let told = bench.backend.observe_sync(&handle).unwrap();
    let told = told.iter().find_map(|seen| match &seen.fact {
        Fact::Waiting { message, .. } => Some(message.clone()),
        _ => None,
    });
    let told = told.unwrap();
    if !told.contains("holds memory at 67108864 bytes") || !told.contains("holds cpu at 500m") {
        assert!(told.contains("no control group can be made"), "{told}");
        return skip("cannot make a control group; run the tests as root");
    }
    let log = bench.dir().join("runs").join(work.run_id.to_string());
    let groups = std::fs::read_to_string(log.join("stdout.log")).unwrap();
    let ours: Vec<&str> = groups
        .lines()
        .filter(|line| line.ends_with(&work.object_name()))
        .collect();
    assert!(!ours.is_empty(), "{groups}");
    let left = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &work.object_name()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "a group is left");
}

#[test]
fn a_submit_that_arrives_after_a_cancel_starts_nothing() {
    for bench in [embedded(), laptop()] {
        let ran = bench.dir().join("ran");
        let run = shell(&format!("echo x >> {}", ran.display()));
        let mut handle = qwex_runner::conformance::handle(
            &run,
            &qwex_runner::Submitted {
                backend: BackendInfo {
                    kind: BackendKind::Local,
                    cluster: None,
                    address: None,
                    namespace: None,
                    object: run.object_name(),
                    uid: None,
                },
                adopted: false,
            },
        );
        for _ in 0..2 {
            let progress = bench.backend.cancel_sync(&handle).unwrap();
            assert_eq!(progress, CancelProgress::Stopped);
        }
        // It was on its way all the time, twice.
        for _ in 0..2 {
            let submitted = bench.backend.submit_sync(&run).unwrap();
            assert!(submitted.adopted, "{submitted:?}");
            handle.backend = submitted.backend;
        }
        let end = bench.wait(&handle);
        assert!(matches!(end, Ending::Stopped { .. }), "{end:?}");
        assert!(!ran.exists());
        bench.backend.release_sync(&handle).unwrap();
    }
}

#[test]
fn what_was_submitted_and_removed_is_not_made_again_by_a_cancel() {
    let bench = embedded();
    let run = work(&["true"]);
    let handle = bench.submit(&run);
    bench.wait(&handle);
    let place = bench.backend.config().root.join(run.object_name());
    std::fs::remove_dir_all(&place).unwrap();
    assert_eq!(
        bench.backend.cancel_sync(&handle).unwrap(),
        CancelProgress::Stopped
    );
    assert!(!place.exists());
}

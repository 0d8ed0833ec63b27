//! From submit to the end, the way the server and the client use it.

use futures::StreamExt;
use qwex_core::{Ending, Fact, FailureCode};
use qwex_runner::{Runner, RunnerError, Sighting, Watcher};

use crate::support::{embedded, laptop, shell, work};

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
                let last = matches!(seen.fact, Fact::Ended { .. });
                if let Fact::Waiting { message, .. } = &seen.fact {
                    assert!(message.contains("busybox:1 is not used"), "{message}");
                }
                story.push(seen.fact);
                if last {
                    break;
                }
            }
            Sighting::LogReady(source) => assert_eq!(source.stream, "output"),
            Sighting::Listed(_) | Sighting::Position(_) | Sighting::Alive => {}
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

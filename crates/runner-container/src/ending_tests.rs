use super::*;
use std::collections::HashMap;

use crate::names;
use crate::snapshot::Phase;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_262_920 + second).unwrap()
}

/// Made at 0, started at 1, ended at 5 with this code.
fn ended(code: i64) -> Snapshot {
    Snapshot {
        id: "0123456789abcdef".to_owned(),
        name: "qwex".to_owned(),
        labels: HashMap::new(),
        phase: Phase::Ended,
        exit_code: Some(code),
        oom_killed: false,
        error: String::new(),
        created_at: Some(at(0)),
        started_at: Some(at(1)),
        finished_at: Some(at(5)),
        image_id: None,
        pid: None,
        log_path: None,
        log_driver: None,
        memory_limit: 0,
    }
}

fn stop(cause: StopCause, second: i64) -> Stop {
    Stop {
        cause,
        asked_at: at(second),
    }
}

fn code(ending: &Ending) -> Option<FailureCode> {
    match ending {
        Ending::Failed { failure } => Some(failure.code),
        Ending::Succeeded { .. } | Ending::Stopped { .. } => None,
    }
}

#[test]
fn h02_a_code_that_nobody_saw_is_no_result() {
    for invented in [0, 137, 255] {
        let mut container = ended(invented);
        container.finished_at = None;
        let ending = of_container(&container, None);
        assert_eq!(
            code(&ending),
            Some(FailureCode::Lost),
            "{invented} without a time"
        );
        container.finished_at = Some(at(-60));
        let ending = of_container(&container, None);
        assert_eq!(
            code(&ending),
            Some(FailureCode::Lost),
            "{invented} before it was made"
        );
    }
    assert_eq!(code(&of_container(&ended(-1), None)), Some(FailureCode::Lost));
    let mut silent = ended(0);
    silent.exit_code = None;
    assert_eq!(code(&of_container(&silent, None)), Some(FailureCode::Lost));
}

#[test]
fn codes_are_told_as_they_are() {
    assert_eq!(
        of_container(&ended(0), None),
        Ending::Succeeded { verified: true }
    );
    for exit in [1, 42, 127, 255] {
        let Ending::Failed { failure } = of_container(&ended(exit), None) else {
            panic!("{exit}");
        };
        assert_eq!(failure.code, FailureCode::ExitCode);
        assert_eq!(i64::from(failure.exit_code.unwrap()), exit);
    }
    let Ending::Failed { failure } = of_container(&ended(139), None) else {
        panic!("139");
    };
    assert!(failure.message.contains("signal 11"), "{}", failure.message);
}

#[test]
fn want_of_memory_is_told_where_the_engine_says_so_and_hinted_at_where_it_may_be() {
    let mut container = ended(137);
    container.memory_limit = 64 << 20;
    let Ending::Failed { failure } = of_container(&container, None) else {
        panic!("137");
    };
    assert_eq!(failure.code, FailureCode::ExitCode);
    assert!(failure.message.contains("64 MiB"), "{}", failure.message);
    container.oom_killed = true;
    assert_eq!(code(&of_container(&container, None)), Some(FailureCode::Oom));
    // A killed child that the command survived is not the command's end.
    container.exit_code = Some(0);
    assert_eq!(
        of_container(&container, None),
        Ending::Succeeded { verified: true }
    );
}

/// A stop is only recorded of what was seen running, so no clock is asked: the engine's may be behind ours.
#[test]
fn a13_an_end_after_we_asked_is_ours_whatever_the_clocks_say() {
    let by_a_clock_ahead = stop(StopCause::Cancelled, 60);
    let ending = of_container(&ended(0), Some(&by_a_clock_ahead));
    assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
    let before = stop(StopCause::Cancelled, 3);
    for exit in [0, 3, 143] {
        let ending = of_container(&ended(exit), Some(&before));
        assert!(matches!(ending, Ending::Stopped { .. }), "{exit}: {ending:?}");
    }
    let timeout = stop(StopCause::Timeout, 3);
    assert_eq!(
        code(&of_container(&ended(0), Some(&timeout))),
        Some(FailureCode::Timeout)
    );
}

/// Whoever stopped it wrote its record in another directory: the container's own label tells.
#[test]
fn a14_a_signal_after_the_deadline_is_a_timeout_without_any_record() {
    let mut container = ended(143);
    container
        .labels
        .insert(names::TIMEOUT.to_owned(), "3000".to_owned());
    assert_eq!(code(&of_container(&container, None)), Some(FailureCode::Timeout));
    container
        .labels
        .insert(names::TIMEOUT.to_owned(), "60000".to_owned());
    assert_eq!(code(&of_container(&container, None)), Some(FailureCode::ExitCode));
}

#[test]
fn a_command_that_could_not_begin_is_a_start_error() {
    let mut container = ended(127);
    container.started_at = None;
    container.error = "exec: \"x\": executable file not found in $PATH".to_owned();
    let Ending::Failed { failure } = of_container(&container, None) else {
        panic!("not started");
    };
    assert_eq!(failure.code, FailureCode::StartError);
    assert!(failure.message.contains("\"x\""));
    let mut record = crate::record::Record::new(String::new(), String::new());
    record.end(EndCause::Cancelled, "before it began");
    let end = record.end.unwrap();
    assert!(matches!(of_record(&end), Ending::Stopped { .. }));
}

//! Tests of [`super::Backend`]: what the server's record says, told as observations, leads to the same record.

use qwex_core::spec::RetryPolicy;
use qwex_core::transition::{RunState, Step, next};

use qwex_core::Run;

use super::*;

fn run(json: &str) -> Run {
    let head = r#"{"id":"01938e5c-7a3b-7c4d-8e5f-6a7b8c9d0e1f","project":"default","spec":{"command":["true"]},
        "attempt":1,"created_at":"2026-01-01T00:00:00Z","created_by":"token:ci","#;
    serde_json::from_str(&format!("{head}{json}}}")).unwrap()
}

fn replay(run: &Run) -> RunState {
    let mut state = RunState::accepted(run.created_at, RetryPolicy::default());
    for observation in observations(&row_of(run)) {
        if let Step::Move(moved) = next(&state, &observation) {
            state = *moved;
        }
    }
    state
}

#[test]
fn every_end_is_told_so_that_the_transition_ends_the_same() {
    for (json, status) in [
        (
            r#""status":"succeeded","exit_code":0,"dispatched_at":"2026-01-01T00:00:01Z""#,
            RunStatus::Succeeded,
        ),
        (
            r#""status":"failed","exit_code":3,"failure":{"code":"exit_code","message":"exit code 3","exit_code":3}"#,
            RunStatus::Failed,
        ),
        (
            r#""status":"cancelled","exit_code":143,"flags":["cancel_requested"]"#,
            RunStatus::Cancelled,
        ),
        (
            r#""status":"running","started_at":"2026-01-01T00:00:02Z""#,
            RunStatus::Running,
        ),
    ] {
        let run = run(json);
        let state = replay(&run);
        assert_eq!(state.status, status);
        assert_eq!(state.exit_code, run.exit_code);
    }
}

#[test]
fn a_waiting_run_says_why() {
    let run = run(
        r#""status":"pending","pending":{"code":"admission","message":"no quota","since":"2026-01-01T00:00:01Z"}"#,
    );
    assert_eq!(replay(&run).pending, run.pending);
}

#[test]
fn blind_is_told_apart_from_refused() {
    let unreachable = ApiError::Unreachable {
        server: "http://x".into(),
        message: "refused".into(),
    };
    assert!(refused(unreachable).is_blind());
    let problem = qwex_api::Problem::new(ErrorCode::InvalidField, "bad image", "r");
    let rejected = refused(ApiError::Problem {
        problem: Box::new(problem),
        retry_after: None,
    });
    assert!(!rejected.is_retryable());
}

//! The exit code of a run: the command's own, 128+n for signals, and what stands for ends without one.

use qwex_core::{Run, RunStatus};

use crate::error::Exit;

/// The exit code for the foreground. A run that is not over has none: 125.
#[must_use]
pub fn of_run(run: &Run) -> u8 {
    let signal = run.failure.as_ref().and_then(|failure| failure.signal);
    let own = run
        .exit_code
        .or_else(|| run.failure.as_ref().and_then(|failure| failure.exit_code))
        .or_else(|| signal.map(|signal| 128 + signal));
    match run.status {
        RunStatus::Pending | RunStatus::Running => Exit::Qwex.code(),
        RunStatus::Succeeded => 0,
        // An end that is no success must not look like one.
        RunStatus::Failed => own.map_or(Exit::Qwex.code(), not_zero),
        // Whether the command or the backend gave it a code on its way out differs from backend to backend.
        RunStatus::Cancelled => Exit::Cancelled.code(),
    }
}

/// The low byte, as the system would give it.
fn not_zero(code: i32) -> u8 {
    match code.to_le_bytes()[0] {
        0 => Exit::Qwex.code(),
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(json: &str) -> u8 {
        let head = r#"{"id":"01938e5c-7a3b-7c4d-8e5f-6a7b8c9d0e1f","project":"default","spec":{"command":["true"]},
            "attempt":1,"created_at":"2026-01-01T00:00:00Z","created_by":"token:ci","#;
        of_run(&serde_json::from_str(&format!("{head}{json}}}")).unwrap())
    }

    #[test]
    fn is_the_commands_own() {
        assert_eq!(code(r#""status":"succeeded","exit_code":0"#), 0);
        assert_eq!(code(r#""status":"failed","exit_code":3"#), 3);
        assert_eq!(
            code(r#""status":"failed","failure":{"code":"exit_code","message":"","exit_code":7}"#),
            7
        );
    }

    #[test]
    fn signals_are_128_and_more() {
        assert_eq!(
            code(r#""status":"failed","exit_code":137,"failure":{"code":"oom","message":"","signal":9}"#),
            137
        );
        assert_eq!(
            code(r#""status":"failed","failure":{"code":"signal","message":"","signal":15}"#),
            143
        );
    }

    #[test]
    fn without_one_qwex_failed() {
        assert_eq!(
            code(r#""status":"failed","failure":{"code":"image","message":""}"#),
            125
        );
        assert_eq!(code(r#""status":"running""#), 125);
    }

    #[test]
    fn a_cancelled_run_has_the_same_code_on_every_backend() {
        assert_eq!(code(r#""status":"cancelled""#), 9);
        assert_eq!(code(r#""status":"cancelled","exit_code":0"#), 9);
        assert_eq!(code(r#""status":"cancelled","exit_code":143"#), 9);
    }

    #[test]
    fn an_end_that_is_no_success_never_looks_like_one() {
        assert_eq!(code(r#""status":"failed","exit_code":0"#), 125);
    }
}

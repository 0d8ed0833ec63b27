//! What this program itself says of a run, without an object that a backend would have shown.

use jiff::Timestamp;
use qwex_core::{BackendInfo, BackendKind, Ending, Fact, Failure, FailureCode, Observation, Run};
use qwex_runner::{Handle, RunnerError};

/// The end of a run whose command never ran.
pub fn ended(failure: Failure) -> Fact {
    Fact::Ended {
        ending: Ending::Failed { failure },
        started_at: None,
    }
}

/// The end of a run that was cancelled before anything of it ran.
pub fn never_started() -> Fact {
    Fact::Ended {
        ending: Ending::Stopped {
            message: "cancelled before it was started".to_owned(),
            exit_code: None,
            signal: None,
        },
        started_at: None,
    }
}

/// A fact that needs no object.
pub fn about(run: &Run, fact: Fact) -> Observation {
    Observation {
        run_id: run.id,
        attempt: run.attempt,
        uid: None,
        at: Timestamp::now(),
        fact,
    }
}

/// Names the attempt a run is at; `unknown` where its backend has not said anything yet.
pub fn handle(run: &Run, unknown: impl FnOnce() -> BackendInfo) -> Handle {
    Handle {
        run_id: run.id,
        attempt: run.attempt,
        backend: run.backend.clone().unwrap_or_else(unknown),
    }
}

/// The object of an attempt as it will be called.
pub fn unknown(kind: BackendKind, run: &Run) -> BackendInfo {
    BackendInfo {
        kind,
        cluster: None,
        address: None,
        namespace: None,
        object: run.id.object_name(run.attempt),
        uid: None,
    }
}

/// The failure that a refusal to take a run is.
pub fn failure_code(error: &RunnerError) -> FailureCode {
    match error {
        RunnerError::Rejected { .. } | RunnerError::Unsupported { .. } => FailureCode::Rejected,
        RunnerError::NameConflict { .. } => FailureCode::NameConflict,
        RunnerError::NotFound { .. }
        | RunnerError::NoConnection { .. }
        | RunnerError::Unreachable { .. }
        | RunnerError::Unauthorized { .. }
        | RunnerError::Throttled { .. }
        | RunnerError::PositionGone { .. }
        | RunnerError::Failed { .. } => FailureCode::StartError,
    }
}

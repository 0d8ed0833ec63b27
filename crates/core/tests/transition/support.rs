//! States and facts in a few words, and steps written briefly.

use jiff::Timestamp;
use qwex_core::transition::{RunState, Step, next};
use qwex_core::{
    Attempt, BackendInfo, BackendKind, Ending, EpisodeEnd, EpisodeId, Fact, Failure, FailureCode, ObjectUid,
    Observation, PendingCode, RetryPolicy, RunId, RunStatus,
};

pub fn run_id() -> RunId {
    "01997c0e-8a00-7000-8000-000000000001".parse().unwrap()
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// UID of the object that attempt `attempt` is pinned to in these tests.
pub fn own_uid(attempt: u32) -> ObjectUid {
    ObjectUid(format!("u{attempt}"))
}

pub fn foreign_uid() -> ObjectUid {
    ObjectUid("foreign".to_owned())
}

pub fn backend(attempt: u32, uid: Option<ObjectUid>) -> BackendInfo {
    BackendInfo {
        kind: BackendKind::K8s,
        cluster: Some("alpha".parse().unwrap()),
        address: None,
        namespace: Some("qwex-default".to_owned()),
        object: run_id().object_name(Attempt(attempt)),
        uid,
    }
}

/// A fact about attempt 1 and its own object.
pub fn seen(fact: Fact) -> Observation {
    Observation {
        run_id: run_id(),
        attempt: Attempt::FIRST,
        uid: Some(own_uid(1)),
        at: at(100),
        fact,
    }
}

pub fn without_uid(fact: Fact) -> Observation {
    Observation {
        uid: None,
        ..seen(fact)
    }
}

/// The same fact about the object of another attempt.
pub fn of_attempt(attempt: u32, mut seen: Observation) -> Observation {
    seen.attempt = Attempt(attempt);
    seen.uid = seen.uid.map(|_| own_uid(attempt));
    if let Fact::Dispatched { backend: to } = &mut seen.fact {
        *to = backend(attempt, to.uid.as_ref().map(|_| own_uid(attempt)));
    }
    seen
}

/// The same fact about an object that is not ours.
pub fn of_foreign(mut seen: Observation) -> Observation {
    seen.uid = Some(foreign_uid());
    if let Fact::Dispatched { backend } = &mut seen.fact {
        backend.uid = Some(foreign_uid());
    }
    seen
}

pub fn dispatched() -> Fact {
    Fact::Dispatched {
        backend: backend(1, Some(own_uid(1))),
    }
}

pub fn handed() -> Fact {
    Fact::Dispatched {
        backend: backend(1, None),
    }
}

pub fn waiting(code: PendingCode, round: u64) -> Fact {
    Fact::Waiting {
        code,
        message: format!("waits ({code})"),
        round,
    }
}

pub fn running(round: u64) -> Fact {
    Fact::Running { round }
}

pub fn ended(ending: Ending) -> Fact {
    Fact::Ended {
        ending,
        started_at: Some(at(50)),
    }
}

pub fn succeeded() -> Fact {
    ended(Ending::Succeeded { verified: true })
}

pub fn failed(code: FailureCode, exit_code: Option<i32>, signal: Option<i32>) -> Fact {
    let message = format!("it was {code}");
    ended(Ending::Failed {
        failure: Failure {
            code,
            message,
            exit_code,
            signal,
        },
    })
}

pub fn stopped(exit_code: Option<i32>) -> Fact {
    ended(Ending::Stopped {
        message: "stopped".to_owned(),
        exit_code,
        signal: None,
    })
}

pub fn gone() -> Fact {
    Fact::Gone {
        message: "the object is gone".to_owned(),
    }
}

pub fn cancel() -> Fact {
    Fact::CancelRequested {
        by: "token:ci".to_owned(),
    }
}

pub fn unreachable() -> Fact {
    Fact::Unreachable {
        message: "connection refused".to_owned(),
    }
}

pub fn logs_incomplete() -> Fact {
    Fact::LogsIncomplete {
        message: "a gap".to_owned(),
    }
}

pub fn episode_started() -> Fact {
    Fact::EpisodeStarted {
        episode: EpisodeId("pod-1".to_owned()),
        node: Some("node-1".to_owned()),
    }
}

pub fn episode_ended() -> Fact {
    Fact::EpisodeEnded {
        episode: EpisodeId("pod-1".to_owned()),
        end: EpisodeEnd {
            exit_code: Some(0),
            ..EpisodeEnd::default()
        },
    }
}

pub fn duplicate_start() -> Fact {
    Fact::DuplicateStart {
        episodes: vec![EpisodeId("pod-1".to_owned()), EpisodeId("pod-2".to_owned())],
    }
}

pub fn retries(limit: u32) -> RetryPolicy {
    RetryPolicy {
        limit,
        ..RetryPolicy::default()
    }
}

/// A fresh run with `limit` retries.
pub fn fresh(limit: u32) -> RunState {
    RunState::accepted(at(0), retries(limit))
}

/// The state after all facts, in order; those that change nothing are skipped.
pub fn after<'a>(start: RunState, facts: impl IntoIterator<Item = &'a Observation>) -> RunState {
    facts
        .into_iter()
        .fold(start, |state, seen| match next(&state, seen) {
            Step::Move(next) => *next,
            Step::Stay(_) | Step::Reject(_) => state,
        })
}

/// Status with its reason: `pending(image)`, `failed(oom)`.
pub fn standing(state: &RunState) -> String {
    match (state.status, &state.pending, &state.failure) {
        (RunStatus::Pending, Some(pending), None) => format!("pending({})", pending.code),
        (RunStatus::Failed, None, Some(failure)) => format!("failed({})", failure.code),
        (RunStatus::Running | RunStatus::Succeeded | RunStatus::Cancelled, None, None) => {
            state.status.to_string()
        }
        other => panic!("a record that contradicts itself: {other:?}"),
    }
}

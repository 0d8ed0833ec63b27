//! Random histories, with repeats, reorders and gaps: what must hold after every single step.
//!
//! `QWEX_HISTORIES` sets how many are tried (100,000 by default; 1,000,000 takes a coffee).

use std::sync::LazyLock;

use proptest::prelude::*;
use qwex_core::transition::{RejectReason, RunState, Step, attempt_failure, next};
use qwex_core::{Fact, FailureCode, Flag, Observation, PendingCode, RetryPolicy, RunStatus};

use crate::support::*;

fn config() -> ProptestConfig {
    config_of(histories())
}

/// How many histories to try.
pub fn histories() -> u32 {
    std::env::var("QWEX_HISTORIES").ok().map_or(100_000, |number| {
        number.parse().expect("QWEX_HISTORIES is a number")
    })
}

pub fn config_of(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What can be seen of an object, once per round, reason and ending.
fn object_facts() -> Vec<Fact> {
    let mut facts = vec![dispatched(), handed()];
    for round in [0, 1, 2] {
        facts.push(running(round));
        for code in PendingCode::ALL.iter().chain([&PendingCode::Unknown]) {
            facts.push(waiting(*code, round));
        }
    }
    facts.extend([episode_started(), episode_ended(), duplicate_start(), gone()]);
    facts.extend([succeeded(), stopped(None), stopped(Some(0)), stopped(Some(143))]);
    for code in FailureCode::ALL {
        facts.push(failed(*code, None, None));
    }
    facts.push(failed(FailureCode::ExitCode, Some(1), None));
    facts.push(failed(FailureCode::Signal, Some(143), Some(15)));
    facts
}

/// Every observation a history may hold. Facts about the own object come most often.
static CATALOGUE: LazyLock<Vec<Observation>> = LazyLock::new(|| {
    let mut catalogue = Vec::new();
    for fact in [cancel(), unreachable(), Fact::Reachable, logs_incomplete()] {
        catalogue.extend(std::iter::repeat_n(without_uid(fact), 4));
    }
    for fact in object_facts() {
        for attempt in [1, 1, 1, 2, 2, 3] {
            catalogue.push(of_attempt(attempt, seen(fact.clone())));
        }
        catalogue.push(without_uid(fact.clone()));
        catalogue.push(of_foreign(seen(fact.clone())));
        catalogue.push(of_foreign(of_attempt(2, seen(fact))));
    }
    for attempt in [1, 1, 1, 1, 2, 2, 2, 3] {
        for fact in [dispatched(), running(0), running(1)] {
            catalogue.push(of_attempt(attempt, seen(fact)));
        }
    }
    catalogue
});

/// Up to 24 facts; pieces of it may come again.
fn history() -> impl Strategy<Value = Vec<&'static Observation>> {
    let picks = proptest::collection::vec(0..CATALOGUE.len(), 1..20);
    (picks, 0..20_usize, 0..5_usize).prop_map(|(mut picks, from, length)| {
        let from = from.min(picks.len());
        let until = (from + length).min(picks.len());
        let again = picks[from..until].to_vec();
        picks.extend(again);
        picks.into_iter().map(|pick| &CATALOGUE[pick]).collect()
    })
}

fn policy() -> impl Strategy<Value = RetryPolicy> {
    let some = vec![
        FailureCode::Evicted,
        FailureCode::DeletedExternally,
        FailureCode::Lost,
    ];
    (0..3_u32, prop_oneof![Just(Vec::new()), Just(some)]).prop_map(|(limit, on)| RetryPolicy {
        limit,
        on,
        backoff: None,
    })
}

fn check_record(state: &RunState) {
    assert_eq!(
        state.pending.is_some(),
        state.status == RunStatus::Pending,
        "{state:?}"
    );
    assert_eq!(
        state.failure.is_some(),
        state.status == RunStatus::Failed,
        "{state:?}"
    );
    assert_eq!(state.finished_at.is_some(), state.is_terminal(), "{state:?}");
    assert!(state.is_terminal() || state.exit_code.is_none(), "{state:?}");
    match state.status {
        RunStatus::Succeeded => assert_eq!(state.exit_code, Some(0)),
        RunStatus::Failed => assert_ne!(state.exit_code, Some(0)),
        RunStatus::Running => assert!(state.started_at.is_some()),
        RunStatus::Pending | RunStatus::Cancelled => {}
    }
    assert!(
        state.attempt.0 >= 1 && state.attempt.0 <= state.retry.limit + 1,
        "{state:?}"
    );
}

/// Place in the lattice, as a reader of the design would write it down.
fn place(state: &RunState) -> (u32, u64, usize) {
    let rank = match (state.status, &state.pending) {
        (RunStatus::Pending, Some(pending)) if pending.code == PendingCode::Backoff => 0,
        (RunStatus::Pending, Some(pending)) => {
            1 + PendingCode::ALL
                .iter()
                .position(|code| *code == pending.code)
                .unwrap()
        }
        (RunStatus::Pending, None) => panic!("pending without a reason"),
        (RunStatus::Running, _) => 50,
        (RunStatus::Succeeded | RunStatus::Failed | RunStatus::Cancelled, _) => 100,
    };
    (state.attempt.0, state.round, rank)
}

fn check_move(before: &RunState, seen: &Observation, after: &RunState) {
    check_record(after);
    assert_ne!(before, after, "a move that moves nothing");
    assert!(
        place(before) <= place(after),
        "{before:?} fell to {after:?} by {seen:?}"
    );
    assert_eq!(before.retry, after.retry);
    for kept in [Flag::CancelRequested, Flag::DuplicateStart, Flag::LogsIncomplete] {
        assert!(!before.flags.contains(&kept) || after.flags.contains(&kept));
    }
    if before.is_terminal() {
        check_after_the_end(before, seen, after);
    } else if after.is_terminal() {
        assert_eq!(attempt_failure(before, seen), after.failure);
    }
    if after.attempt == before.attempt {
        check_edge(before, after);
        assert!(
            before.uid().is_none() || before.uid() == after.uid(),
            "a UID was replaced"
        );
        assert!(before.dispatched_at.is_none() || before.dispatched_at == after.dispatched_at);
        assert!(before.started_at.is_none() || before.started_at == after.started_at);
    } else {
        check_retry(before, seen, after);
    }
}

/// The edges of the state machine within an attempt. Backwards leads only a later round, and never to before
/// the object was made.
fn check_edge(before: &RunState, after: &RunState) {
    let goes_back = before.status == RunStatus::Running && after.status == RunStatus::Pending;
    assert!(
        !goes_back || after.round > before.round,
        "{before:?} fell to {after:?}"
    );
    let made = before.uid().is_some() || before.status == RunStatus::Running;
    let before_made = |code| {
        matches!(
            code,
            PendingCode::Accepted | PendingCode::Queued | PendingCode::Backoff
        )
    };
    let waits = after.pending.as_ref().map(|pending| pending.code);
    assert!(
        !made || !waits.is_some_and(before_made),
        "{before:?} fell to {after:?}"
    );
}

fn check_after_the_end(before: &RunState, seen: &Observation, after: &RunState) {
    let end = |state: &RunState| {
        (
            state.status,
            state.failure.clone(),
            state.exit_code,
            state.finished_at,
            state.attempt,
        )
    };
    if end(before) != end(after) {
        assert!(
            before.is_lost() && !after.is_lost() && after.is_terminal(),
            "{before:?} became {after:?}"
        );
        assert!(
            before.uid().is_some() && before.uid() == seen.object_uid(),
            "without evidence: {seen:?}"
        );
        assert_eq!(before.attempt, after.attempt);
    }
}

fn check_retry(before: &RunState, seen: &Observation, after: &RunState) {
    assert_eq!(after.attempt, before.attempt.next());
    assert!(!before.cancel_requested(), "a cancelled run was tried again");
    assert!(!before.is_terminal());
    assert!(
        matches!(seen.fact, Fact::Ended { .. } | Fact::Gone { .. }),
        "{seen:?}"
    );
    let failure = attempt_failure(before, seen).expect("only a failed attempt is followed by another");
    assert!(before.retry.allows(before.attempt.0, failure.code));
    assert_eq!(standing(after), "pending(backoff)");
    assert!(after.backend.is_none() && after.dispatched_at.is_none() && after.started_at.is_none());
    assert!(
        !after.flags.contains(&Flag::ClusterUnreachable),
        "it is on no cluster"
    );
}

/// Facts about a foreign object or another attempt, and evidence without a UID, change nothing.
fn must_be_refused(state: &RunState, seen: &Observation) -> bool {
    let about_the_run = matches!(
        seen.fact,
        Fact::CancelRequested { .. }
            | Fact::Unreachable { .. }
            | Fact::Reachable
            | Fact::LogsIncomplete { .. }
    );
    let other_object = state.uid().is_some() && state.uid() != seen.object_uid();
    !about_the_run && (seen.attempt != state.attempt || other_object)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_step_of_every_history_is_legal(history in history(), policy in policy()) {
        let mut state = RunState::accepted(at(0), policy);
        check_record(&state);
        for (second, picked) in history.into_iter().enumerate() {
            let mut seen = picked.clone();
            seen.at = at(i64::try_from(second).unwrap() + 1);
            let step = next(&state, &seen);
            let foreign = matches!(&step, Step::Reject(RejectReason::ForeignUid | RejectReason::NoUid));
            let Step::Move(after) = step else { continue };
            prop_assert!(!foreign && !must_be_refused(&state, &seen), "{seen:?} moved {state:?}");
            check_move(&state, &seen, &after);
            seen.at = at(1000);
            let again = next(&after, &seen);
            prop_assert!(!matches!(again, Step::Move(_)), "{seen:?} twice moved {after:?} to {again:?}");
            state = *after;
        }
    }
}

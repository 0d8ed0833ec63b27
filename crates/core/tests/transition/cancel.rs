//! Cancel against finish (A13): every order of every small set of facts, checked against the rule as a
//! sentence. The first verdict decides; a request that came before it makes a stop a cancel and forbids a
//! retry; a request after it changes nothing.

use qwex_core::transition::RunState;
use qwex_core::{Fact, FailureCode, Flag, Observation};

use crate::support::*;

/// How an attempt may end, and what that is with and without a cancel request before.
struct Ending {
    fact: Fact,
    alone: &'static str,
    after_cancel: &'static str,
    /// Whether the default policy tries again.
    retried: bool,
}

fn endings() -> Vec<Ending> {
    let ending = |fact, alone, after_cancel, retried| Ending {
        fact,
        alone,
        after_cancel,
        retried,
    };
    let code = FailureCode::ExitCode;
    vec![
        ending(succeeded(), "succeeded", "succeeded", false),
        ending(
            failed(code, Some(1), None),
            "failed(exit_code)",
            "failed(exit_code)",
            true,
        ),
        ending(
            failed(code, Some(143), None),
            "failed(exit_code)",
            "cancelled",
            true,
        ),
        ending(
            failed(FailureCode::Signal, None, Some(9)),
            "failed(signal)",
            "cancelled",
            true,
        ),
        ending(
            failed(FailureCode::Oom, Some(137), Some(9)),
            "failed(oom)",
            "failed(oom)",
            true,
        ),
        ending(stopped(Some(0)), "failed(deleted_externally)", "cancelled", false),
        ending(gone(), "failed(deleted_externally)", "cancelled", false),
    ]
}

/// All orders of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let insert = |order: &Vec<usize>, place| {
        let mut order = order.clone();
        order.insert(place, count - 1);
        order
    };
    shorter
        .iter()
        .flat_map(|order| (0..count).map(move |place| insert(order, place)))
        .collect()
}

fn in_order(order: &[usize], facts: &[Observation]) -> Vec<Observation> {
    order.iter().map(|index| facts[*index].clone()).collect()
}

/// Status after `history`, by the sentence at the top: `endings` are those among the facts.
fn expected(history: &[Observation], endings: &[&Ending], retries: bool) -> String {
    let position = |fact: &Fact| history.iter().position(|seen| seen.fact == *fact);
    let first = endings
        .iter()
        .min_by_key(|ending| position(&ending.fact))
        .expect("at least one ending");
    let requested_before = position(&cancel()) < position(&first.fact) && position(&cancel()).is_some();
    if requested_before {
        first.after_cancel.to_owned()
    } else if retries && first.retried {
        "pending(backoff)".to_owned()
    } else {
        first.alone.to_owned()
    }
}

fn check(state: &RunState, history: &[Observation], endings: &[&Ending], retries: bool) {
    let story: Vec<&Fact> = history.iter().map(|seen| &seen.fact).collect();
    assert_eq!(standing(state), expected(history, endings, retries), "{story:?}");
    let position = |fact: &Fact| history.iter().position(|seen| seen.fact == *fact);
    let ended_at = endings.iter().filter_map(|ending| position(&ending.fact)).min();
    let retried = standing(state) == "pending(backoff)";
    // A request is noted while the run lives; once it is over there is nothing to request.
    let noted = position(&cancel()).is_some() && (position(&cancel()) < ended_at || retried);
    assert_eq!(state.flags.contains(&Flag::CancelRequested), noted, "{story:?}");
}

#[test]
fn a13_cancel_and_finish_in_every_order() {
    let orders = orders(6);
    assert_eq!(orders.len(), 720);
    for retries in [false, true] {
        for one in endings() {
            for other in endings() {
                let facts: Vec<Observation> = vec![
                    seen(dispatched()),
                    seen(running(1)),
                    without_uid(cancel()),
                    without_uid(cancel()),
                    seen(one.fact.clone()),
                    seen(other.fact.clone()),
                ];
                for order in &orders {
                    let history = in_order(order, &facts);
                    let state = after(fresh(u32::from(retries)), &history);
                    check(&state, &history, &[&one, &other], retries);
                }
            }
        }
    }
}

#[test]
fn a13_cancel_before_dispatch_ends_cancelled_in_every_order() {
    // The server withdrew the intent: nothing was made, and `stopped` says so without a UID.
    let facts = [
        without_uid(cancel()),
        without_uid(waiting(qwex_core::PendingCode::Queued, 0)),
        without_uid(unreachable()),
        without_uid(Fact::Reachable),
    ];
    for order in orders(facts.len()) {
        let mut history = in_order(&order, &facts);
        history.push(without_uid(stopped(None)));
        let state = after(fresh(3), &history);
        assert_eq!(standing(&state), "cancelled");
        assert!(state.backend.is_none() && state.dispatched_at.is_none());

        // A dispatcher that was too slow made the object all the same: noted, to be removed, no new life.
        let late = after(state, &[seen(dispatched()), seen(running(1)), seen(succeeded())]);
        assert_eq!(standing(&late), "cancelled");
        assert_eq!(late.uid(), Some(&own_uid(1)));
    }
}

#[test]
fn a13_cancel_during_backoff_stops_the_next_attempt() {
    let history = [
        seen(dispatched()),
        seen(running(1)),
        seen(failed(FailureCode::ExitCode, Some(1), None)),
        without_uid(cancel()),
    ];
    let waiting_for_retry = after(fresh(3), &history);
    assert_eq!(standing(&waiting_for_retry), "pending(backoff)");
    let stop = of_attempt(2, without_uid(stopped(None)));
    assert_eq!(standing(&after(waiting_for_retry.clone(), &[stop])), "cancelled");

    // The race is lost: attempt 2 began, fails by itself, and is not tried a third time.
    let second: Vec<Observation> = [
        dispatched(),
        running(1),
        failed(FailureCode::ExitCode, Some(1), None),
    ]
    .map(|fact| of_attempt(2, seen(fact)))
    .to_vec();
    assert_eq!(standing(&after(waiting_for_retry, &second)), "failed(exit_code)");
}

//! What the lattice promises: the same facts in any order, with any repeats, give the same end.
//! The promise is written in the doc of `qwex_core::transition`; these tests are its letter.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use qwex_core::transition::RunState;
use qwex_core::{Fact, FailureCode, Observation, PendingCode};

use crate::histories::{config_of, histories};
use crate::support::*;

/// Facts about one attempt and its one object, of the kinds that are ordered by the lattice.
static ORDERED: LazyLock<Vec<Observation>> = LazyLock::new(|| {
    let mut facts = vec![
        seen(dispatched()),
        without_uid(dispatched()),
        without_uid(handed()),
    ];
    for code in [PendingCode::Accepted, PendingCode::Queued] {
        facts.push(without_uid(waiting(code, 0)));
    }
    for round in [0, 1, 2] {
        facts.push(seen(running(round)));
        for code in PendingCode::ALL {
            facts.push(seen(waiting(*code, round)));
        }
    }
    facts.extend([
        seen(episode_started()),
        seen(episode_ended()),
        seen(duplicate_start()),
        without_uid(logs_incomplete()),
    ]);
    facts
});

/// One verdict of each kind that is not about a cancel.
static VERDICTS: LazyLock<Vec<Observation>> = LazyLock::new(|| {
    let mut facts = vec![seen(succeeded()), seen(stopped(None)), seen(gone())];
    for code in FailureCode::ALL {
        facts.push(seen(failed(*code, Some(3), None)));
    }
    facts
});

/// A set of facts and the same set in another order with some of them repeated.
fn two_orders() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let picks = proptest::collection::vec(0..ORDERED.len(), 1..14);
    (picks, proptest::collection::vec(any::<Index>(), 0..6)).prop_flat_map(|(picks, repeats)| {
        let mut more = picks.clone();
        more.extend(repeats.iter().map(|repeat| *repeat.get(&picks)));
        (Just(picks), Just(more).prop_shuffle())
    })
}

fn stamped(facts: Vec<Observation>) -> Vec<Observation> {
    let clock = (1..).map(at);
    facts
        .into_iter()
        .zip(clock)
        .map(|(fact, at)| Observation { at, ..fact })
        .collect()
}

fn picked(picks: &[usize]) -> Vec<Observation> {
    picks.iter().map(|pick| ORDERED[*pick].clone()).collect()
}

fn standing_and_place(state: &RunState) -> impl PartialEq + std::fmt::Debug {
    (
        standing(state),
        state.attempt,
        state.round,
        state.backend.clone(),
        state.flags.clone(),
    )
}

proptest! {
    // A case is two histories and a shuffle: fewer of them take the same time.
    #![proptest_config(config_of(histories() / 5))]

    #[test]
    fn ordered_facts_end_the_same_in_any_order((one, other) in two_orders(), cancels in any::<bool>()) {
        let (mut one, mut other) = (picked(&one), picked(&other));
        if cancels {
            one.push(without_uid(cancel()));
            other.insert(0, without_uid(cancel()));
        }
        let one = after(fresh(0), &stamped(one));
        let other = after(fresh(0), &stamped(other));
        prop_assert_eq!(standing_and_place(&one), standing_and_place(&other));
    }

    #[test]
    fn one_verdict_among_them_wins_from_any_place(
        (one, other) in two_orders(),
        verdict in 0..VERDICTS.len(),
        first in any::<Index>(),
        second in any::<Index>(),
    ) {
        let with_verdict = |picks: &[usize], place: Index| {
            let mut facts = picked(picks);
            facts.insert(place.index(facts.len() + 1), VERDICTS[verdict].clone());
            after(fresh(0), &stamped(facts))
        };
        let (one, other) = (with_verdict(&one, first), with_verdict(&other, second));
        prop_assert!(one.is_terminal());
        prop_assert_eq!((one.status, one.failure, one.exit_code), (other.status, other.failure, other.exit_code));
        prop_assert_eq!(one.backend, other.backend);
    }
}

/// The other side of the promise: what is ordered by arrival, on purpose.
#[test]
fn arrival_decides_where_no_order_is_promised() {
    let blind_last = [without_uid(Fact::Reachable), without_uid(unreachable())];
    let seen_last = [without_uid(unreachable()), without_uid(Fact::Reachable)];
    assert_ne!(
        after(fresh(0), &blind_last).flags,
        after(fresh(0), &seen_last).flags
    );

    let good_first = [seen(succeeded()), seen(failed(FailureCode::Oom, None, None))];
    let bad_first = [seen(failed(FailureCode::Oom, None, None)), seen(succeeded())];
    assert_eq!(standing(&after(fresh(0), &good_first)), "succeeded");
    assert_eq!(standing(&after(fresh(0), &bad_first)), "failed(oom)");
}

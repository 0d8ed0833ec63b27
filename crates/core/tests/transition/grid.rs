//! The whole grid of `next` as one reviewed snapshot: every kind of state against every kind of fact.
//!
//! For each fact the states are listed by what it does to them. `->` is a new status, `+` and `-` a flag or
//! a field set or cleared. WAITING, RUNNING and ENDED stand for all states of that status, and `the rest` for
//! all that the fact's other lines do not name. Any change of the snapshot is a change of what a run may
//! do: judge each line.

use std::collections::BTreeMap;
use std::fmt::Write;

use qwex_core::transition::{RunState, Step, next};
use qwex_core::{Ending, Fact, FailureCode, Observation, PendingCode, RunStatus};

use crate::support::*;

type Named<T> = Vec<(&'static str, T)>;

/// Every kind of state, reached as a real run reaches it.
fn states() -> Named<RunState> {
    [waiting_states(), running_states(), ended_states()].concat()
}

/// The state after facts that name the object, none of which pinned it.
fn unpinned(facts: Vec<Fact>) -> RunState {
    let facts: Vec<Observation> = facts.into_iter().map(seen).collect();
    after(fresh(0), &facts)
}

/// The state after facts from before the object is known.
fn before_object(facts: Vec<Fact>) -> RunState {
    let facts: Vec<Observation> = facts.into_iter().map(without_uid).collect();
    after(fresh(0), &facts)
}

/// The state after a dispatch and these facts, with `limit` retries.
fn pinned(limit: u32, facts: Vec<Fact>) -> RunState {
    let facts: Vec<Observation> = std::iter::once(dispatched()).chain(facts).map(seen).collect();
    after(fresh(limit), &facts)
}

/// The state after a first attempt that failed, and these facts about the second and last one.
fn second_attempt(facts: Vec<Fact>) -> RunState {
    let backing_off = pinned(1, vec![running(5), failed(FailureCode::ExitCode, Some(1), None)]);
    let facts: Vec<Observation> = facts.into_iter().map(|fact| of_attempt(2, seen(fact))).collect();
    after(backing_off, &facts)
}

fn waiting_states() -> Named<RunState> {
    let waits = |code| pinned(0, vec![waiting(code, 5)]);
    let cancelling = pinned(0, vec![waiting(PendingCode::Admission, 5), cancel()]);
    let unpinned_wait = unpinned(vec![waiting(PendingCode::Scheduling, 5)]);
    vec![
        ("accepted", fresh(0)),
        ("accepted+cancel", before_object(vec![cancel()])),
        ("queued", before_object(vec![waiting(PendingCode::Queued, 0)])),
        ("handed", before_object(vec![handed()])),
        ("dispatched", pinned(0, vec![])),
        ("admission@5", waits(PendingCode::Admission)),
        ("admission@5+cancel", cancelling),
        ("scheduling@5", waits(PendingCode::Scheduling)),
        ("scheduling@5,unpinned", unpinned_wait),
        ("image@5", waits(PendingCode::Image)),
        ("starting@5", waits(PendingCode::Starting)),
        (
            "requeued@9",
            pinned(0, vec![running(5), waiting(PendingCode::Admission, 9)]),
        ),
        ("a2:backoff", second_attempt(vec![])),
    ]
}

fn running_states() -> Named<RunState> {
    let runs = |limit, more: &[Fact]| pinned(limit, [&[running(5)], more].concat());
    vec![
        ("running@5", runs(0, &[])),
        ("running@5,unpinned", unpinned(vec![running(5)])),
        ("running@5+cancel", runs(0, &[cancel()])),
        ("running@5+unreachable", runs(0, &[unreachable()])),
        ("running@5,retry-left", runs(1, &[])),
        ("running@5,retry-left+cancel", runs(1, &[cancel()])),
        ("running@5,retry-left+unreachable", runs(1, &[unreachable()])),
        (
            "a2:running@5,retry-used",
            second_attempt(vec![dispatched(), running(5)]),
        ),
    ]
}

fn ended_states() -> Named<RunState> {
    let runs = |facts: &[Fact]| pinned(0, [&[running(5)], facts].concat());
    let exit_1 = failed(FailureCode::ExitCode, Some(1), None);
    let lost = failed(FailureCode::Lost, None, None);
    let rejected = failed(FailureCode::Rejected, None, None);
    vec![
        ("succeeded", runs(&[succeeded()])),
        ("succeeded,unpinned", unpinned(vec![succeeded()])),
        ("succeeded+cancel", runs(&[cancel(), succeeded()])),
        ("failed(exit_code 1)", runs(&[exit_1])),
        ("failed(rejected)", before_object(vec![rejected])),
        ("failed(deleted_externally)", runs(&[gone()])),
        ("failed(lost)", runs(std::slice::from_ref(&lost))),
        ("failed(lost)+cancel", pinned(0, vec![cancel(), lost.clone()])),
        ("failed(lost),unpinned", unpinned(vec![lost])),
        ("cancelled", runs(&[cancel(), stopped(None)])),
        (
            "cancelled,undispatched",
            before_object(vec![cancel(), stopped(None)]),
        ),
    ]
}

/// Every kind of fact, about the current attempt and its object where nothing else is said.
fn facts() -> Vec<(String, Observation)> {
    let mut facts: Vec<(String, Observation)> = Vec::new();
    let mut add = |name: &str, seen: Observation| facts.push((name.to_owned(), seen));
    add("dispatched, uid not known yet", without_uid(handed()));
    add("dispatched", seen(dispatched()));
    for code in [PendingCode::Accepted, PendingCode::Queued, PendingCode::Backoff] {
        add(&format!("waiting {code}, no uid"), without_uid(waiting(code, 0)));
    }
    for code in PendingCode::ALL.iter().chain([&PendingCode::Unknown]) {
        add(&format!("waiting {code} @5"), seen(waiting(*code, 5)));
    }
    add(
        "waiting admission @9 (a later round)",
        seen(waiting(PendingCode::Admission, 9)),
    );
    add(
        "waiting starting @1 (an earlier round)",
        seen(waiting(PendingCode::Starting, 1)),
    );
    add("running @5", seen(running(5)));
    add("running @9 (a later round)", seen(running(9)));
    add("running @1 (an earlier round)", seen(running(1)));
    add("episode started", seen(episode_started()));
    add("episode ended", seen(episode_ended()));
    add("duplicate start", seen(duplicate_start()));
    add("ended succeeded", seen(succeeded()));
    add(
        "ended succeeded, exit code not seen",
        seen(ended(Ending::Succeeded { verified: false })),
    );
    for code in FailureCode::ALL.iter().chain([&FailureCode::Unknown]) {
        let (exit_code, signal) = match code {
            FailureCode::ExitCode => (Some(1), None),
            FailureCode::Signal => (Some(139), Some(11)),
            FailureCode::Oom => (Some(137), Some(9)),
            _ => (None, None),
        };
        add(
            &format!("ended failed {code}"),
            seen(failed(*code, exit_code, signal)),
        );
    }
    add(
        "ended failed signal TERM",
        seen(failed(FailureCode::Signal, Some(143), Some(15))),
    );
    add(
        "ended failed exit_code 137",
        seen(failed(FailureCode::ExitCode, Some(137), None)),
    );
    add("ended stopped", seen(stopped(None)));
    add("ended stopped, exit code 0", seen(stopped(Some(0))));
    add("gone", seen(gone()));
    for (name, seen) in run_facts() {
        add(&name, seen);
    }
    for (name, seen) in object_facts() {
        add(&format!("no uid: {name}"), without_uid(seen.fact));
    }
    for (name, seen) in object_facts() {
        add(&format!("foreign: {name}"), of_foreign(seen));
    }
    facts
}

/// Facts about the run as a whole.
fn run_facts() -> Vec<(String, Observation)> {
    vec![
        ("cancel requested".to_owned(), without_uid(cancel())),
        ("unreachable".to_owned(), without_uid(unreachable())),
        ("reachable".to_owned(), without_uid(Fact::Reachable)),
        ("logs incomplete".to_owned(), without_uid(logs_incomplete())),
    ]
}

/// One fact of each kind that is about an object.
fn object_facts() -> Named<Observation> {
    vec![
        ("dispatched", seen(dispatched())),
        ("waiting image @9", seen(waiting(PendingCode::Image, 9))),
        ("running @9", seen(running(9))),
        ("episode started", seen(episode_started())),
        ("episode ended", seen(episode_ended())),
        ("duplicate start", seen(duplicate_start())),
        ("ended succeeded", seen(succeeded())),
        (
            "ended failed exit_code",
            seen(failed(FailureCode::ExitCode, Some(1), None)),
        ),
        ("ended stopped", seen(stopped(None))),
        ("gone", seen(gone())),
    ]
}

/// What a step does, in a few words.
fn effect(before: &RunState, step: &Step) -> String {
    let after = match step {
        Step::Stay(reason) => return format!("stay: {}", reason.as_str()),
        Step::Reject(reason) => return format!("REJECT: {}", reason.as_str()),
        Step::Move(after) => after,
    };
    let mut words = Vec::new();
    if standing(before) != standing(after) {
        words.push(format!("-> {}", standing(after)));
    } else if before.pending != after.pending {
        words.push("new message".to_owned());
    }
    if before.attempt != after.attempt {
        words.push(format!("attempt {}", after.attempt));
    }
    if before.round != after.round {
        words.push(format!("@{}", after.round));
    }
    if before.exit_code != after.exit_code {
        words.push(format!("exit {:?}", after.exit_code));
    }
    let uid = |state: &RunState| state.uid().map(ToString::to_string);
    if before.backend != after.backend {
        words.push(format!("backend {:?}", uid(after).unwrap_or("-".to_owned())));
    }
    words.extend(
        after
            .flags
            .difference(&before.flags)
            .map(|flag| format!("+{flag}")),
    );
    words.extend(
        before
            .flags
            .difference(&after.flags)
            .map(|flag| format!("-{flag}")),
    );
    for (name, was, is) in [
        ("dispatched_at", before.dispatched_at, after.dispatched_at),
        ("started_at", before.started_at, after.started_at),
        ("finished_at", before.finished_at, after.finished_at),
    ] {
        match (was, is) {
            (None, Some(_)) => words.push(format!("+{name}")),
            (Some(_), None) => words.push(format!("-{name}")),
            (Some(was), Some(is)) if was != is => words.push(format!("{name} changed")),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    words.join(", ")
}

/// One line per effect of a fact, with the states that have it.
fn write_fact(
    table: &mut String,
    name: &str,
    states: &[(&'static str, RunState)],
    fact: impl Fn(&RunState) -> Observation,
) {
    let mut by_effect: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (state_name, state) in states {
        let step = next(state, &fact(state));
        by_effect
            .entry(effect(state, &step))
            .or_default()
            .push(state_name);
    }
    writeln!(table, "{name}").unwrap();
    let commonest = by_effect.values().map(Vec::len).max();
    let mut rest = None;
    for (effect, names) in &by_effect {
        if rest.is_none() && Some(names.len()) == commonest {
            rest = Some(effect);
        } else {
            writeln!(table, "    {effect:<42} : {}", gathered(states, names)).unwrap();
        }
    }
    writeln!(
        table,
        "    {:<42} : the rest",
        rest.expect("a fact has an effect")
    )
    .unwrap();
}

fn group_of(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "WAITING",
        RunStatus::Running => "RUNNING",
        RunStatus::Succeeded | RunStatus::Failed | RunStatus::Cancelled => "ENDED",
    }
}

/// Names of states, whole groups by the name of the group.
fn gathered(states: &[(&'static str, RunState)], names: &[&str]) -> String {
    let mut left = names.to_vec();
    let mut words = Vec::new();
    for group in ["WAITING", "RUNNING", "ENDED"] {
        let members: Vec<&str> = states
            .iter()
            .filter(|(_, state)| group_of(state.status) == group)
            .map(|(name, _)| *name)
            .collect();
        if members.iter().all(|member| left.contains(member)) {
            left.retain(|name| !members.contains(name));
            words.push(group);
        }
    }
    words.extend(left);
    words.join("  ")
}

#[test]
fn the_whole_grid() {
    let states = states();
    let mut table = String::new();
    for (name, fact) in facts() {
        write_fact(&mut table, &name, &states, |state| {
            match fact.uid.as_ref().map(|uid| *uid == foreign_uid()) {
                Some(true) => of_foreign(of_attempt(state.attempt.0, fact.clone())),
                Some(false) | None => of_attempt(state.attempt.0, fact.clone()),
            }
        });
    }
    for (name, fact) in object_facts() {
        write_fact(
            &mut table,
            &format!("earlier attempt: {name}"),
            &states,
            |state| of_attempt(state.attempt.0 - 1, fact.clone()),
        );
        write_fact(&mut table, &format!("later attempt: {name}"), &states, |state| {
            of_attempt(state.attempt.0 + 1, fact.clone())
        });
    }
    for (name, fact) in run_facts() {
        write_fact(&mut table, &format!("other attempt: {name}"), &states, |state| {
            of_attempt(state.attempt.0 + 1, fact.clone())
        });
    }
    insta::assert_snapshot!(table);
}

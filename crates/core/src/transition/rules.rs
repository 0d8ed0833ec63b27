//! The rules of [`next`]: one function per kind of fact. Pure; the promises are in the parent's doc.

use jiff::Timestamp;

use super::{RUNNING, RejectReason, RunState, StayReason, Step, rank};
use crate::observation::{Ending, Fact, Observation};
use crate::run::BackendInfo;
use crate::status::{Failure, FailureCode, Flag, Pending, PendingCode, RunStatus};

/// The next state of a run after one fact. Pure, total, and the only place where run state changes.
#[must_use]
pub fn next(state: &RunState, seen: &Observation) -> Step {
    if let Some(refusal) = not_about_this_object(state, seen) {
        return refusal;
    }
    match &seen.fact {
        Fact::EpisodeStarted { .. } | Fact::EpisodeEnded { .. } => Step::Stay(StayReason::Detail),
        Fact::DuplicateStart { .. } => set_flag(state, Flag::DuplicateStart),
        Fact::LogsIncomplete { .. } => set_flag(state, Flag::LogsIncomplete),
        Fact::Unreachable { .. } => live(state, |state| set_flag(state, Flag::ClusterUnreachable)),
        Fact::Reachable => clear_flag(state, Flag::ClusterUnreachable),
        Fact::CancelRequested { .. } => live(state, |state| set_flag(state, Flag::CancelRequested)),
        Fact::Dispatched { backend } => dispatched(state, backend, seen.at),
        Fact::Waiting { code, message, round } => {
            live(state, |state| waiting(state, *code, message, *round, seen.at))
        }
        Fact::Running { round } => live(state, |state| running(state, *round, seen.at)),
        Fact::Ended { ending, started_at } => {
            if state.is_terminal() {
                ended_again(state, ending, *started_at, seen)
            } else {
                ended(state, ending, *started_at, seen.at)
            }
        }
        Fact::Gone { message } => live(state, |state| ended(state, &gone(message), None, seen.at)),
    }
}

/// The failure with which `seen` ends the current attempt of `state`, whether that ends the run or another
/// attempt follows; `None` if it does not end it, or ends it well. For the attempt's own record: a state in
/// backoff keeps only a message of it.
#[must_use]
pub fn attempt_failure(state: &RunState, seen: &Observation) -> Option<Failure> {
    let verdict = match (&seen.fact, next(state, seen)) {
        (Fact::Ended { ending, .. }, Step::Move(_)) => verdict(state, ending),
        (Fact::Gone { message }, Step::Move(_)) => verdict(state, &gone(message)),
        (_, Step::Move(_) | Step::Stay(_) | Step::Reject(_)) => return None,
    };
    match verdict {
        Verdict::Failed(failure) => Some(failure),
        Verdict::Succeeded | Verdict::Cancelled { .. } => None,
    }
}

/// Refuses facts about another attempt or another object. Requests, reachability and the state of the
/// log archive are about the run as a whole and pass.
fn not_about_this_object(state: &RunState, seen: &Observation) -> Option<Step> {
    let (episode, needs_uid) = match &seen.fact {
        Fact::CancelRequested { .. }
        | Fact::Unreachable { .. }
        | Fact::Reachable
        | Fact::LogsIncomplete { .. } => return None,
        Fact::EpisodeStarted { .. } | Fact::EpisodeEnded { .. } => (true, false),
        Fact::Dispatched { .. }
        | Fact::Waiting { .. }
        | Fact::Running { .. }
        | Fact::DuplicateStart { .. }
        | Fact::Ended { .. } => (false, false),
        Fact::Gone { .. } => (false, true),
    };
    if seen.attempt != state.attempt {
        let late_episode = episode && seen.attempt < state.attempt;
        let reason = if late_episode {
            StayReason::Detail
        } else {
            StayReason::OtherAttempt
        };
        return Some(Step::Stay(reason));
    }
    match (state.uid(), seen.object_uid()) {
        (Some(pinned), Some(other)) if pinned != other => Some(Step::Reject(RejectReason::ForeignUid)),
        (Some(_), None) => Some(without_uid(&seen.fact)),
        (None, None) if needs_uid => Some(Step::Reject(RejectReason::NoUid)),
        (Some(_) | None, _) => None,
    }
}

/// Once an object is pinned, a fact that names none is either from before the pin or no evidence.
fn without_uid(fact: &Fact) -> Step {
    match fact {
        Fact::Dispatched { .. } => Step::Stay(StayReason::Known),
        Fact::Waiting { .. } => Step::Stay(StayReason::Older),
        Fact::Running { .. }
        | Fact::EpisodeStarted { .. }
        | Fact::EpisodeEnded { .. }
        | Fact::DuplicateStart { .. }
        | Fact::Ended { .. }
        | Fact::Gone { .. }
        | Fact::CancelRequested { .. }
        | Fact::Unreachable { .. }
        | Fact::Reachable
        | Fact::LogsIncomplete { .. } => Step::Reject(RejectReason::NoUid),
    }
}

fn live(state: &RunState, step: impl FnOnce(&RunState) -> Step) -> Step {
    if state.is_terminal() {
        Step::Stay(StayReason::Terminal)
    } else {
        step(state)
    }
}

fn moved(state: &RunState, change: impl FnOnce(&mut RunState)) -> Step {
    let mut next = state.clone();
    change(&mut next);
    if next == *state {
        Step::Stay(StayReason::Known)
    } else {
        Step::Move(Box::new(next))
    }
}

fn set_flag(state: &RunState, flag: Flag) -> Step {
    moved(state, |next| {
        next.flags.insert(flag);
    })
}

fn clear_flag(state: &RunState, flag: Flag) -> Step {
    moved(state, |next| {
        next.flags.remove(&flag);
    })
}

/// Notes where the attempt went. Also after the end: an object that was made in a race with the end must
/// be known to be removed.
fn dispatched(state: &RunState, backend: &BackendInfo, at: Timestamp) -> Step {
    if state.uid().is_some() {
        return Step::Stay(StayReason::Known);
    }
    moved(state, |next| {
        next.dispatched_at = next.dispatched_at.or(Some(at));
        let news = next.backend.replace(backend.clone()).as_ref() != Some(backend);
        if news && next.place() <= (0, rank(PendingCode::Dispatched)) {
            let since = next
                .pending
                .as_ref()
                .filter(|pending| pending.code == PendingCode::Dispatched)
                .map_or(at, |pending| pending.since);
            next.pending = Some(Pending {
                code: PendingCode::Dispatched,
                message: format!("handed to {} as {}", place_name(backend), backend.object),
                since,
            });
        }
    })
}

fn place_name(backend: &BackendInfo) -> String {
    match &backend.cluster {
        Some(cluster) => format!("cluster {cluster}"),
        None => backend.kind.to_string(),
    }
}

fn waiting(state: &RunState, code: PendingCode, message: &str, round: u64, at: Timestamp) -> Step {
    // Rounds begin with the object; no queue takes a run back to before it was dispatched.
    let before_object = rank(code) <= rank(PendingCode::Dispatched);
    let round = if before_object { 0 } else { round };
    if code == PendingCode::Unknown || (round, rank(code)) < state.place() {
        return Step::Stay(StayReason::Older);
    }
    moved(state, |next| {
        let same_wait = next
            .pending
            .as_ref()
            .filter(|pending| pending.code == code && next.round == round);
        let since = same_wait.map_or(at, |pending| pending.since);
        next.status = RunStatus::Pending;
        next.round = round;
        next.pending = Some(Pending {
            code,
            message: message.to_owned(),
            since,
        });
    })
}

fn running(state: &RunState, round: u64, at: Timestamp) -> Step {
    let place = (round, RUNNING);
    if place < state.place() {
        return Step::Stay(StayReason::Older);
    }
    if place == state.place() {
        return Step::Stay(StayReason::Known);
    }
    moved(state, |next| {
        next.status = RunStatus::Running;
        next.round = round;
        next.pending = None;
        next.started_at = next.started_at.or(Some(at));
    })
}

/// What an ending means for a run.
enum Verdict {
    Succeeded,
    Failed(Failure),
    Cancelled { exit_code: Option<i32> },
}

fn verdict(state: &RunState, ending: &Ending) -> Verdict {
    match ending {
        Ending::Succeeded { verified: _ } => Verdict::Succeeded,
        Ending::Failed { failure } if state.cancel_requested() && ended_by_a_cancel(failure) => {
            Verdict::Cancelled {
                exit_code: failure.exit_code,
            }
        }
        Ending::Failed { failure } => Verdict::Failed(failure.clone()),
        Ending::Stopped { exit_code, .. } if state.cancel_requested() => Verdict::Cancelled {
            exit_code: *exit_code,
        },
        Ending::Stopped {
            message,
            exit_code,
            signal,
        } => Verdict::Failed(Failure {
            code: FailureCode::DeletedExternally,
            message: message.clone(),
            exit_code: *exit_code,
            signal: *signal,
        }),
    }
}

/// Whether a failure is what a cancel leaves behind: the object deleted, or the command ended by SIGTERM or
/// SIGKILL. A backend that sees no more than that cannot tell who did it. Out of memory, eviction and
/// timeout have codes of their own and stay failures.
fn ended_by_a_cancel(failure: &Failure) -> bool {
    const TERM: i32 = 15;
    const KILL: i32 = 9;
    match failure.code {
        FailureCode::DeletedExternally => true,
        FailureCode::ExitCode | FailureCode::Signal => {
            matches!(failure.signal, Some(TERM | KILL))
                || failure
                    .exit_code
                    .is_some_and(|code| code == 128 + TERM || code == 128 + KILL)
        }
        FailureCode::Oom
        | FailureCode::Timeout
        | FailureCode::Image
        | FailureCode::StartError
        | FailureCode::Evicted
        | FailureCode::Preempted
        | FailureCode::NodeLost
        | FailureCode::Rejected
        | FailureCode::NameConflict
        | FailureCode::Lost
        | FailureCode::Unknown => false,
    }
}

fn gone(message: &str) -> Ending {
    Ending::Stopped {
        message: message.to_owned(),
        exit_code: None,
        signal: None,
    }
}

/// The first verdict on an attempt: it ends the run, or the attempt when the policy has another one left.
fn ended(state: &RunState, ending: &Ending, started_at: Option<Timestamp>, at: Timestamp) -> Step {
    let verdict = verdict(state, ending);
    if let Verdict::Failed(failure) = &verdict
        && !state.cancel_requested()
        && state.retry.allows(state.attempt.0, failure.code)
    {
        return Step::Move(Box::new(backing_off(state, failure, at)));
    }
    Step::Move(Box::new(finished(state, verdict, started_at, at)))
}

/// A verdict on a run that has ended. Terminal is final, but for a lost run whose own object turns out
/// to have a real result.
fn ended_again(state: &RunState, ending: &Ending, started_at: Option<Timestamp>, seen: &Observation) -> Step {
    if !is_result(ending) || state.status == RunStatus::Cancelled {
        return Step::Stay(StayReason::Terminal);
    }
    let end = finished(state, verdict(state, ending), started_at, seen.at);
    let same_object = state.uid().is_some() && state.uid() == seen.object_uid();
    if state.is_lost() && same_object {
        return Step::Move(Box::new(end));
    }
    let same_end = end.status == state.status && end.exit_code == state.exit_code;
    if state.is_lost() || same_end {
        return Step::Stay(StayReason::Terminal);
    }
    Step::Reject(RejectReason::ContradictsEnd)
}

/// Whether an ending says what the command came to. What has ended may be stopped, deleted and cleared away:
/// no contradiction, and no result either.
fn is_result(ending: &Ending) -> bool {
    match ending {
        Ending::Succeeded { .. } => true,
        Ending::Stopped { .. } => false,
        Ending::Failed { failure } => !matches!(
            failure.code,
            FailureCode::Lost | FailureCode::DeletedExternally | FailureCode::Unknown
        ),
    }
}

fn backing_off(state: &RunState, failure: &Failure, at: Timestamp) -> RunState {
    let failed = state.attempt;
    let mut flags = state.flags.clone();
    // The next attempt is on no cluster yet, and may go to another one.
    flags.remove(&Flag::ClusterUnreachable);
    RunState {
        status: RunStatus::Pending,
        pending: Some(Pending {
            code: PendingCode::Backoff,
            message: format!(
                "attempt {failed} failed ({}: {}), attempt {} follows",
                failure.code,
                failure.message,
                failed.next()
            ),
            since: at,
        }),
        failure: None,
        exit_code: None,
        attempt: failed.next(),
        round: 0,
        backend: None,
        flags,
        dispatched_at: None,
        started_at: None,
        finished_at: None,
        retry: state.retry.clone(),
    }
}

fn finished(state: &RunState, verdict: Verdict, started_at: Option<Timestamp>, at: Timestamp) -> RunState {
    let (status, failure, exit_code) = match verdict {
        Verdict::Succeeded => (RunStatus::Succeeded, None, Some(0)),
        Verdict::Failed(failure) => {
            // Whoever passes the exit code on must not turn a failure into a success.
            let exit_code = failure.exit_code.filter(|code| *code != 0);
            (RunStatus::Failed, Some(failure), exit_code)
        }
        Verdict::Cancelled { exit_code } => (RunStatus::Cancelled, None, exit_code),
    };
    let mut end = state.clone();
    end.status = status;
    end.pending = None;
    end.failure = failure;
    end.exit_code = exit_code;
    end.started_at = state.started_at.or(started_at);
    end.finished_at = Some(at);
    end.flags.remove(&Flag::ClusterUnreachable);
    end
}

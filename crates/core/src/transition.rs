//! The one function that turns what was seen into run state: [`next`].
//!
//! Facts may come twice, late and in any order. Order is by lattice: (attempt, round, rank), never by
//! arrival and never by clocks. Terminal is final; the only legal exit is from `lost` to a real result
//! with evidence of the same UID.

use jiff::Timestamp;

use crate::ids::{Attempt, ObjectUid};
use crate::observation::{Ending, Fact, Observation};
use crate::run::BackendInfo;
use crate::spec::RetryPolicy;
use crate::status::{Failure, FailureCode, Flag, Flags, Pending, PendingCode, RunStatus};

/// The part of a run which observations move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    pub status: RunStatus,
    pub pending: Option<Pending>,
    pub failure: Option<Failure>,
    pub exit_code: Option<i32>,
    pub attempt: Attempt,
    /// See [`Fact::Running`].
    pub round: u64,
    pub backend: Option<BackendInfo>,
    pub flags: Flags,
    pub dispatched_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// The spec's policy: it decides whether a failure ends the run or the attempt.
    pub retry: RetryPolicy,
}

/// What an observation does to a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The state becomes this one.
    Move(Box<RunState>),
    /// Nothing new; a logged no-op.
    Stay(StayReason),
    /// The fact contradicts what is known; a logged no-op, kept in the run's history.
    Reject(RejectReason),
}

/// Why a fact changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StayReason {
    /// The state says so already.
    Known,
    /// A later fact was seen before.
    Older,
    /// The run is over.
    Terminal,
    /// It is about another attempt.
    OtherAttempt,
    /// It is recorded as an episode and moves no state.
    Detail,
}

/// Why a fact is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// It is about an object with another UID than the pinned one.
    ForeignUid,
    /// It contradicts the recorded end.
    ContradictsEnd,
}

impl RunState {
    /// The state of a run that was just recorded.
    #[must_use]
    pub fn accepted(at: Timestamp, retry: RetryPolicy) -> Self {
        Self {
            status: RunStatus::Pending,
            pending: Some(Pending {
                code: PendingCode::Accepted,
                message: "recorded, not yet looked at".to_owned(),
                since: at,
            }),
            failure: None,
            exit_code: None,
            attempt: Attempt::FIRST,
            round: 0,
            backend: None,
            flags: Flags::new(),
            dispatched_at: None,
            started_at: None,
            finished_at: None,
            retry,
        }
    }

    /// UID of the object that the current attempt is pinned to.
    #[must_use]
    pub fn uid(&self) -> Option<&ObjectUid> {
        self.backend.as_ref().and_then(|backend| backend.uid.as_ref())
    }

    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.status.is_terminal()
    }

    #[must_use]
    pub fn cancel_requested(&self) -> bool {
        self.flags.contains(&Flag::CancelRequested)
    }

    fn is_lost(&self) -> bool {
        self.failure
            .as_ref()
            .is_some_and(|failure| failure.code == FailureCode::Lost)
    }

    /// Place in the lattice within the attempt.
    fn place(&self) -> (u64, u8) {
        let rank = match (self.status, &self.pending) {
            (RunStatus::Pending, Some(pending)) => rank(pending.code),
            (RunStatus::Pending, None) => 0,
            (RunStatus::Running, _) => RUNNING,
            (RunStatus::Succeeded | RunStatus::Failed | RunStatus::Cancelled, _) => u8::MAX,
        };
        (self.round, rank)
    }
}

const RUNNING: u8 = 10;

/// The order in which one attempt meets the reasons of waiting.
fn rank(code: PendingCode) -> u8 {
    match code {
        PendingCode::Backoff | PendingCode::Unknown => 0,
        PendingCode::Accepted => 1,
        PendingCode::Queued => 2,
        PendingCode::Dispatched => 3,
        PendingCode::Admission => 4,
        PendingCode::Scheduling => 5,
        PendingCode::Image => 6,
        PendingCode::Starting => 7,
    }
}

/// The next state of a run after one fact. Pure, total, and the only place where run state changes.
#[must_use]
pub fn next(state: &RunState, seen: &Observation) -> Step {
    if let Some(refusal) = not_about_this_attempt(state, seen) {
        return refusal;
    }
    match &seen.fact {
        Fact::EpisodeStarted { .. } | Fact::EpisodeEnded { .. } => Step::Stay(StayReason::Detail),
        Fact::DuplicateStart { .. } => set_flag(state, Flag::DuplicateStart),
        Fact::LogsIncomplete { .. } => set_flag(state, Flag::LogsIncomplete),
        Fact::Unreachable { .. } => live(state, |state| set_flag(state, Flag::ClusterUnreachable)),
        Fact::Reachable => clear_flag(state, Flag::ClusterUnreachable),
        Fact::CancelRequested { .. } => live(state, |state| set_flag(state, Flag::CancelRequested)),
        Fact::Dispatched { backend } => live(state, |state| dispatched(state, backend, seen.at)),
        Fact::Waiting { code, message, round } => {
            live(state, |state| waiting(state, *code, message, *round, seen.at))
        }
        Fact::Running { round } => live(state, |state| running(state, *round, seen.at)),
        Fact::Ended { ending, started_at } => ended(state, ending, *started_at, seen),
        Fact::Gone { message } => live(state, |state| gone(state, message, seen.at)),
    }
}

/// Refuses facts about another attempt or another object. Requests and reachability are about the
/// run as a whole and pass.
fn not_about_this_attempt(state: &RunState, seen: &Observation) -> Option<Step> {
    match &seen.fact {
        Fact::CancelRequested { .. }
        | Fact::Unreachable { .. }
        | Fact::Reachable
        | Fact::LogsIncomplete { .. } => return None,
        Fact::Dispatched { .. }
        | Fact::Waiting { .. }
        | Fact::Running { .. }
        | Fact::EpisodeStarted { .. }
        | Fact::EpisodeEnded { .. }
        | Fact::DuplicateStart { .. }
        | Fact::Ended { .. }
        | Fact::Gone { .. } => {}
    }
    if seen.attempt != state.attempt {
        return Some(Step::Stay(StayReason::OtherAttempt));
    }
    match (state.uid(), &seen.uid) {
        (Some(pinned), Some(other)) if pinned != other => Some(Step::Reject(RejectReason::ForeignUid)),
        (Some(_) | None, _) => None,
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

fn dispatched(state: &RunState, backend: &BackendInfo, at: Timestamp) -> Step {
    if state.backend.as_ref().is_some_and(|known| known.uid.is_some()) {
        return Step::Stay(StayReason::Known);
    }
    moved(state, |next| {
        next.backend = Some(backend.clone());
        next.dispatched_at = next.dispatched_at.or(Some(at));
        if next.place() < (0, rank(PendingCode::Dispatched)) {
            next.pending = Some(Pending {
                code: PendingCode::Dispatched,
                message: format!("handed to {} as {}", place_name(backend), backend.object),
                since: at,
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
    let place = (round, rank(code));
    if place < state.place() {
        return Step::Stay(StayReason::Older);
    }
    moved(state, |next| {
        let same_code = next
            .pending
            .as_ref()
            .filter(|pending| pending.code == code && next.round == round);
        let since = same_code.map_or(at, |pending| pending.since);
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
    if (round, RUNNING) < state.place() {
        return Step::Stay(StayReason::Older);
    }
    if (round, RUNNING) == state.place() {
        return Step::Stay(StayReason::Known);
    }
    moved(state, |next| {
        next.status = RunStatus::Running;
        next.round = round;
        next.pending = None;
        next.started_at = next.started_at.or(Some(at));
    })
}

fn ended(state: &RunState, ending: &Ending, started_at: Option<Timestamp>, seen: &Observation) -> Step {
    if state.is_terminal() {
        return corrected(state, ending, started_at, seen);
    }
    if let Ending::Failed { failure } = ending
        && !state.cancel_requested()
        && state.retry.allows(state.attempt.0, failure.code)
    {
        return Step::Move(Box::new(backing_off(state, failure, seen.at)));
    }
    Step::Move(Box::new(finished(state, ending, started_at, seen.at)))
}

/// Terminal is final, but for a lost run whose own object turns out to have a real result.
fn corrected(state: &RunState, ending: &Ending, started_at: Option<Timestamp>, seen: &Observation) -> Step {
    let end = finished(state, ending, started_at, seen.at);
    let same_object = state.uid().is_some() && state.uid() == seen.uid.as_ref();
    let still_lost = end.is_lost() || matches!(ending, Ending::Stopped { .. });
    if state.is_lost() && same_object && !still_lost {
        return Step::Move(Box::new(end));
    }
    let same_end = end.status == state.status && end.exit_code == state.exit_code;
    if same_end || state.status == RunStatus::Cancelled || state.is_lost() {
        return Step::Stay(StayReason::Terminal);
    }
    Step::Reject(RejectReason::ContradictsEnd)
}

fn backing_off(state: &RunState, failure: &Failure, at: Timestamp) -> RunState {
    let failed = state.attempt;
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
        flags: state.flags.clone(),
        dispatched_at: None,
        started_at: None,
        finished_at: None,
        retry: state.retry.clone(),
    }
}

fn finished(state: &RunState, ending: &Ending, started_at: Option<Timestamp>, at: Timestamp) -> RunState {
    let (status, failure, exit_code) = match ending {
        Ending::Succeeded { .. } => (RunStatus::Succeeded, None, Some(0)),
        Ending::Failed { failure } => (RunStatus::Failed, Some(failure.clone()), failure.exit_code),
        Ending::Stopped { exit_code, .. } if state.cancel_requested() => {
            (RunStatus::Cancelled, None, *exit_code)
        }
        Ending::Stopped {
            message,
            exit_code,
            signal,
        } => {
            let failure = Failure {
                code: FailureCode::DeletedExternally,
                message: message.clone(),
                exit_code: *exit_code,
                signal: *signal,
            };
            (RunStatus::Failed, Some(failure), *exit_code)
        }
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

fn gone(state: &RunState, message: &str, at: Timestamp) -> Step {
    let stopped = Ending::Stopped {
        message: message.to_owned(),
        exit_code: None,
        signal: None,
    };
    Step::Move(Box::new(finished(state, &stopped, None, at)))
}

//! The one function that turns what was seen into run state: [`next`]. Called by the server's Recorder
//! and by the writer of the local run store, by nobody else; it must never read a clock or do I/O.
//!
//! # The order of facts
//!
//! Facts come twice, late and in any order. They are ordered by a lattice, never by arrival and never by
//! clocks: the place of a state is (attempt, round, rank), where rank climbs through the reasons of
//! waiting to running and ends at the terminal states. A fact below the state's place is
//! [`StayReason::Older`].
//!
//! What the lattice promises: take any facts about **one attempt and its one object** of the kinds
//! dispatched, waiting, running, duplicate start, logs incomplete, cancel request, episodes. In every
//! order and with any repeats they end in the same status, reason of waiting (its code), attempt, round,
//! backend and flags. One verdict (`Ended` or `Gone`) may be among them with the same promise for status,
//! failure and exit code, as long as no cancel is requested and no retry is left.
//!
//! What it does not promise, because arrival is the truth there:
//! - Of two verdicts the first one wins; so does the first of two UIDs.
//! - A cancel request before the verdict turns a stop into `cancelled` and forbids a retry; after it, it
//!   does nothing.
//! - A retry makes a new attempt, and facts of the old one then count no more.
//! - `cluster_unreachable` follows the last word about reachability, until the run ends.
//! - Messages are those of the last fact that moved the state, times those of the first.
//!
//! Terminal is final: status, failure, exit code and finish time never change again. The only legal exit
//! is from `lost` to a real result with evidence of the same UID. Flags, and the backend where none is
//! pinned yet, may still be filled in after the end.

mod rules;

use jiff::Timestamp;

use crate::ids::{Attempt, ObjectUid};
use crate::run::BackendInfo;
use crate::spec::RetryPolicy;
use crate::status::{Failure, FailureCode, Flag, Flags, Pending, PendingCode, RunStatus};

pub use rules::{attempt_failure, next};

/// The part of a run which observations move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunState {
    pub status: RunStatus,
    pub pending: Option<Pending>,
    pub failure: Option<Failure>,
    pub exit_code: Option<i32>,
    pub attempt: Attempt,
    /// See [`Fact::Running`](crate::Fact::Running).
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
    /// The state becomes this one. It may be terminal before and after (a flag, a late backend): a run
    /// ended by this step only if [`RunState::is_terminal`] was false before.
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
    /// It is recorded as an episode and moves no state. The UID of an episode of an earlier attempt is
    /// for the caller to check: the state knows only the current one.
    Detail,
}

/// Why a fact is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// It is about an object with another UID than the pinned one.
    ForeignUid,
    /// It tells of a start or an end without naming the object, though one is pinned.
    NoUid,
    /// It contradicts the recorded end.
    ContradictsEnd,
}

impl StayReason {
    /// A stable word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Older => "older",
            Self::Terminal => "terminal",
            Self::OtherAttempt => "other_attempt",
            Self::Detail => "detail",
        }
    }
}

impl RejectReason {
    /// A stable word for logs and for the run's history.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignUid => "foreign_uid",
            Self::NoUid => "no_uid",
            Self::ContradictsEnd => "contradicts_end",
        }
    }
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

    /// Whether the run ended without anybody knowing how; the only end that may be corrected.
    #[must_use]
    pub fn is_lost(&self) -> bool {
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

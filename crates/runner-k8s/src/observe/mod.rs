//! A Job, its pods and its Workload → observations. Pure: the same evidence gives the same facts.
//!
//! Called by `watch` and by `K8sBackend::observe`. Says only what the objects say; what a fact does
//! to a run is `qwex_core::transition`'s. Two things deserve a word:
//!
//! * A Job never fails by itself for an image that cannot be pulled or a container that cannot be
//!   configured. Once that is hopeless, `Ended` is told while the Job still exists; the server then
//!   cancels the object like any other leftover.
//! * Only Job conditions end a run. Counters in its status may precede the end or go back, and
//!   `FailureTarget` or `SuccessCriteriaMet` mean that it is still finishing.

mod admission;
mod details;
mod ending;
mod episodes;
mod files;
mod waiting;

use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{Attempt, Ending, Fact, Observation, RunId};

use crate::config::Tuning;
use crate::decode::{JobView, PodView, WorkloadView};

pub(crate) use details::details;
pub use episodes::has_run;
pub(crate) use waiting::is_being_made;

/// Everything known of one attempt.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    pub run_id: RunId,
    pub attempt: Attempt,
    pub job: &'a JobView,
    /// The Job is proven absent; `job` is its last known state.
    pub job_deleted: bool,
    pub pods: &'a [PodEvidence],
    pub workload: Option<&'a WorkloadView>,
    /// Why the Job controller makes no pod, or a kubelet no container in one, from their events.
    pub trouble: Option<&'a str>,
    /// Stands in where the cluster gives no time.
    pub now: Timestamp,
    pub patience: Patience,
}

/// One pod, as last seen, with what only an onlooker knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodEvidence {
    pub pod: PodView,
    /// It is gone; `pod` is its last known state.
    pub deleted: bool,
    /// It was seen alive after somebody had asked to delete it: its end is of that making. The object
    /// alone cannot tell, the kubelet moves its deletion time to the end.
    pub deleted_alive: bool,
    /// When its command began, if it was seen running: a kubelet that has lost a container does not tell
    /// any more that there was one.
    pub began_at: Option<Timestamp>,
    /// How long its container has been refused (image or configuration), by the onlooker's clock.
    pub refused_for: Duration,
    /// How many times the kubelet gave up on the image for a while.
    pub back_offs: u32,
}

impl PodEvidence {
    /// A pod as one read shows it.
    #[must_use]
    pub fn of(pod: PodView) -> Self {
        Self {
            pod,
            ..Self::default()
        }
    }
}

/// How long hopeless states are watched.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub image: Duration,
    pub config: Duration,
}

impl From<&Tuning> for Patience {
    fn from(tuning: &Tuning) -> Self {
        Self {
            image: tuning.start_deadline,
            config: tuning.config_grace,
        }
    }
}

/// What the evidence says.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Episodes and state, the end excluded.
    pub facts: Vec<Observation>,
    pub end: Option<End>,
}

/// The end of the attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub observation: Observation,
    /// False while a pod may still say more about why (its last status is on the way).
    pub settled: bool,
}

impl Observed {
    /// Everything, whether settled or not.
    #[must_use]
    pub fn all(self) -> Vec<Observation> {
        let mut all = self.facts;
        all.extend(self.end.map(|end| end.observation));
        all
    }
}

/// What can be said of an attempt now.
#[must_use]
pub fn observe(evidence: &Evidence<'_>) -> Observed {
    let mut facts = episodes::facts(evidence);
    let end = ending::end(evidence);
    if end.is_none() && !evidence.job_deleted {
        facts.extend(waiting::fact(evidence));
    }
    Observed { facts, end }
}

impl Evidence<'_> {
    pub(crate) fn says(&self, at: Option<Timestamp>, fact: Fact) -> Observation {
        Observation {
            run_id: self.run_id,
            attempt: self.attempt,
            uid: Some(self.job.metadata.object_uid()),
            at: at.unwrap_or(self.now),
            fact,
        }
    }

    fn ended(&self, at: Option<Timestamp>, ending: Ending) -> Observation {
        let started_at = self.pods.iter().filter_map(episodes::started_at).min();
        self.says(at, Fact::Ended { ending, started_at })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! Collects what a batch changes, so that each table is written by one statement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qwex_api::run::PlacementReport;
use qwex_core::transition::{StayReason, Step};
use qwex_core::{EventKind, Fact, FailureCode, Observation, Project, RunId, RunName, RunState, RunStatus};
use uuid::Uuid;

use super::history;
use crate::db::outbox::{IntentUpdate, NewCleanup};
use crate::db::record::{AttemptUpdate, EpisodeUpdate, KnownEpisode, LockedRun, NewEvent, RunUpdate};
use crate::db::to_i32;

/// A state that endpoints may be told of.
#[derive(Debug, Clone)]
pub(super) struct Milestone {
    pub run_id: RunId,
    pub project: Project,
    pub name: Option<RunName>,
    pub status: RunStatus,
    pub exit_code: Option<i32>,
    pub failure: Option<FailureCode>,
    pub sequence: i64,
    pub at: jiff::Timestamp,
}

/// Everything that one transaction writes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    touched: BTreeSet<RunId>,
    placed: bool,
    /// Episodes that SQL has already, so that a relist adds no history.
    known: HashMap<(Uuid, i32, String), KnownEpisode>,
    pub attempts: BTreeMap<(Uuid, i32), AttemptUpdate>,
    pub episodes: BTreeMap<(Uuid, i32, String), EpisodeUpdate>,
    pub events: Vec<NewEvent>,
    pub intents: BTreeMap<Uuid, IntentUpdate>,
    pub cancels: Vec<Uuid>,
    pub ended: Vec<Uuid>,
    pub cleanups: Vec<NewCleanup>,
    pub milestones: Vec<Milestone>,
}

impl Changes {
    /// Starts a collection that knows these episodes.
    pub fn with_known(known: Vec<KnownEpisode>) -> Self {
        let known = known
            .into_iter()
            .map(|one| ((one.run_id, one.attempt, one.episode.clone()), one))
            .collect();
        Self {
            known,
            ..Self::default()
        }
    }

    /// Takes in one step of one run and brings the run in memory up to date.
    pub fn take(&mut self, run: &mut LockedRun, seen: &Observation, step: &Step) {
        metrics::counter!("qwex_observations_total", "step" => step_word(step)).increment(1);
        let new_detail = matches!(step, Step::Stay(StayReason::Detail)) && self.episode(run.id, seen);
        if !matches!(step, Step::Stay(_)) || new_detail {
            for line in history::lines(&run.state, seen, step) {
                run.event_seq += 1;
                self.events.push(NewEvent {
                    run_id: run.id.as_uuid(),
                    seq: run.event_seq,
                    at: jiff::Timestamp::now(),
                    kind: line.kind,
                    attempt: to_i32(seen.attempt.0),
                    message: line.message,
                    data: line.data,
                });
                self.touched.insert(run.id);
            }
        }
        if let Step::Move(after) = step {
            let before = std::mem::replace(&mut run.state, (**after).clone());
            self.touched.insert(run.id);
            self.follow(run, &before, seen);
        }
    }

    /// Notes that a cluster was chosen, or that none fits.
    pub fn note_placement(&mut self, run: &mut LockedRun, report: &PlacementReport) {
        self.touched.insert(run.id);
        let Some(chosen) = &report.chosen else { return };
        self.placed = true;
        run.event_seq += 1;
        self.events.push(NewEvent {
            run_id: run.id.as_uuid(),
            seq: run.event_seq,
            at: jiff::Timestamp::now(),
            kind: EventKind::Placed,
            attempt: to_i32(run.state.attempt.0),
            message: format!("cluster {chosen} was chosen"),
            data: serde_json::to_value(report).unwrap_or_default(),
        });
    }

    /// Notes an episode. Returns whether that is news.
    fn episode(&mut self, run_id: RunId, seen: &Observation) -> bool {
        let (episode, node, end) = match &seen.fact {
            Fact::EpisodeStarted { episode, node } => (episode, node.clone(), None),
            Fact::EpisodeEnded { episode, end } => (episode, None, Some(end.clone())),
            _ => return false,
        };
        let key = (run_id.as_uuid(), to_i32(seen.attempt.0), episode.0.clone());
        let stored = self.known.get(&key);
        let (began, over) = stored.map_or((false, false), |one| (one.started, one.ended));
        let known = self.episodes.entry(key.clone()).or_insert_with(|| EpisodeUpdate {
            run_id: key.0,
            attempt: key.1,
            episode: key.2,
            node: None,
            exit_code: None,
            signal: None,
            reason: None,
            started_at: None,
            ended_at: None,
        });
        known.node = node.or(known.node.take());
        match end {
            None => {
                let new = known.started_at.is_none() && !began;
                known.started_at = known.started_at.or(Some(seen.at));
                new
            }
            Some(end) => {
                let new = known.ended_at.is_none() && !over;
                known.exit_code = end.exit_code;
                known.signal = end.signal;
                known.reason = end.reason;
                known.started_at = end.started_at.or(known.started_at);
                known.ended_at = end.ended_at.or(Some(seen.at));
                new
            }
        }
    }

    /// What a moved run brings about.
    fn follow(&mut self, run: &LockedRun, before: &RunState, seen: &Observation) {
        let after = &run.state;
        let id = run.id.as_uuid();
        let failure = qwex_core::transition::attempt_failure(before, seen);
        let code = failure
            .as_ref()
            .map_or(FailureCode::Unknown, |failure| failure.code);
        self.note_attempt(run, before, failure);
        if after.cancel_requested() && !before.cancel_requested() {
            self.cancels.push(id);
        }
        if matches!(seen.fact, Fact::Dispatched { .. }) {
            self.intents.insert(id, intent(run, "watch", 0.0));
        }
        if after.attempt != before.attempt {
            let pause = before.retry.pause(before.attempt);
            self.intents.insert(id, intent(run, "place", pause.as_secs_f64()));
            self.clean_up(run.id, before, code);
        }
        if after.is_terminal() && !before.is_terminal() {
            self.intents.remove(&id);
            self.ended.push(id);
            self.clean_up(run.id, after, code);
        }
        if after.is_terminal() && before.is_terminal() && before.backend.is_none() {
            // The reply to the submit came after the end: its object must not live on.
            self.clean_up(run.id, after, FailureCode::Lost);
        }
        if after.status != before.status {
            self.milestones.push(Milestone {
                run_id: run.id,
                project: run.project.clone(),
                name: run.name.clone(),
                status: after.status,
                exit_code: after.exit_code,
                failure: after.failure.as_ref().map(|failure| failure.code),
                sequence: run.event_seq,
                at: seen.at,
            });
        }
    }

    fn note_attempt(&mut self, run: &LockedRun, before: &RunState, failure: Option<qwex_core::Failure>) {
        let after = &run.state;
        if after.attempt != before.attempt {
            let mut failed = attempt_row(run.id, before);
            failed.status = RunStatus::Failed.as_str();
            failed.finished_at = after.pending.as_ref().map(|pending| pending.since);
            failed.exit_code = failure.as_ref().and_then(|failure| failure.exit_code);
            failed.failure = failure;
            self.attempts.insert((failed.run_id, failed.attempt), failed);
        } else if after.backend.is_some() || after.is_terminal() {
            let row = attempt_row(run.id, after);
            self.attempts.insert((row.run_id, row.attempt), row);
        }
    }

    fn clean_up(&mut self, run_id: RunId, state: &RunState, code: FailureCode) {
        if let Some(backend) = &state.backend {
            self.cleanups.push(NewCleanup {
                run_id: run_id.as_uuid(),
                attempt: to_i32(state.attempt.0),
                cluster: backend.cluster.as_ref().map(ToString::to_string),
                backend: backend.clone(),
                stop: may_still_run(code),
            });
        }
    }

    /// The rows of runs that moved or gained history.
    pub fn run_updates(&self, runs: &HashMap<RunId, LockedRun>) -> Vec<RunUpdate> {
        self.touched
            .iter()
            .filter_map(|id| runs.get(id))
            .map(RunUpdate::new)
            .collect()
    }

    /// The runs whose readers want to know.
    pub fn told(&self) -> Vec<RunId> {
        self.touched.iter().copied().collect()
    }

    /// Whether somebody has something to do now.
    pub fn has_work(&self) -> bool {
        self.placed || !self.cleanups.is_empty() || !self.cancels.is_empty() || !self.milestones.is_empty()
    }
}

fn step_word(step: &Step) -> &'static str {
    match step {
        Step::Move(_) => "move",
        Step::Stay(_) => "stay",
        Step::Reject(_) => "reject",
    }
}

/// Endings that the backend did not reach by itself: its object waits on, or may.
fn may_still_run(code: FailureCode) -> bool {
    matches!(
        code,
        FailureCode::Image | FailureCode::StartError | FailureCode::Lost
    )
}

fn intent(run: &LockedRun, phase: &'static str, delay_seconds: f64) -> IntentUpdate {
    let backend = run.state.backend.as_ref();
    IntentUpdate {
        run_id: run.id.as_uuid(),
        attempt: to_i32(run.state.attempt.0),
        phase,
        cluster: backend.and_then(|backend| backend.cluster.as_ref().map(ToString::to_string)),
        cancel_requested: run.state.cancel_requested(),
        delay_seconds,
    }
}

fn attempt_row(run_id: RunId, state: &RunState) -> AttemptUpdate {
    let backend = state.backend.as_ref();
    AttemptUpdate {
        run_id: run_id.as_uuid(),
        attempt: to_i32(state.attempt.0),
        status: state.status.as_str(),
        cluster: backend.and_then(|backend| backend.cluster.as_ref().map(ToString::to_string)),
        namespace: backend.and_then(|backend| backend.namespace.clone()),
        object: backend.map(|backend| backend.object.clone()),
        uid: backend.and_then(|backend| backend.uid.as_ref().map(ToString::to_string)),
        failure: state.failure.clone(),
        exit_code: state.exit_code,
        dispatched_at: state.dispatched_at,
        started_at: state.started_at,
        finished_at: state.finished_at,
    }
}

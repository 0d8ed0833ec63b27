//! What to do next with a pipeline. Pure: the record in, decisions out.

use super::record::{Pipeline, StageRecord, StageStatus};
use super::turns::must_take_turns;
use crate::project_file::{Condition, Outcomes};

/// Something to do with the stage of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Launch(usize),
    /// It never runs: why, and whether a failure before it is the cause.
    Skip {
        index: usize,
        reason: String,
        by_failure: bool,
    },
    Cancel(usize),
}

/// All that can be done now. After a skip more may be possible: ask again.
#[must_use]
pub fn decide(pipeline: &Pipeline, cancelling: bool) -> Vec<Decision> {
    let running = pipeline
        .stages
        .iter()
        .filter(|stage| stage.status == StageStatus::Running)
        .count();
    let most = pipeline.max_parallel.map_or(usize::MAX, |most| most as usize);
    let mut free = most.saturating_sub(running);
    let mut decisions = Vec::new();
    for (index, stage) in pipeline.stages.iter().enumerate() {
        if stage.status != StageStatus::Pending {
            continue;
        }
        if cancelling {
            decisions.push(Decision::Cancel(index));
            continue;
        }
        let needs: Vec<&StageRecord> = stage
            .needs
            .iter()
            .filter_map(|need| pipeline.find(need))
            .collect();
        if !needs.iter().all(|need| need.status.is_over()) {
            continue;
        }
        match skipped(stage, &needs) {
            Some((reason, by_failure)) => decisions.push(Decision::Skip {
                index,
                reason,
                by_failure,
            }),
            None if free > 0 && !waits_for_its_turn(pipeline, stage, &decisions) => {
                free -= 1;
                decisions.push(Decision::Launch(index));
            }
            None => {}
        }
    }
    decisions
}

/// Whether it must not run beside one that runs, or is about to.
fn waits_for_its_turn(pipeline: &Pipeline, stage: &StageRecord, decisions: &[Decision]) -> bool {
    let running = pipeline
        .stages
        .iter()
        .filter(|other| other.status == StageStatus::Running);
    let launched = decisions.iter().filter_map(|decision| match decision {
        Decision::Launch(index) => Some(&pipeline.stages[*index]),
        Decision::Skip { .. } | Decision::Cancel(_) => None,
    });
    running
        .chain(launched)
        .any(|other| must_take_turns(pipeline, stage, other))
}

/// Why a stage does not run, its needs being over.
fn skipped(stage: &StageRecord, needs: &[&StageRecord]) -> Option<(String, bool)> {
    let outcomes = Outcomes {
        success: needs.iter().all(|need| need.is_good()),
        failure: needs.iter().any(|need| need.is_bad()),
    };
    // What cannot be read any more was written by another version: nothing is run on a guess.
    let condition = match stage.condition.as_deref().map(Condition::parse) {
        Some(Err(_)) => return Some(("its `if` cannot be read".to_owned(), false)),
        Some(Ok(condition)) => Some(condition),
        None => None,
    };
    let holds = condition
        .as_ref()
        .map_or(outcomes.success, |condition| condition.holds(outcomes));
    if holds {
        return None;
    }
    if let Some(bad) = needs
        .iter()
        .find(|need| need.is_bad())
        .filter(|_| !outcomes.success)
    {
        return Some((format!("{} {}", bad.name, bad.status.as_str()), true));
    }
    if let Some(other) = needs.iter().find(|need| !need.is_good()) {
        return Some((format!("{} {}", other.name, other.status.as_str()), false));
    }
    let text = condition
        .map(|condition| condition.to_string())
        .unwrap_or_default();
    Some((format!("its `if` does not hold: {text}"), false))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

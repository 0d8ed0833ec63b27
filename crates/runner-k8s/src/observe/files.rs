//! Pods with helpers that carry files. The command's own container alone decides how the run ended, also while the pod
//! stays for its outputs, and whatever becomes of a helper after that. A helper that fails before the command began
//! ends the run: nothing else will.

use qwex_core::{Ending, FailureCode};

use super::ending::{failed, of_pod, settled, terminated, was_deleted_while_running};
use super::episodes::has_run;
use super::{End, Evidence, PodEvidence};
use crate::decode::{Condition, StateTerminated};
use crate::names;

/// The end of an attempt as the command's container or a helper tells it; `None` where the Job's verdict is awaited.
pub(super) fn end(evidence: &Evidence<'_>) -> Option<End> {
    if evidence.job.is_suspended() {
        return None;
    }
    let seen = evidence
        .pods
        .iter()
        .max_by_key(|seen| (seen.pod.metadata.creation_timestamp, &seen.pod.metadata.name))?;
    match terminated(seen) {
        Some(end) if seen.pod.keeps_outputs() && ended_by_itself(seen, end) => Some(settled(
            evidence,
            end.finished_at,
            of_command(evidence, seen, end),
        )),
        Some(_) => None,
        None => of_helper(evidence, seen),
    }
}

/// A pod that is taken away after its command ended changes nothing; one that is taken away before is another story.
fn ended_by_itself(seen: &PodEvidence, end: &StateTerminated) -> bool {
    let disrupted = seen
        .pod
        .condition("DisruptionTarget")
        .filter(|found| found.is_true());
    let disrupted_at = disrupted.map(|found| found.last_transition_time);
    let before = disrupted_at.is_none_or(|at| at.zip(end.finished_at).is_some_and(|(at, ended)| ended < at));
    before && !was_deleted_while_running(seen, end)
}

fn of_command(evidence: &Evidence<'_>, seen: &PodEvidence, end: &StateTerminated) -> Ending {
    if let Some(limit) = overrun(evidence, end) {
        let message = format!("ran longer than its timeout of {limit}s");
        return failed(FailureCode::Timeout, message, Some(end));
    }
    if end.exit_code == 0 {
        return Ending::Succeeded { verified: true };
    }
    of_pod(evidence, seen, &Condition::default())
}

/// The timeout, where the command was stopped for it. It is stopped a second late, so that more whole seconds than
/// the timeout mean just that.
fn overrun(evidence: &Evidence<'_>, end: &StateTerminated) -> Option<i64> {
    let limit: i64 = evidence
        .job
        .metadata
        .annotations
        .get(names::TIMEOUT)?
        .parse()
        .ok()?;
    let ran = end.finished_at?.as_second() - end.started_at?.as_second();
    (ran > limit).then_some(limit)
}

fn of_helper(evidence: &Evidence<'_>, seen: &PodEvidence) -> Option<End> {
    let pod = &seen.pod;
    if seen.deleted || pod.metadata.deletion_timestamp.is_some() || has_run(pod) {
        return None;
    }
    let ended = pod.files_in()?.state.terminated.as_ref()?;
    if ended.exit_code == 0 || pod.condition("DisruptionTarget").is_some_and(Condition::is_true) {
        return None;
    }
    let why = match ended.message.trim() {
        "" => format!("{} with exit code {}", ended.reason, ended.exit_code),
        words => words.to_owned(),
    };
    let message = format!(
        "the container {} that carries the run's files, which needs sh, tar and find in its image, failed: {why}",
        names::FILES_IN
    );
    let ending = failed(FailureCode::StartError, message, None);
    Some(settled(evidence, ended.finished_at, ending))
}

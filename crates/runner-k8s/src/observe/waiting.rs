//! Why an attempt waits, or that it runs, in the cluster's own words.

use qwex_core::{Fact, Observation, PendingCode};

use super::{Evidence, PodEvidence, admission, has_run};
use crate::decode::{Condition, PodView, StateWaiting};

/// Waiting reasons of a container that are about its image.
pub(super) const IMAGE_REASONS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// Reasons that only say that nothing went wrong so far.
const USUAL: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

pub(super) fn fact(evidence: &Evidence<'_>) -> Option<Observation> {
    if evidence.job.is_suspended() {
        let since = evidence
            .job
            .condition("Suspended")
            .and_then(|seen| seen.last_transition_time);
        let message = admission::words(evidence.workload);
        return Some(waiting(evidence, since, PendingCode::Admission, message));
    }
    match current_pod(evidence.pods) {
        Some(seen) => of_pod(evidence, &seen.pod),
        None => evidence
            .trouble
            .filter(|_| evidence.pods.is_empty())
            .map(|message| waiting(evidence, None, PendingCode::Scheduling, message.to_owned())),
    }
}

/// The newest pod that is neither gone nor being taken away. The pods of an earlier round are
/// deleted before the Job is suspended, so what is left belongs to this one.
fn current_pod(pods: &[PodEvidence]) -> Option<&PodEvidence> {
    pods.iter()
        .filter(|seen| !seen.deleted && seen.pod.metadata.deletion_timestamp.is_none())
        .max_by_key(|seen| (seen.pod.metadata.creation_timestamp, &seen.pod.metadata.name))
}

fn waiting(
    evidence: &Evidence<'_>,
    at: Option<jiff::Timestamp>,
    code: PendingCode,
    message: String,
) -> Observation {
    let round = evidence.job.round();
    evidence.says(at, Fact::Waiting { code, message, round })
}

fn of_pod(evidence: &Evidence<'_>, pod: &PodView) -> Option<Observation> {
    if has_run(pod) {
        let state = &pod.main()?.state;
        let at = match (&state.running, &state.terminated) {
            (Some(running), _) => running.started_at,
            (None, Some(ended)) => ended.started_at,
            (None, None) => None,
        };
        let round = evidence.job.round();
        return Some(evidence.says(at, Fact::Running { round }));
    }
    if pod.has_ended() {
        return None;
    }
    let scheduled = pod.condition("PodScheduled");
    if pod.spec.node_name.is_none() {
        let since = scheduled.and_then(|seen| seen.last_transition_time);
        let message = scheduling(scheduled);
        return Some(waiting(evidence, since, PendingCode::Scheduling, message));
    }
    let state = pod.main().map(|main| &main.state);
    if state.is_some_and(|state| state.terminated.is_some()) {
        return None;
    }
    let taking = pod.files_in().and_then(|helper| helper.state.running.as_ref());
    if let Some(taking) = taking {
        let message = "waiting for the files of the workspace, which are being sent".to_owned();
        return Some(waiting(
            evidence,
            taking.started_at,
            PendingCode::Starting,
            message,
        ));
    }
    let reason = pod.waiting().cloned().unwrap_or_default();
    let (code, message) = match evidence.trouble {
        Some(trouble) if is_being_made(pod) => (PendingCode::Starting, trouble.to_owned()),
        Some(_) | None => container(pod, &reason),
    };
    Some(waiting(evidence, None, code, message))
}

fn scheduling(condition: Option<&Condition>) -> String {
    match condition {
        Some(seen) if !seen.is_true() && !seen.message.is_empty() => seen.message.clone(),
        Some(_) | None => "waiting for the scheduler to choose a node".to_owned(),
    }
}

/// On a node whose kubelet has said nothing of the container but that it makes it.
pub(crate) fn is_being_made(pod: &PodView) -> bool {
    let main = pod.main().map(|main| &main.state);
    let has_begun = main.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    let takes_files = pod
        .files_in()
        .is_some_and(|helper| helper.state.running.is_some());
    let is_usual = pod
        .waiting()
        .is_none_or(|waiting| USUAL.contains(&waiting.reason.as_str()));
    let is_there = pod.metadata.deletion_timestamp.is_none() && !pod.has_ended();
    is_there && pod.spec.node_name.is_some() && !has_begun && !takes_files && is_usual
}

/// `starting` ranks behind `image`, and while a container is being created nobody says whether its
/// image is still being pulled; so it counts as `image` until the kubelet speaks of something later.
fn container(pod: &PodView, waiting: &StateWaiting) -> (PendingCode, String) {
    let image = image_of(pod);
    let node = pod.spec.node_name.as_deref().unwrap_or("its node");
    let reason = waiting.reason.as_str();
    if USUAL.contains(&reason) {
        return (
            PendingCode::Image,
            format!("{node} makes the container; image {image} is pulled if it is not there yet"),
        );
    }
    let code = if IMAGE_REASONS.contains(&reason) {
        PendingCode::Image
    } else {
        PendingCode::Starting
    };
    (code, refusal(image, waiting))
}

/// The kubelet's reason and message, with the image where that is what they are about and they do not name it.
pub(super) fn refusal(image: &str, waiting: &StateWaiting) -> String {
    let StateWaiting { reason, message } = waiting;
    if let Some(cause) = cause_of_back_off(image, waiting) {
        return cause.to_owned();
    }
    let is_told = message.contains(image) || !IMAGE_REASONS.contains(&reason.as_str());
    match (message.is_empty(), is_told) {
        (true, _) => format!("image {image}: {reason}"),
        (false, true) => format!("{reason}: {message}"),
        (false, false) => format!("image {image}: {reason}: {message}"),
    }
}

/// Between two pulls that fail the same way the kubelet says so in other words, which is no news each time: what it says
/// of the last one is the same.
fn cause_of_back_off<'a>(image: &str, waiting: &'a StateWaiting) -> Option<&'a str> {
    let is_back_off = waiting.reason == "ImagePullBackOff";
    let pause = format!("Back-off pulling image \"{image}\": ");
    let cause = waiting.message.strip_prefix(pause.as_str());
    cause.filter(|cause| is_back_off && cause.contains(image))
}

pub(super) fn image_of(pod: &PodView) -> &str {
    pod.main_spec().map_or("", |container| container.image.as_str())
}

//! Every pod that ever ran is an episode.

use jiff::Timestamp;
use qwex_core::{EpisodeEnd, EpisodeId, Fact, Observation};

use super::{Evidence, PodEvidence};
use crate::decode::{PodView, StateTerminated};

/// The runtime could not start the process: the container never ran.
pub(super) const START_ERRORS: [&str; 2] = ["StartError", "ContainerCannotRun"];

pub(super) fn facts(evidence: &Evidence<'_>) -> Vec<Observation> {
    let mut facts = Vec::new();
    for seen in evidence.pods {
        let Some(started_at) = started_at(seen) else {
            continue;
        };
        let fact = Fact::EpisodeStarted {
            episode: episode(&seen.pod),
            node: seen.pod.spec.node_name.clone(),
        };
        facts.push(evidence.says(Some(started_at), fact));
        if let Some(end) = end_of(seen) {
            let fact = Fact::EpisodeEnded {
                episode: episode(&seen.pod),
                end: end.clone(),
            };
            facts.push(evidence.says(end.ended_at, fact));
        }
    }
    facts.extend(duplicate(evidence));
    facts
}

pub(super) fn episode(pod: &PodView) -> EpisodeId {
    EpisodeId(pod.metadata.uid.clone())
}

/// Whether the command of the pod began at some time.
#[must_use]
pub fn has_run(pod: &PodView) -> bool {
    let Some(main) = pod.main() else { return false };
    match (&main.state.running, &main.state.terminated) {
        (Some(_), _) => true,
        (None, Some(ended)) => ran(ended),
        (None, None) => false,
    }
}

/// A container that never ran says so by its reason, by a start in 1970, or by none: the kubelet ends a pod
/// whose image was still being pulled with a made-up `terminated` of exit code 137 and no start.
pub(super) fn ran(ended: &StateTerminated) -> bool {
    let refused = START_ERRORS.contains(&ended.reason.as_str());
    !refused && ended.started_at.is_some_and(|at| at.as_second() > 0)
}

pub(super) fn started_at(seen: &PodEvidence) -> Option<Timestamp> {
    let state = &seen.pod.main()?.state;
    match (&state.running, &state.terminated) {
        (Some(running), _) => running.started_at.or(seen.pod.metadata.creation_timestamp),
        (None, Some(ended)) if ran(ended) => ended.started_at,
        (None, Some(_) | None) => seen.began_at,
    }
}

/// The exit code of the command, where there was one.
pub(super) fn exit_code(ended: &StateTerminated) -> Option<i32> {
    ran(ended).then_some(ended.exit_code)
}

fn end_of(seen: &PodEvidence) -> Option<EpisodeEnd> {
    let state = &seen.pod.main()?.state;
    let pod_word = Some(seen.pod.status.reason.clone()).filter(|word| !word.is_empty());
    match &state.terminated {
        Some(ended) => Some(EpisodeEnd {
            exit_code: exit_code(ended),
            signal: ended.signal.filter(|signal| *signal > 0),
            reason: pod_word.or_else(|| Some(ended.reason.clone()).filter(|word| !word.is_empty())),
            started_at: started_at(seen),
            ended_at: ended.finished_at,
        }),
        None if seen.deleted => Some(EpisodeEnd {
            reason: pod_word.or_else(|| Some("Deleted".to_owned())),
            started_at: started_at(seen),
            ..EpisodeEnd::default()
        }),
        None => None,
    }
}

/// Pods that run side by side; a Job of one completion may get two after a node was lost.
fn duplicate(evidence: &Evidence<'_>) -> Option<Observation> {
    let running = |seen: &&PodEvidence| {
        let state = seen.pod.main().map(|main| &main.state);
        !seen.deleted
            && seen.pod.metadata.deletion_timestamp.is_none()
            && state.is_some_and(|state| state.running.is_some())
    };
    let mut episodes: Vec<_> = evidence
        .pods
        .iter()
        .filter(running)
        .map(|seen| episode(&seen.pod))
        .collect();
    episodes.sort();
    (episodes.len() > 1).then(|| evidence.says(None, Fact::DuplicateStart { episodes }))
}

//! How an attempt ended: the Job's verdict, explained by the pods.

use jiff::{SignedDuration, Timestamp};
use qwex_core::{Ending, Fact, Failure, FailureCode};

use super::episodes::{START_ERRORS, exit_code, ran};
use super::files;
use super::waiting::{IMAGE_REASONS, image_of, refusal};
use super::{End, Evidence, PodEvidence};
use crate::decode::{Condition, PodView, StateTerminated, StateWaiting};

/// Image reasons that no waiting mends.
const HOPELESS_AT_ONCE: [&str; 2] = ["InvalidImageName", "ErrImageNeverPull"];
/// What registries and runtimes say of an image that does not exist or is not for us.
const HOPELESS_WORDS: [&str; 7] = [
    "not found",
    "manifest unknown",
    "name unknown",
    "does not exist",
    "repository name must be",
    "unauthorized",
    "access denied",
];
/// Back-offs after which hopeless words are believed.
const BACK_OFFS: u32 = 2;
/// Reasons of a container that cannot be configured or created.
const CONFIG_REASONS: [&str; 3] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

pub(super) fn end(evidence: &Evidence<'_>) -> Option<End> {
    if let Some(end) = files::end(evidence) {
        return Some(end);
    }
    let verdict = |kind| evidence.job.condition(kind).filter(|seen| seen.is_true());
    if let Some(complete) = verdict("Complete") {
        return Some(completed(evidence, complete));
    }
    if let Some(failed) = verdict("Failed") {
        return Some(failed_by(evidence, failed));
    }
    if evidence.job_deleted {
        return Some(deleted(evidence));
    }
    hopeless(evidence)
}

/// Complete needs one pod that ended with 0 and was not taken away; evicted pods have been reported
/// as success.
fn completed(evidence: &Evidence<'_>, verdict: &Condition) -> End {
    let ended_well = |seen: &&PodEvidence| terminated(seen).is_some_and(|end| end.exit_code == 0);
    let clean = evidence
        .pods
        .iter()
        .filter(ended_well)
        .find(|seen| disruption(&seen.pod).is_none());
    if let Some(seen) = clean {
        let at = terminated(seen).and_then(|end| end.finished_at);
        let ending = Ending::Succeeded { verified: true };
        return settled(evidence, at.or(verdict.last_transition_time), ending);
    }
    let contradiction = evidence
        .pods
        .iter()
        .find(|seen| terminated(seen).is_some() || disruption(&seen.pod).is_some());
    match contradiction {
        Some(seen) => {
            let at = terminated(seen).and_then(|end| end.finished_at);
            let ending = of_pod(evidence, seen, verdict);
            settled(evidence, at.or(verdict.last_transition_time), ending)
        }
        None => End {
            observation: evidence.ended(
                verdict.last_transition_time,
                Ending::Succeeded { verified: false },
            ),
            settled: false,
        },
    }
}

fn failed_by(evidence: &Evidence<'_>, verdict: &Condition) -> End {
    let last = last_pod(evidence.pods);
    let end = last.and_then(terminated);
    let at = end
        .and_then(|end| end.finished_at)
        .or(verdict.last_transition_time);
    if verdict.reason == "DeadlineExceeded" {
        let ending = failed(FailureCode::Timeout, timeout_message(evidence, verdict), end);
        return settled(evidence, verdict.last_transition_time, ending);
    }
    match last {
        Some(seen) => End {
            observation: evidence.ended(at, of_pod(evidence, seen, verdict)),
            settled: seen.deleted || seen.pod.has_ended() || end.is_some(),
        },
        None => {
            let message = format!("{}; no pod is left to tell why", verdict.words());
            End {
                observation: evidence.ended(at, failed(FailureCode::Lost, message, None)),
                settled: false,
            }
        }
    }
}

fn timeout_message(evidence: &Evidence<'_>, verdict: &Condition) -> String {
    match evidence.job.spec.active_deadline_seconds {
        Some(seconds) => format!("ran longer than its timeout of {seconds}s: {}", verdict.message),
        None => verdict.message.clone(),
    }
}

/// The Job is gone without a verdict. Its pods, which are stopped in its wake, may still tell how.
fn deleted(evidence: &Evidence<'_>) -> End {
    let job = &evidence.job.metadata;
    let message = format!("Job {}/{} was deleted", job.namespace, job.name);
    let over = |seen: &PodEvidence| seen.deleted || seen.pod.has_ended() || terminated(seen).is_some();
    let end = last_pod(evidence.pods).and_then(terminated);
    let observation = match end {
        Some(end) => evidence.ended(
            end.finished_at.or(job.deletion_timestamp),
            Ending::Stopped {
                message,
                exit_code: exit_code(end),
                signal: signal(end),
            },
        ),
        None => evidence.says(job.deletion_timestamp, Fact::Gone { message }),
    };
    End {
        observation,
        settled: evidence.pods.iter().all(over),
    }
}

/// Ends what the Job controller never would.
fn hopeless(evidence: &Evidence<'_>) -> Option<End> {
    if evidence.job.is_suspended() {
        return None;
    }
    let seen = last_pod(evidence.pods).filter(|seen| !seen.deleted)?;
    if seen.pod.has_ended() || seen.pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let waiting = seen.pod.waiting()?;
    let code = hopeless_code(evidence, seen, waiting)?;
    let message = refusal(image_of(&seen.pod), waiting);
    Some(settled(evidence, None, failed(code, message, None)))
}

fn hopeless_code(evidence: &Evidence<'_>, seen: &PodEvidence, waiting: &StateWaiting) -> Option<FailureCode> {
    let reason = waiting.reason.as_str();
    if IMAGE_REASONS.contains(&reason) {
        let message = waiting.message.to_lowercase();
        let named = HOPELESS_WORDS.iter().any(|words| message.contains(words));
        let hopeless = HOPELESS_AT_ONCE.contains(&reason)
            || (named && seen.back_offs >= BACK_OFFS)
            || seen.refused_for >= evidence.patience.image;
        return hopeless.then_some(FailureCode::Image);
    }
    let refused = CONFIG_REASONS.contains(&reason) && seen.refused_for >= evidence.patience.config;
    refused.then_some(FailureCode::StartError)
}

/// How a pod failed. The container's own reason comes first: it is what the kernel or the runtime
/// saw; then what was done to the pod; then the exit code.
pub(super) fn of_pod(evidence: &Evidence<'_>, seen: &PodEvidence, verdict: &Condition) -> Ending {
    let pod = &seen.pod;
    let end = terminated(seen);
    if let Some(end) = end {
        if end.reason == "OOMKilled" && end.exit_code != 0 {
            return failed(FailureCode::Oom, oom_message(pod), Some(end));
        }
        if START_ERRORS.contains(&end.reason.as_str()) {
            return start_error(end);
        }
    }
    if let Some((code, message)) = disruption(pod) {
        return failed(code, message, end);
    }
    match end {
        Some(end) if was_deleted_while_running(seen, end) => stopped(pod, Some(end)),
        Some(end) => of_exit(end, verdict),
        None if seen.deleted || pod.metadata.deletion_timestamp.is_some() => stopped(pod, None),
        None => {
            match pod
                .waiting()
                .and_then(|waiting| Some((hopeless_code(evidence, seen, waiting)?, waiting)))
            {
                Some((code, waiting)) => failed(code, refusal(image_of(pod), waiting), None),
                None => failed(FailureCode::Lost, verdict.words(), None),
            }
        }
    }
}

/// The runtime could not start the command. Its exit code is the one a shell gives: 127 for a command that is
/// not there, 126 for one that may not be executed, else the runtime's own (128).
fn start_error(end: &StateTerminated) -> Ending {
    let exit_code = match end.message.as_str() {
        words if words.contains("no such file or directory") || words.contains("not found") => 127,
        words if words.contains("permission denied") => 126,
        _ => end.exit_code,
    };
    let failure = Failure {
        exit_code: Some(exit_code),
        ..Failure::new(FailureCode::StartError, end.message.clone())
    };
    Ending::Failed { failure }
}

fn of_exit(end: &StateTerminated, verdict: &Condition) -> Ending {
    if let Some(signal) = end.signal.filter(|signal| *signal > 0) {
        let message = format!("the command was ended by signal {signal}");
        return failed(FailureCode::Signal, message, Some(end));
    }
    match end.exit_code {
        _ if !ran(end) => failed(FailureCode::Lost, end.message.clone(), None),
        0 => {
            let message = format!("the command ended with 0, but {}", verdict.words());
            failed(FailureCode::Lost, message, Some(end))
        }
        code @ 129..=192 => {
            let message = format!(
                "the command ended with exit code {code}, as after signal {} (killed, or by its own choice)",
                code - 128
            );
            failed(FailureCode::ExitCode, message, Some(end))
        }
        code => {
            let message = format!("the command ended with exit code {code}");
            failed(FailureCode::ExitCode, message, Some(end))
        }
    }
}

fn oom_message(pod: &PodView) -> String {
    let limit = pod
        .main_spec()
        .and_then(|container| container.resources.limits.get("memory"));
    match limit {
        Some(limit) => format!("container main was killed for memory (limit {limit})"),
        None => "container main was killed for memory (no limit of its own, the node ran out)".to_owned(),
    }
}

/// The pod was deleted by somebody and its container ended in consequence. Where nobody saw it, both
/// times are the cluster's; a container that ended before the request ended by itself.
pub(super) fn was_deleted_while_running(seen: &PodEvidence, end: &StateTerminated) -> bool {
    let meta = &seen.pod.metadata;
    let grace = meta.deletion_grace_period_seconds.filter(|grace| *grace > 0);
    let asked_at = meta.deletion_timestamp.zip(grace);
    let asked_at = asked_at.map(|(at, grace)| at - SignedDuration::from_secs(grace));
    seen.deleted_alive
        || asked_at
            .zip(end.finished_at)
            .is_some_and(|(asked, ended)| ended > asked)
}

fn stopped(pod: &PodView, end: Option<&StateTerminated>) -> Ending {
    Ending::Stopped {
        message: format!("pod {}/{} was deleted", pod.metadata.namespace, pod.metadata.name),
        exit_code: end.and_then(exit_code),
        signal: end.and_then(signal),
    }
}

/// Whether and why the cluster took the pod away.
fn disruption(pod: &PodView) -> Option<(FailureCode, String)> {
    let target = pod.condition("DisruptionTarget").filter(|seen| seen.is_true());
    let by_condition = target.map(|seen| {
        let code = match seen.reason.as_str() {
            "PreemptionByScheduler" => FailureCode::Preempted,
            "DeletionByTaintManager" | "DeletionByPodGC" => FailureCode::NodeLost,
            // EvictionByEvictionAPI, TerminationByKubelet and what later versions add.
            _ => FailureCode::Evicted,
        };
        (code, seen.words())
    });
    let by_status = || {
        let code = match pod.status.reason.as_str() {
            "Evicted" => FailureCode::Evicted,
            "Preempting" => FailureCode::Preempted,
            "NodeLost" | "NodeShutdown" | "Terminated" | "Shutdown" => FailureCode::NodeLost,
            // The kubelet refused a pod that was bound to it: it must be placed anew.
            "OutOfcpu" | "OutOfmemory" | "OutOfpods" | "NodeAffinity" | "UnexpectedAdmissionError" => {
                FailureCode::Evicted
            }
            _ => return None,
        };
        Some((code, format!("{}: {}", pod.status.reason, pod.status.message)))
    };
    match (by_status(), by_condition) {
        // Both, and the kubelet's own words say more (which resource, how much).
        (Some((_, words)), Some((code, _))) => Some((code, words)),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

fn last_pod(pods: &[PodEvidence]) -> Option<&PodEvidence> {
    pods.iter()
        .max_by_key(|seen| (seen.pod.metadata.creation_timestamp, &seen.pod.metadata.name))
}

pub(super) fn terminated(seen: &PodEvidence) -> Option<&StateTerminated> {
    seen.pod.main()?.state.terminated.as_ref()
}

/// A kill for memory is SIGKILL by definition; else only what the runtime says.
fn signal(end: &StateTerminated) -> Option<i32> {
    let told = end.signal.filter(|signal| *signal > 0);
    told.or_else(|| (end.reason == "OOMKilled" && end.exit_code == 137).then_some(9))
}

pub(super) fn failed(code: FailureCode, message: String, end: Option<&StateTerminated>) -> Ending {
    Ending::Failed {
        failure: Failure {
            code,
            message,
            exit_code: end.and_then(exit_code),
            signal: end.and_then(signal),
        },
    }
}

pub(super) fn settled(evidence: &Evidence<'_>, at: Option<Timestamp>, ending: Ending) -> End {
    End {
        observation: evidence.ended(at, ending),
        settled: true,
    }
}

//! Whether the command of a Job surely never began, so that the Job may be taken away as if it had never been. Pure.
//!
//! Called by `submit` alone. What the API shows is late: a kubelet tells of a container after it started, and pods that
//! ran may be gone. So nothing is concluded from what is not told, and every doubt means that it may have begun.

use jiff::SignedDuration;

use crate::decode::{JobView, PodView};

/// Conditions after which, or just before which, the Job controller has given its verdict.
const VERDICTS: [&str; 4] = ["SuccessCriteriaMet", "FailureTarget", "Complete", "Failed"];
/// The kubelet's own word that it could not make the container, for want of a Secret for instance.
const NOT_MADE: &str = "CreateContainerConfigError";
/// The first pod is made as soon as the Job has begun; a later one may stand for one that ran and is gone.
const FIRST_POD: SignedDuration = SignedDuration::from_secs(5);

/// `job` was read before `pods`, and the pods by a consistent list.
///
/// A pod without a node runs nowhere. One with a node may run although nobody says so yet, unless its kubelet said that it
/// cannot make the container.
pub(crate) fn never_began(job: &JobView, pods: &[PodView]) -> bool {
    let is_over = job.metadata.deletion_timestamp.is_some()
        || VERDICTS
            .iter()
            .any(|kind| job.condition(kind).is_some_and(|found| found.is_true()));
    !is_over && had_no_other_pod(job, pods) && pods.iter().all(is_not_made)
}

/// A change of the spec is a generation, and to be let go or held back is one.
fn had_no_other_pod(job: &JobView, pods: &[PodView]) -> bool {
    let generation = job.metadata.generation;
    if job.is_suspended() {
        return generation == 1;
    }
    let Some(begun_at) = job.status.start_time else {
        // No pod of it can have gone: the controller notes each in the status before it lets go of it.
        return generation <= 2;
    };
    let is_first = |pod: &PodView| {
        let made_at = pod.metadata.creation_timestamp;
        made_at.is_some_and(|at| at.duration_since(begun_at) <= FIRST_POD)
    };
    generation <= 2 && pods.iter().any(is_first)
}

fn is_not_made(pod: &PodView) -> bool {
    if pod.spec.node_name.as_ref().is_none_or(String::is_empty) {
        return true;
    }
    let waiting = pod.main().and_then(|main| main.state.waiting.as_ref());
    pod.status.phase == "Pending" && waiting.is_some_and(|waiting| waiting.reason == NOT_MADE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(generation: i64, suspend: bool, status: &Value) -> JobView {
        serde_json::from_value(json!({
            "metadata": { "generation": generation }, "spec": { "suspend": suspend }, "status": status,
        }))
        .unwrap()
    }

    fn begun() -> JobView {
        job(
            1,
            false,
            &json!({ "startTime": "2027-01-15T08:00:00Z", "active": 1 }),
        )
    }

    fn pod(made_at: &str, node: &str, state: &Value) -> PodView {
        serde_json::from_value(json!({
            "metadata": { "creationTimestamp": made_at },
            "spec": { "nodeName": node },
            "status": { "phase": "Pending", "containerStatuses": [{ "name": "main", "state": state }] },
        }))
        .unwrap()
    }

    const SOON: &str = "2027-01-15T08:00:01Z";
    const LATER: &str = "2027-01-15T08:01:00Z";

    fn waiting(reason: &str) -> Value {
        json!({ "waiting": { "reason": reason } })
    }

    #[test]
    fn a_pod_on_a_node_may_run_before_anybody_says_so() {
        let silent: PodView = serde_json::from_value(json!({
            "metadata": { "creationTimestamp": SOON }, "spec": { "nodeName": "n" }, "status": { "phase": "Pending" },
        }))
        .unwrap();
        assert!(!never_began(&begun(), &[silent]));
        for reason in ["ContainerCreating", "PodInitializing", "ImagePullBackOff"] {
            assert!(
                !never_began(&begun(), &[pod(SOON, "n", &waiting(reason))]),
                "{reason}"
            );
        }
        for state in [
            json!({ "running": {} }),
            json!({ "terminated": { "exitCode": 0 } }),
        ] {
            assert!(!never_began(&begun(), &[pod(SOON, "n", &state)]), "{state}");
        }
        assert!(never_began(&begun(), &[pod(SOON, "n", &waiting(NOT_MADE))]));
        assert!(never_began(&begun(), &[pod(SOON, "", &json!({}))]));
    }

    #[test]
    fn pods_that_are_gone_may_have_run() {
        assert!(!never_began(&begun(), &[]), "its pod is gone");
        let instead = pod(LATER, "", &json!({}));
        assert!(!never_began(&begun(), std::slice::from_ref(&instead)));
        let requeued = job(
            4,
            false,
            &json!({ "startTime": "2027-01-15T08:00:59Z", "active": 1 }),
        );
        assert!(!never_began(&requeued, &[instead]));
        assert!(!never_began(&job(3, true, &json!({})), &[]), "held back again");
    }

    #[test]
    fn a_job_that_was_never_let_go_or_never_looked_at_has_had_no_pod() {
        assert!(never_began(&job(1, true, &json!({})), &[]));
        assert!(never_began(&job(1, false, &json!({})), &[]));
        assert!(never_began(
            &job(1, false, &json!({})),
            &[pod(SOON, "", &json!({}))]
        ));
    }

    #[test]
    fn what_has_ended_stays_as_evidence() {
        for kind in VERDICTS {
            let conditions = json!({ "conditions": [{ "type": kind, "status": "True" }] });
            assert!(!never_began(&job(1, false, &conditions), &[]), "{kind}");
        }
        let mut going = begun();
        going.metadata.deletion_timestamp = Some(LATER.parse().unwrap());
        assert!(!never_began(&going, &[pod(SOON, "", &json!({}))]));
    }
}

//! Objects recorded off real API servers (`fixtures/`), and what is said of them. The snapshots are
//! the table; the tests below change one thing of a recorded object at a time.

use qwex_core::{Failure, FailureCode, PendingCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

#[derive(Deserialize)]
struct Recorded {
    job: JobView,
    pods: Vec<PodView>,
    workload: Option<WorkloadView>,
}

const IMAGE: Duration = Duration::from_secs(300);
const CONFIG: Duration = Duration::from_secs(30);

fn load(name: &str) -> Value {
    let path = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What is said of a recording; `look` is what the onlooker knows beside the objects.
fn observed(
    recording: Value,
    look: impl Fn(&mut Evidence<'_>),
    onlooker: impl Fn(&mut PodEvidence),
) -> Observed {
    let recorded: Recorded = serde_json::from_value(recording).unwrap();
    let (run_id, attempt) = recorded.job.metadata.attempt().unwrap();
    let mut pods: Vec<PodEvidence> = recorded.pods.into_iter().map(PodEvidence::of).collect();
    pods.iter_mut().for_each(onlooker);
    let mut evidence = Evidence {
        run_id,
        attempt,
        job: &recorded.job,
        job_deleted: false,
        pods: &pods,
        workload: recorded.workload.as_ref(),
        trouble: None,
        now: "2027-01-01T00:00:00Z".parse().unwrap(),
        patience: Patience {
            image: IMAGE,
            config: CONFIG,
        },
    };
    look(&mut evidence);
    observe(&evidence)
}

fn plainly(recording: Value) -> Observed {
    observed(recording, |_| {}, |_| {})
}

fn ending(observed: &Observed) -> Ending {
    match &observed.end.as_ref().expect("an end").observation.fact {
        Fact::Ended { ending, .. } => ending.clone(),
        other => panic!("no end but {other:?}"),
    }
}

fn failure(observed: &Observed) -> Failure {
    match ending(observed) {
        Ending::Failed { failure } => failure,
        other => panic!("no failure but {other:?}"),
    }
}

fn waiting(observed: &Observed) -> Option<(PendingCode, String)> {
    observed.facts.iter().find_map(|seen| match &seen.fact {
        Fact::Waiting { code, message, .. } => Some((*code, message.clone())),
        _ => None,
    })
}

#[test]
fn the_whole_table() {
    for name in [
        "succeeded",
        "exit_3",
        "exit_137",
        "oom",
        "start_error",
        "deadline",
        "image_name",
        "image_back_off",
        "missing_secret",
        "running",
        "kubelet_evicted",
        "preempted",
        "evicted_exit_0",
        "unschedulable",
        "create_error",
    ] {
        let observed = plainly(load(name));
        let facts: Vec<_> = observed.facts.iter().map(|seen| (seen.at, &seen.fact)).collect();
        let end = observed
            .end
            .as_ref()
            .map(|end| (end.observation.at, &end.observation.fact, end.settled));
        insta::assert_yaml_snapshot!(name, (facts, end));
    }
}

#[test]
fn c11_complete_without_a_pod_is_unverified() {
    let mut recording = load("succeeded");
    recording["pods"] = json!([]);
    let said = plainly(recording);
    assert_eq!(ending(&said), Ending::Succeeded { verified: false });
    assert!(!said.end.unwrap().settled, "its pods are looked for first");
}

#[test]
fn k8s_90636_complete_with_an_evicted_pod_is_no_success() {
    let mut recording = load("evicted_exit_0");
    assert_eq!(failure(&plainly(recording.clone())).code, FailureCode::Evicted);
    recording["job"]["status"]["conditions"] = json!([{ "type": "Complete", "status": "True" }]);
    let failure = failure(&plainly(recording));
    assert_eq!((failure.code, failure.exit_code), (FailureCode::Evicted, Some(0)));
}

#[test]
fn a_finished_pod_among_disrupted_ones_decides_for_success() {
    let mut recording = load("succeeded");
    let evicted = load("kubelet_evicted")["pods"][0].clone();
    recording["pods"].as_array_mut().unwrap().push(evicted);
    assert_eq!(ending(&plainly(recording)), Ending::Succeeded { verified: true });
}

#[test]
fn counters_and_coming_conditions_are_no_end() {
    let mut recording = load("running");
    recording["job"]["status"]["failed"] = json!(1);
    for coming in ["FailureTarget", "SuccessCriteriaMet"] {
        recording["job"]["status"]["conditions"] = json!([{ "type": coming, "status": "True" }]);
        assert_eq!(plainly(recording.clone()).end, None, "{coming}");
    }
    recording["job"]["status"]["conditions"] = json!([{ "type": "Failed", "status": "False" }]);
    assert_eq!(plainly(recording).end, None);
}

#[test]
fn failed_without_a_pod_is_lost() {
    let mut recording = load("exit_3");
    recording["pods"] = json!([]);
    let said = plainly(recording);
    let failure = failure(&said);
    assert_eq!(failure.code, FailureCode::Lost);
    assert!(failure.message.contains("BackoffLimitExceeded"), "{failure:?}");
    assert!(!said.end.unwrap().settled);
}

#[test]
fn a_verdict_before_the_pods_last_word_is_not_settled() {
    let mut recording = load("exit_3");
    recording["pods"] = load("running")["pods"].clone();
    assert!(!plainly(recording).end.unwrap().settled);
}

#[test]
fn c09_a_deleted_job_waits_for_its_pods() {
    let deleted = |evidence: &mut Evidence<'_>| evidence.job_deleted = true;
    let running = observed(load("running"), deleted, |_| {});
    let end = running.end.unwrap();
    assert!(matches!(end.observation.fact, Fact::Gone { .. }) && !end.settled);
    let gone = observed(load("running"), deleted, |pod| pod.deleted = true);
    assert!(gone.end.unwrap().settled);
    assert!(
        gone.facts
            .iter()
            .any(|seen| matches!(&seen.fact, Fact::EpisodeEnded { end, .. } if end.reason.as_deref() == Some("Deleted")))
    );

    let mut stopped = load("exit_3");
    stopped["job"]["status"]["conditions"] = json!([]);
    let stopped = observed(stopped, deleted, |_| {});
    assert!(matches!(
        ending(&stopped),
        Ending::Stopped {
            exit_code: Some(3),
            ..
        }
    ));
    // A verdict that it had before stands.
    assert_eq!(
        failure(&observed(load("exit_3"), deleted, |_| {})).code,
        FailureCode::ExitCode
    );
}

/// Recorded off a real kubelet: the Job was deleted while the image was refused, and the pod's last status
/// claims exit code 137 of a container that never was.
#[test]
fn c14_cancelled_while_the_image_is_pulled_there_is_no_exit_code() {
    let recording = load("cancelled_in_pull");
    let claimed = &recording["pods"][0]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(claimed["exitCode"], 137);
    let said = observed(recording.clone(), |evidence| evidence.job_deleted = true, |_| {});
    assert!(
        matches!(
            ending(&said),
            Ending::Stopped {
                exit_code: None,
                signal: None,
                ..
            }
        ),
        "{said:#?}"
    );
    assert_eq!(said.facts, [], "nothing ever ran");
    // The same by a verdict: a timeout that struck during the pull, a pod that was taken away.
    let mut late = recording;
    for (reason, code) in [
        ("DeadlineExceeded", FailureCode::Timeout),
        ("BackoffLimitExceeded", FailureCode::Lost),
    ] {
        late["job"]["status"]["conditions"] =
            json!([{ "type": "Failed", "status": "True", "reason": reason }]);
        late["pods"][0]["metadata"]["deletionTimestamp"] = json!(null);
        let failure = failure(&plainly(late.clone()));
        assert_eq!((failure.code, failure.exit_code), (code, None), "{failure:?}");
    }
}

#[test]
fn a_container_that_the_kubelet_lost_ran_if_it_was_seen_running() {
    let began = "2026-11-21T12:00:00Z".parse().unwrap();
    let deleted = |evidence: &mut Evidence<'_>| evidence.job_deleted = true;
    let said = observed(load("cancelled_in_pull"), deleted, |pod| {
        pod.began_at = Some(began);
    });
    let over = said.facts.iter().find_map(|seen| match &seen.fact {
        Fact::EpisodeEnded { end, .. } => Some((end.exit_code, end.reason.as_deref(), end.started_at)),
        _ => None,
    });
    assert_eq!(over, Some((None, Some("ContainerStatusUnknown"), Some(began))));
}

#[test]
fn a_pod_seen_alive_under_deletion_was_stopped() {
    let said = observed(load("exit_3"), |_| {}, |pod| pod.deleted_alive = true);
    assert!(matches!(
        ending(&said),
        Ending::Stopped {
            exit_code: Some(3),
            ..
        }
    ));
}

#[test]
fn c13_a_signal_only_where_the_runtime_says_so() {
    let mut recording = load("exit_137");
    assert_eq!(failure(&plainly(recording.clone())).code, FailureCode::ExitCode);
    recording["pods"][0]["status"]["containerStatuses"][0]["state"]["terminated"]["signal"] = json!(9);
    let failure = failure(&plainly(recording));
    assert_eq!((failure.code, failure.signal), (FailureCode::Signal, Some(9)));
}

#[test]
fn c14_hopeless_images_fail_in_due_time() {
    assert_eq!(failure(&plainly(load("image_name"))).code, FailureCode::Image);
    assert_eq!(plainly(load("image_back_off")).end, None);
    let late = observed(load("image_back_off"), |_| {}, |pod| pod.refused_for = IMAGE);
    assert_eq!(failure(&late).code, FailureCode::Image);

    let mut unknown = load("image_back_off");
    let waiting = &mut unknown["pods"][0]["status"]["containerStatuses"][0]["state"]["waiting"];
    waiting["message"] = json!("Back-off pulling image \"x:1\": ErrImagePull: manifest unknown");
    let twice = observed(unknown.clone(), |_| {}, |pod| pod.back_offs = 2);
    assert_eq!(failure(&twice).code, FailureCode::Image);
    assert_eq!(plainly(unknown).end, None, "once may be a slip");
}

#[test]
fn a_back_off_is_no_news_after_the_failure_it_repeats() {
    let mut recording = load("image_back_off");
    let (_, paused) = waiting(&plainly(recording.clone())).unwrap();
    let state = &mut recording["pods"][0]["status"]["containerStatuses"][0]["state"]["waiting"];
    let words = state["message"].as_str().unwrap().to_owned();
    let (_, cause) = words.split_once(": ErrImagePull: ").unwrap();
    *state = json!({ "reason": "ErrImagePull", "message": cause });
    let (_, failed) = waiting(&plainly(recording.clone())).unwrap();
    assert_eq!(paused, failed);
    // An older kubelet names no cause.
    let state = &mut recording["pods"][0]["status"]["containerStatuses"][0]["state"]["waiting"];
    *state =
        json!({ "reason": "ImagePullBackOff", "message": "Back-off pulling image \"127.0.0.1:1/absent:1\"" });
    let (_, bare) = waiting(&plainly(recording)).unwrap();
    assert!(bare.starts_with("ImagePullBackOff: "), "{bare}");
}

#[test]
fn what_cannot_be_mounted_is_told_while_the_kubelet_says_nothing() {
    let mut recording = load("image_back_off");
    let state = &mut recording["pods"][0]["status"]["containerStatuses"][0]["state"]["waiting"];
    *state = json!({ "reason": "ContainerCreating" });
    let words = "FailedMount: configmap \"no\" not found";
    let said = observed(
        recording.clone(),
        |evidence| evidence.trouble = Some(words),
        |_| {},
    );
    assert_eq!(waiting(&said), Some((PendingCode::Starting, words.to_owned())));
    // Once it says something of the container itself, that counts.
    let said = observed(
        load("missing_secret"),
        |evidence| evidence.trouble = Some(words),
        |_| {},
    );
    assert!(waiting(&said).unwrap().1.contains("no-such-secret"));
    let (code, _) = waiting(&plainly(recording)).unwrap();
    assert_eq!(code, PendingCode::Image, "most often it is the pull");
}

#[test]
fn a_missing_secret_gets_a_grace() {
    let said = plainly(load("missing_secret"));
    assert_eq!(said.end, None);
    let (code, message) = waiting(&said).unwrap();
    assert_eq!(code, PendingCode::Starting);
    assert!(message.contains("no-such-secret"), "{message}");
    let late = observed(load("missing_secret"), |_| {}, |pod| pod.refused_for = CONFIG);
    assert_eq!(failure(&late).code, FailureCode::StartError);
}

#[test]
fn b_two_running_pods_are_told() {
    let mut recording = load("running");
    let mut twin = recording["pods"][0].clone();
    twin["metadata"]["uid"] = json!("ffffffff-0000-0000-0000-000000000000");
    recording["pods"].as_array_mut().unwrap().push(twin);
    let said = plainly(recording);
    let duplicate = said.facts.iter().find_map(|seen| match &seen.fact {
        Fact::DuplicateStart { episodes } => Some(episodes.len()),
        _ => None,
    });
    assert_eq!(duplicate, Some(2));
}

#[test]
fn c15_a_pod_that_cannot_be_made_is_told() {
    let mut recording = load("running");
    recording["pods"] = json!([]);
    assert_eq!(waiting(&plainly(recording.clone())), None);
    let trouble = |evidence: &mut Evidence<'_>| evidence.trouble = Some("exceeded quota: q");
    let said = observed(recording, trouble, |_| {});
    assert_eq!(
        waiting(&said),
        Some((PendingCode::Scheduling, "exceeded quota: q".to_owned()))
    );
}

/// A suspended Job with a Workload of these conditions, as (type, status, reason, message).
fn queued(conditions: &[(&str, &str, &str, &str)]) -> String {
    queued_with(conditions, |_| {})
}

/// The same, with more about the Workload.
fn queued_with(conditions: &[(&str, &str, &str, &str)], more: impl FnOnce(&mut Value)) -> String {
    let mut recording = load("running");
    recording["pods"] = json!([]);
    recording["job"]["spec"]["suspend"] = json!(true);
    recording["job"]["status"] = json!({ "conditions": [
        { "type": "Suspended", "status": "True", "lastTransitionTime": "2027-01-01T00:00:07Z" },
    ]});
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(kind, status, reason, message)| {
            json!({ "type": kind, "status": status, "reason": reason, "message": message })
        })
        .collect();
    recording["workload"] = json!({
        "metadata": { "name": "job-x" },
        "spec": { "queueName": "team" }, "status": { "conditions": conditions },
    });
    more(&mut recording["workload"]);
    let said = plainly(recording);
    let round = said.facts.iter().find_map(|seen| match seen.fact {
        Fact::Waiting { round, .. } => Some(round),
        _ => None,
    });
    assert_eq!(round, Some(1_798_761_607));
    let (code, message) = waiting(&said).unwrap();
    assert_eq!(code, PendingCode::Admission);
    message
}

#[test]
fn why_a_run_is_not_admitted() {
    let quota = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 400m more needed";
    let unreserved = ("QuotaReserved", "False", "WaitingForQuota", quota);
    assert_eq!(
        queued(&[
            unreserved,
            (
                "Admitted",
                "False",
                "NoReservation",
                "The workload has no reservation"
            )
        ]),
        format!("queue team; waiting for 400m more cpu (WaitingForQuota: {quota})")
    );
    assert_eq!(queued(&[]), "queue team: not looked at yet");
    assert_eq!(
        queued(&[("QuotaReserved", "False", "SomethingNew", "of a later version")]),
        "queue team: SomethingNew: of a later version"
    );
    let reserved = (
        "QuotaReserved",
        "True",
        "QuotaReserved",
        "Quota reserved in ClusterQueue cq",
    );
    assert_eq!(
        queued(&[
            reserved,
            (
                "Admitted",
                "False",
                "UnsatisfiedAdmissionChecks",
                "check prov is pending"
            )
        ]),
        "queue team: quota is reserved; UnsatisfiedAdmissionChecks: check prov is pending"
    );
    assert_eq!(
        queued(&[
            reserved,
            ("Admitted", "True", "Admitted", "The workload is admitted")
        ]),
        "queue team: admitted, the Job is about to be started"
    );
    assert_eq!(
        queued(&[unreserved, ("Evicted", "True", "Preempted", "to make room")]),
        format!(
            "queue team; waiting for 400m more cpu (WaitingForQuota: {quota}) (evicted before: Preempted: to make room)"
        )
    );
}

/// In the words of the source of Kueue 0.19, its feature gates as they come.
#[test]
fn c24_what_an_eviction_left_behind_is_told() {
    let stopped = (
        "Evicted",
        "True",
        "ClusterQueueStopped",
        "The ClusterQueue is stopped",
    );
    let out = ("QuotaReserved", "False", "Pending", "The ClusterQueue is stopped");
    assert_eq!(
        queued(&[out, stopped]),
        "queue team: evicted: ClusterQueueStopped: The ClusterQueue is stopped"
    );
    let late = (
        "Evicted",
        "True",
        "PodsReadyTimeout",
        "Exceeded the PodsReady timeout n/job-x",
    );
    let out = (
        "QuotaReserved",
        "False",
        "Pending",
        "Exceeded the PodsReady timeout n/job-x",
    );
    let state = json!({ "count": 1, "requeueAt": "2027-01-01T00:01:00Z" });
    assert_eq!(
        queued_with(&[out, late], |workload| workload["status"]["requeueState"] =
            state),
        "queue team: evicted: PodsReadyTimeout: Exceeded the PodsReady timeout n/job-x; it may be admitted again from 2027-01-01T00:01:00Z"
    );
    let out = ("QuotaReserved", "False", "Pending", "The workload is deactivated");
    let off = ("Evicted", "True", "Deactivated", "The workload is deactivated");
    assert_eq!(
        queued_with(&[out, off], |workload| workload["spec"]["active"] = json!(false)),
        "queue team: the workload was deactivated: Deactivated: The workload is deactivated; it waits until somebody sets spec.active of Workload job-x to true"
    );
}

#[test]
fn an_admission_check_that_is_not_ready_is_named() {
    let reserved = (
        "QuotaReserved",
        "True",
        "QuotaReserved",
        "Quota reserved in ClusterQueue cq",
    );
    let checks = json!([
        { "name": "licence", "state": "Ready", "message": "" },
        { "name": "prov", "state": "Pending", "message": "waiting for nodes" },
        { "name": "budget", "state": "Retry" },
    ]);
    assert_eq!(
        queued_with(&[reserved], |workload| workload["status"]["admissionChecks"] =
            checks),
        "queue team: quota is reserved; admission check prov is Pending: waiting for nodes; admission check budget is Retry"
    );
}

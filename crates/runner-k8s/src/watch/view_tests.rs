//! The view against recorded objects that come late, twice or not at all.

use std::time::Duration;

use qwex_core::{Ending, Fact, FailureCode};
use serde_json::{Value, json};

use super::*;

fn load(name: &str) -> (JobView, PodView) {
    let path = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    (
        serde_json::from_value(recorded["job"].clone()).unwrap(),
        serde_json::from_value(recorded["pods"][0].clone()).unwrap(),
    )
}

/// A recorded Job with the pod of another recording, as if the pod's last word were on its way.
fn early_verdict() -> (JobView, PodView, PodView) {
    let (job, last) = load("exit_3");
    let (_, mut running) = load("running");
    running.metadata = last.metadata.clone();
    running.metadata.resource_version = "1".to_owned();
    (job, running, last)
}

struct Bed {
    view: View,
    tuning: Tuning,
    start: Instant,
}

impl Bed {
    fn new() -> Self {
        Self {
            view: View::default(),
            tuning: Tuning::default(),
            start: Instant::now(),
        }
    }

    fn tell(&mut self, uid: &str, after: Duration) -> Told {
        let moment = Moment {
            now: self.start + after,
            at: Timestamp::UNIX_EPOCH,
            tuning: &self.tuning,
        };
        self.view.tell(uid, moment)
    }
}

fn ends(told: &Told) -> Vec<Fact> {
    let facts = told.sightings.iter().filter_map(|sighting| match sighting {
        Sighting::Seen(seen) => Some(seen.fact.clone()),
        _ => None,
    });
    facts
        .filter(|fact| matches!(fact, Fact::Ended { .. } | Fact::Gone { .. }))
        .collect()
}

#[test]
fn a_verdict_waits_for_the_pods_last_word() {
    let (job, running, last) = early_verdict();
    let mut bed = Bed::new();
    let uid = job.metadata.uid.clone();
    bed.view.put_pod(running, bed.start);
    bed.view.put_job(job);
    let told = bed.tell(&uid, Duration::ZERO);
    assert_eq!(ends(&told), []);
    assert_eq!(told.lookups, [(uid.clone(), Lookup::Pods)]);
    assert_eq!(bed.tell(&uid, Duration::from_secs(1)).lookups, [], "asked once");

    bed.view.looked_up_pods(&uid, vec![last], bed.start);
    let told = bed.tell(&uid, Duration::from_secs(2));
    assert!(
        matches!(&ends(&told)[..], [Fact::Ended { ending: Ending::Failed { failure }, .. }]
            if failure.code == FailureCode::ExitCode && failure.exit_code == Some(3))
    );
    assert_eq!(ends(&bed.tell(&uid, Duration::from_secs(3))), [], "told once");
}

#[test]
fn a_verdict_does_not_wait_for_ever() {
    let (job, running, _) = early_verdict();
    let mut bed = Bed::new();
    let uid = job.metadata.uid.clone();
    bed.view.put_pod(running, bed.start);
    bed.view.put_job(job);
    let settle = bed.tuning.settle;
    assert_eq!(ends(&bed.tell(&uid, Duration::ZERO)), []);
    assert_eq!(ends(&bed.tell(&uid, settle - Duration::from_secs(1))), []);
    assert_eq!(ends(&bed.tell(&uid, settle)).len(), 1);
}

#[test]
fn evidence_outlives_its_objects() {
    let (mut job, pod) = load("exit_3");
    let conditions = std::mem::take(&mut job.status.conditions);
    let mut bed = Bed::new();
    let uid = job.metadata.uid.clone();
    bed.view.put_job(job.clone());
    bed.view.delete_pod(pod, bed.start);
    assert_eq!(ends(&bed.tell(&uid, Duration::ZERO)), []);
    job.status.conditions = conditions;
    bed.view.put_job(job);
    let told = bed.tell(&uid, Duration::ZERO);
    assert!(
        matches!(&ends(&told)[..], [Fact::Ended { ending: Ending::Failed { failure }, .. }]
        if failure.exit_code == Some(3))
    );
}

#[test]
fn what_a_list_lacks_is_gone_and_then_forgotten() {
    let (job, pod) = load("running");
    let mut bed = Bed::new();
    let uid = job.metadata.uid.clone();
    bed.view.put_job(job);
    bed.view.put_pod(pod, bed.start);
    assert!(ends(&bed.tell(&uid, Duration::ZERO)).is_empty());
    assert_eq!(bed.view.listed().len(), 1);
    let nothing = Lists {
        jobs: Vec::new(),
        pods: Vec::new(),
        workloads: Vec::new(),
    };
    let moment = Moment {
        now: bed.start,
        at: Timestamp::UNIX_EPOCH,
        tuning: &bed.tuning,
    };
    bed.view.replace(nothing, moment);
    assert_eq!(bed.view.listed(), []);
    assert!(matches!(
        &ends(&bed.tell(&uid, Duration::ZERO))[..],
        [Fact::Gone { .. }]
    ));
    assert!(bed.view.address(&uid).is_none(), "nothing of it is kept");
}

#[test]
fn c05_an_older_state_never_takes_the_place_of_a_newer() {
    let (job, running, last) = early_verdict();
    let mut bed = Bed::new();
    let uid = job.metadata.uid.clone();
    bed.view.put_job(job);
    bed.view.put_pod(last, bed.start);
    bed.view.put_pod(running, bed.start);
    let told = bed.tell(&uid, Duration::ZERO);
    assert_eq!(ends(&told).len(), 1, "the pod's end is still known");
}

#[test]
fn a_new_listener_is_told_everything_again() {
    let (job, pod) = load("succeeded");
    let mut bed = Bed::new();
    let uid = job.metadata.uid.clone();
    bed.view.put_job(job);
    bed.view.put_pod(pod, bed.start);
    let first = bed.tell(&uid, Duration::ZERO);
    let logs = |told: &Told| {
        let logs = told
            .sightings
            .iter()
            .filter(|sighting| matches!(sighting, Sighting::LogReady(_)));
        logs.count()
    };
    assert_eq!((ends(&first).len(), logs(&first)), (1, 1));
    bed.view.forget_told();
    let again = bed.tell(&uid, Duration::ZERO);
    assert_eq!(again.sightings, first.sightings);
}

#[test]
fn b_kueues_workloads_of_others_are_not_kept() {
    let mut bed = Bed::new();
    let workload = |owner: &str| -> WorkloadView {
        let owner = json!({ "kind": "Job", "name": owner, "uid": "u" });
        serde_json::from_value(json!({ "metadata": { "ownerReferences": [owner] } })).unwrap()
    };
    assert_eq!(bed.view.put_workload(workload("somebodys-job")), None);
    assert_eq!(bed.view.put_workload(workload("qwex-1-a1")), Some("u".to_owned()));
}

#[test]
fn a_pod_whose_kubelet_says_nothing_is_asked_about_ever_less_often() {
    let (mut job, mut pod) = load("image_back_off");
    job.status.conditions.clear();
    let mut bed = Bed::new();
    let uid = job.metadata.uid.clone();
    let still = Still::Pod(pod.metadata.uid.clone());
    pod.status.container_statuses[0].state.waiting = None;
    bed.view.put_job(job);
    bed.view.put_pod(pod.clone(), bed.start);
    let at = |seconds| Duration::from_secs(seconds);
    let mut asked = Vec::new();
    for second in 0..600 {
        let told = bed.tell(&uid, at(second));
        asked.extend(told.lookups.iter().map(|_| second));
        let wanted = |(_, lookup): &(String, Lookup)| *lookup == Lookup::Trouble(still.clone());
        assert!(told.lookups.iter().all(wanted), "{:?}", told.lookups);
    }
    assert_eq!(asked, [3, 18, 48, 108, 228, 468]);
    let waits = |told: &Told| {
        let mut facts = told.sightings.iter().filter_map(|sighting| match sighting {
            Sighting::Seen(seen) => Some(seen.fact.clone()),
            _ => None,
        });
        facts.find_map(|fact| match fact {
            Fact::Waiting { message, .. } => Some(message),
            _ => None,
        })
    };
    let words = Some("FailedMount: no such thing".to_owned());
    bed.view
        .looked_up_trouble(&uid, &Still::Pod("another".to_owned()), words.clone());
    assert_eq!(waits(&bed.tell(&uid, at(600))), None);
    bed.view.looked_up_trouble(&uid, &still, words.clone());
    assert_eq!(waits(&bed.tell(&uid, at(601))), words);
    // It goes on, and nobody asks any more.
    pod.status.container_statuses[0].state = serde_json::from_value(json!({ "running": {} })).unwrap();
    bed.view.put_pod(pod, bed.start);
    assert_eq!(bed.tell(&uid, at(2_000)).lookups, []);
}

//! One attempt in the view: its Job, pods and Workload, what was told of it, and what the clock
//! still holds back.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{Attempt, Fact, RunId};
use qwex_runner::{Claim, ObjectRef, Sighting};
use tokio::time::Instant;

use super::view::{Moment, Pods, Since, is_newer, waited};
use crate::decode::{JobView, PodView, WorkloadView};
use crate::logs;
use crate::names;
use crate::observe::{Evidence, Observed, Patience, PodEvidence, details, has_run, is_being_made, observe};
use crate::place::Place;
use crate::trouble::Still;
use crate::usage::Target;

/// After so long without a pod, or without a word of a pod's kubelet, events are asked why.
const STILL: Duration = Duration::from_secs(3);
/// And again so often.
const STILL_AGAIN: Duration = Duration::from_secs(15);
/// A large image takes its time, and is the usual reason: of a pod they are asked ever less often, up to every four minutes.
const STILL_DOUBLINGS: u32 = 4;

/// What an entry would like to know and no watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Its pods, by a consistent list: its end waits for them.
    Pods,
    /// Why it stands still.
    Trouble(Still),
}

/// Since when something stands still, and how often that was looked into.
#[derive(Debug)]
struct Waiting {
    still: Still,
    since: Instant,
    asked_at: Since,
    asked: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Entry {
    job: Option<JobView>,
    job_lost: Since,
    pods: Pods,
    workload: Option<WorkloadView>,
    trouble: Option<String>,
    claim_told: bool,
    told: Vec<Fact>,
    logs_told: BTreeSet<String>,
    end_told: bool,
    /// Since when the end waits for the pods, and whether they were looked up meanwhile.
    unsettled: Since,
    looked_up: bool,
    waiting: Option<Waiting>,
    refused: bool,
}

/// A pod with what only an onlooker knows.
#[derive(Debug, Clone)]
pub(crate) struct PodSeen {
    pod: PodView,
    deleted: bool,
    deleted_alive: bool,
    began_at: Option<Timestamp>,
    refused: Since,
    back_offs: u32,
}

impl PodSeen {
    fn new(pod: PodView, now: Instant) -> Self {
        let mut seen = Self {
            pod: PodView::default(),
            deleted: false,
            deleted_alive: false,
            began_at: None,
            refused: None,
            back_offs: 0,
        };
        seen.update(pod, now);
        seen
    }

    fn update(&mut self, pod: PodView, now: Instant) {
        let was = self.waiting_reason().to_owned();
        self.pod = pod;
        let terminated = self
            .pod
            .main()
            .is_some_and(|main| main.state.terminated.is_some());
        let running = self.pod.main().and_then(|main| main.state.running.as_ref());
        self.began_at = self.began_at.or(running.and_then(|running| running.started_at));
        self.deleted_alive |= self.pod.metadata.deletion_timestamp.is_some() && !terminated;
        let is = self.waiting_reason().to_owned();
        if is == "ImagePullBackOff" && was != is {
            self.back_offs += 1;
        }
        let usual = matches!(is.as_str(), "" | "ContainerCreating" | "PodInitializing");
        self.refused = if usual { None } else { self.refused.or(Some(now)) };
    }

    fn waiting_reason(&self) -> &str {
        self.pod.waiting().map_or("", |waiting| waiting.reason.as_str())
    }

    fn is_over(&self) -> bool {
        self.deleted || self.pod.has_ended()
    }
}

impl Entry {
    pub fn put_job(&mut self, job: JobView) {
        if self.job.as_ref().is_none_or(|known| is_newer(known, &job)) {
            self.job = Some(job);
        }
    }

    pub fn lose_job(&mut self, now: Instant) {
        self.job_lost = self.job_lost.or(Some(now));
    }

    pub fn put_pod(&mut self, pod: PodView, now: Instant) {
        match self.pods.get_mut(&pod.metadata.uid) {
            Some(seen) if is_newer(&seen.pod, &pod) => seen.update(pod, now),
            Some(_) => {}
            None => {
                let uid = pod.metadata.uid.clone();
                self.pods.insert(uid, PodSeen::new(pod, now));
            }
        }
    }

    pub fn lose_pod(&mut self, uid: &str) {
        if let Some(seen) = self.pods.get_mut(uid) {
            seen.deleted = true;
        }
    }

    pub fn lose_pods_but(&mut self, there: &BTreeSet<String>) {
        for (uid, seen) in &mut self.pods {
            seen.deleted |= !there.contains(uid);
        }
    }

    pub fn put_workload(&mut self, workload: Option<WorkloadView>) {
        self.workload = workload;
    }

    pub fn workload(&self) -> Option<&WorkloadView> {
        self.workload.as_ref()
    }

    /// Takes its place in the queue from those of all; whether that is news.
    pub fn put_place(&mut self, places: &HashMap<String, Place>) -> bool {
        let Some(workload) = &mut self.workload else {
            return false;
        };
        let place = places.get(&workload.metadata.uid).copied();
        std::mem::replace(&mut workload.place, place) != place
    }

    pub fn looked_up_pods(&mut self, pods: Vec<PodView>, now: Instant) {
        let there = pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
        for pod in pods {
            self.put_pod(pod, now);
        }
        self.lose_pods_but(&there);
        self.looked_up = true;
    }

    /// An answer to a question that was asked of something else is none.
    pub fn looked_up_trouble(&mut self, still: &Still, trouble: Option<String>) {
        if self
            .waiting
            .as_ref()
            .is_none_or(|waiting| waiting.still != *still)
        {
            return;
        }
        self.trouble = match still {
            Still::Job(_) => trouble.or(self.trouble.take()),
            Still::Pod(_) => trouble,
        };
    }

    pub fn forget_told(&mut self) {
        self.claim_told = false;
        self.told.clear();
        self.logs_told.clear();
        self.end_told = false;
    }

    /// Told to the end, and nothing of it is left on the cluster.
    pub fn is_over(&self) -> bool {
        let pods_gone = self.pods.values().all(|seen| seen.deleted);
        match &self.job {
            Some(_) => self.job_lost.is_some() && self.end_told && pods_gone,
            None => pods_gone && self.workload.is_none(),
        }
    }

    /// Whether time alone may bring news.
    pub fn needs_clock(&self) -> bool {
        !self.end_told && (self.unsettled.is_some() || self.waiting.is_some() || self.refused)
    }

    pub fn object_ref(&self) -> Option<ObjectRef> {
        let (run_id, attempt, job) = self.address()?;
        self.job_lost.is_none().then(|| ObjectRef {
            run_id,
            attempt,
            uid: job.metadata.object_uid(),
        })
    }

    pub fn address(&self) -> Option<(RunId, Attempt, &JobView)> {
        let job = self.job.as_ref()?;
        let (run_id, attempt) = job.metadata.attempt()?;
        Some((run_id, attempt, job))
    }

    /// Its pods whose command runs now.
    pub fn running(&self) -> impl Iterator<Item = Target> {
        let address = self.address().filter(|_| !self.end_told);
        let runs = |seen: &&PodSeen| {
            let main = seen.pod.main();
            !seen.deleted && main.is_some_and(|main| main.state.running.is_some())
        };
        address.into_iter().flat_map(move |(run_id, attempt, _)| {
            self.pods.values().filter(runs).map(move |seen| Target {
                key: (run_id, attempt),
                namespace: seen.pod.metadata.namespace.clone(),
                pod: seen.pod.metadata.name.clone(),
                uid: seen.pod.metadata.uid.clone(),
                node: seen.pod.spec.node_name.clone(),
            })
        })
    }

    /// Adds what is new; returns what it would like to know.
    pub fn tell(&mut self, moment: Moment<'_>, sightings: &mut Vec<Sighting>) -> Option<Lookup> {
        self.tell_claim(sightings);
        let pods = self.evidence(moment.now);
        let (run_id, attempt, job) = self.address()?;
        let uid = job.metadata.object_uid();
        let Observed { facts, end } = observe(&Evidence {
            run_id,
            attempt,
            job,
            job_deleted: self.job_lost.is_some(),
            pods: &pods,
            workload: self.workload.as_ref(),
            trouble: self.trouble.as_deref(),
            now: moment.at,
            patience: Patience::from(moment.tuning),
        });
        self.refused = self
            .pods
            .values()
            .any(|seen| !seen.is_over() && seen.refused.is_some());
        self.tell_facts(facts, sightings);
        self.tell_logs(run_id, attempt, sightings);
        if self.end_told {
            return None;
        }
        let Some(end) = end else {
            self.unsettled = None;
            return self.why_still(moment.now);
        };
        let since = *self.unsettled.get_or_insert(moment.now);
        let nothing_more = self.looked_up && self.pods.values().all(PodSeen::is_over);
        let waited_enough = waited(Some(since), moment.now) >= moment.tuning.settle;
        if end.settled || nothing_more || waited_enough {
            self.end_told = true;
            sightings.push(Sighting::Seen(end.observation));
            let object = ObjectRef { run_id, attempt, uid };
            let details = details(self.pods.values().map(|seen| &seen.pod));
            sightings.push(Sighting::Detailed(object, details));
            return None;
        }
        (since == moment.now && !self.looked_up).then_some(Lookup::Pods)
    }

    fn evidence(&self, now: Instant) -> Vec<PodEvidence> {
        self.pods
            .values()
            .map(|seen| PodEvidence {
                pod: seen.pod.clone(),
                deleted: seen.deleted,
                deleted_alive: seen.deleted_alive,
                began_at: seen.began_at,
                refused_for: waited(seen.refused, now),
                back_offs: seen.back_offs,
            })
            .collect()
    }

    fn tell_claim(&mut self, sightings: &mut Vec<Sighting>) {
        let Some((run_id, attempt, job)) = self.address().filter(|_| !self.claim_told) else {
            return;
        };
        let claim = Claim {
            object: ObjectRef {
                run_id,
                attempt,
                uid: job.metadata.object_uid(),
            },
            name: job.metadata.name.clone(),
            spec_hash: job.metadata.annotations.get(names::SPEC_HASH).cloned(),
        };
        sightings.push(Sighting::Claimed(claim));
        self.claim_told = true;
    }

    /// Facts are told when they were not among the last; their time plays no part in that. After the
    /// end only episodes still matter.
    fn tell_facts(&mut self, facts: Vec<qwex_core::Observation>, sightings: &mut Vec<Sighting>) {
        let mut current = Vec::with_capacity(facts.len());
        for seen in facts {
            let is_episode = matches!(seen.fact, Fact::EpisodeStarted { .. } | Fact::EpisodeEnded { .. });
            current.push(seen.fact.clone());
            if (is_episode || !self.end_told) && !self.told.contains(&seen.fact) {
                sightings.push(Sighting::Seen(seen));
            }
        }
        self.told = current;
    }

    fn tell_logs(&mut self, run_id: RunId, attempt: Attempt, sightings: &mut Vec<Sighting>) {
        // Also of a pod that is gone: reading it says that bytes are missing, silence would not.
        for seen in self.pods.values().filter(|seen| has_run(&seen.pod)) {
            for source in logs::sources(run_id, attempt, &seen.pod) {
                if self.logs_told.insert(source.locator.clone()) {
                    sightings.push(Sighting::LogReady(source));
                }
            }
        }
    }

    /// What stands still for a while without a word: only events tell why.
    fn why_still(&mut self, now: Instant) -> Option<Lookup> {
        let Some(still) = self.still() else {
            self.waiting = None;
            self.trouble = None;
            return None;
        };
        if self.waiting.as_ref().is_none_or(|waiting| waiting.still != still) {
            self.trouble = None;
            self.waiting = Some(Waiting {
                still,
                since: now,
                asked_at: None,
                asked: 0,
            });
        }
        let waiting = self.waiting.as_mut()?;
        let pause = match waiting.still {
            Still::Job(_) => STILL_AGAIN,
            Still::Pod(_) => STILL_AGAIN * 2_u32.pow(waiting.asked.saturating_sub(1).min(STILL_DOUBLINGS)),
        };
        let asked_lately = waiting
            .asked_at
            .is_some_and(|asked| waited(Some(asked), now) < pause);
        if waited(Some(waiting.since), now) < STILL || asked_lately {
            return None;
        }
        waiting.asked_at = Some(now);
        waiting.asked += 1;
        Some(Lookup::Trouble(waiting.still.clone()))
    }

    fn still(&self) -> Option<Still> {
        let job = self.job.as_ref()?;
        if job.is_suspended() || self.job_lost.is_some() {
            return None;
        }
        if self.pods.is_empty() {
            return Some(Still::Job(job.metadata.uid.clone()));
        }
        let there = self.pods.values().filter(|seen| !seen.is_over());
        let mut silent = there.filter(|seen| is_being_made(&seen.pod));
        silent
            .next()
            .map(|seen| Still::Pod(seen.pod.metadata.uid.clone()))
    }
}

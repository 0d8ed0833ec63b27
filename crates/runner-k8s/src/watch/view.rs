//! What the watch knows of every attempt, and what of it was told already.
//!
//! Evidence outlives objects: a pod or Job that is gone stays here, marked, until its attempt is
//! told to the end. Pure but for the clocks handed in; owned by one `session` at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::{Attempt, RunId};
use qwex_runner::{ObjectRef, Sighting};
use tokio::time::Instant;

use super::entry::{Entry, Lookup};
use crate::config::Tuning;
use crate::decode::{JobView, Object, PodView, WorkloadView};
use crate::place::Lines;
use crate::trouble::Still;
use crate::usage::{Key, Target, Usages};

/// How often places in queues are told anew at most.
const PLACES_AGAIN: Duration = Duration::from_secs(3);

/// UID of a Job.
pub(crate) type JobUid = String;

#[derive(Debug, Default)]
pub(crate) struct View {
    entries: HashMap<JobUid, Entry>,
    /// Entries that a clock may move, not only an event.
    attention: BTreeSet<JobUid>,
    /// Who waits in which queue, also those that are not ours, and when that was last told.
    lines: Lines,
    placed_at: Since,
}

/// The clocks and limits of one evaluation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub now: Instant,
    pub at: Timestamp,
    pub tuning: &'a Tuning,
}

/// A full set of lists.
pub(crate) struct Lists {
    pub jobs: Vec<JobView>,
    pub pods: Vec<PodView>,
    pub workloads: Vec<WorkloadView>,
}

/// What an evaluation says and what it would like to look up.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub sightings: Vec<Sighting>,
    pub lookups: Vec<(JobUid, Lookup)>,
}

impl View {
    /// Takes in complete lists: what is not in them is gone.
    pub fn replace(&mut self, lists: Lists, moment: Moment<'_>) {
        let jobs: BTreeSet<JobUid> = lists.jobs.iter().map(|job| job.metadata.uid.clone()).collect();
        let pods: BTreeSet<String> = lists.pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
        for (uid, entry) in &mut self.entries {
            if !jobs.contains(uid) {
                entry.lose_job(moment.now);
            }
            entry.lose_pods_but(&pods);
            entry.put_workload(None);
        }
        self.lines.clear();
        for job in lists.jobs {
            self.put_job(job);
        }
        for pod in lists.pods {
            self.put_pod(pod, moment.now);
        }
        for workload in lists.workloads {
            self.put_workload(workload);
        }
    }

    /// Everything is to be told again, to a new listener.
    pub fn forget_told(&mut self) {
        for entry in self.entries.values_mut() {
            entry.forget_told();
        }
    }

    pub fn put_job(&mut self, job: JobView) -> Option<JobUid> {
        let uid = job.metadata.uid.clone();
        self.entry(&uid)?.put_job(job);
        Some(uid)
    }

    pub fn delete_job(&mut self, job: JobView, now: Instant) -> Option<JobUid> {
        let uid = self.put_job(job)?;
        self.entry(&uid)?.lose_job(now);
        Some(uid)
    }

    pub fn put_pod(&mut self, pod: PodView, now: Instant) -> Option<JobUid> {
        let uid = pod.metadata.owner_job()?.to_owned();
        self.entry(&uid)?.put_pod(pod, now);
        Some(uid)
    }

    pub fn delete_pod(&mut self, pod: PodView, now: Instant) -> Option<JobUid> {
        let pod_uid = pod.metadata.uid.clone();
        let uid = self.put_pod(pod, now)?;
        self.entry(&uid)?.lose_pod(&pod_uid);
        Some(uid)
    }

    pub fn put_workload(&mut self, mut workload: WorkloadView) -> Option<JobUid> {
        self.lines.put(&workload);
        // Kueue makes Workloads for everybody's Jobs; those of ours bear our names.
        let ours = workload
            .metadata
            .owner_references
            .iter()
            .find(|owner| owner.kind == "Job" && owner.name.starts_with("qwex-"))?;
        let uid = ours.uid.clone();
        let entry = self.entry(&uid)?;
        // Until places are told anew, which is soon.
        workload.place = entry.workload().and_then(|known| known.place);
        entry.put_workload(Some(workload));
        Some(uid)
    }

    pub fn delete_workload(&mut self, workload: &WorkloadView) -> Option<JobUid> {
        self.lines.remove(&workload.metadata.uid);
        let uid = workload.metadata.owner_job()?.to_owned();
        self.entries.get_mut(&uid)?.put_workload(None);
        Some(uid)
    }

    /// A direct and consistent list of the pods of one Job.
    pub fn looked_up_pods(&mut self, uid: &str, pods: Vec<PodView>, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.looked_up_pods(pods, now);
        }
    }

    pub fn looked_up_trouble(&mut self, uid: &str, still: &Still, trouble: Option<String>) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.looked_up_trouble(still, trouble);
        }
    }

    /// Tells what is new about one attempt.
    pub fn tell(&mut self, uid: &str, moment: Moment<'_>) -> Told {
        let mut told = Told::default();
        let Some(entry) = self.entries.get_mut(uid) else {
            self.attention.remove(uid);
            return told;
        };
        if let Some(lookup) = entry.tell(moment, &mut told.sightings) {
            told.lookups.push((uid.to_owned(), lookup));
        }
        if entry.is_over() {
            self.entries.remove(uid);
            self.attention.remove(uid);
        } else if entry.needs_clock() {
            self.attention.insert(uid.to_owned());
        } else {
            self.attention.remove(uid);
        }
        told
    }

    /// Tells what is new about every attempt.
    pub fn tell_all(&mut self, moment: Moment<'_>) -> Told {
        let all: Vec<JobUid> = self.entries.keys().cloned().collect();
        self.tell_many(all, moment)
    }

    /// Tells what the clock alone has made new.
    pub fn tick(&mut self, moment: Moment<'_>) -> Told {
        let mut due = self.attention.clone();
        due.extend(self.place_all(moment.now));
        self.tell_many(due.into_iter().collect(), moment)
    }

    /// Brings the places in the queues up to date, now and then: each change moves everybody behind.
    fn place_all(&mut self, now: Instant) -> Vec<JobUid> {
        if self.placed_at.is_some() && waited(self.placed_at, now) < PLACES_AGAIN {
            return Vec::new();
        }
        let Some(places) = self.lines.places() else {
            return Vec::new();
        };
        self.placed_at = Some(now);
        let moved = self
            .entries
            .iter_mut()
            .filter_map(|(uid, entry)| entry.put_place(&places).then(|| uid.clone()));
        moved.collect()
    }

    fn tell_many(&mut self, uids: Vec<JobUid>, moment: Moment<'_>) -> Told {
        let mut all = Told::default();
        for uid in uids {
            let told = self.tell(&uid, moment);
            all.sightings.extend(told.sightings);
            all.lookups.extend(told.lookups);
        }
        all
    }

    /// The Jobs that are there.
    pub fn listed(&self) -> Vec<ObjectRef> {
        let mut all: Vec<ObjectRef> = self.entries.values().filter_map(Entry::object_ref).collect();
        all.sort_by(|a, b| (a.run_id, a.attempt, &a.uid).cmp(&(b.run_id, b.attempt, &b.uid)));
        all
    }

    /// Every attempt of which something is or was there.
    pub fn attempts(&self) -> HashSet<Key> {
        let addresses = self.entries.values().filter_map(Entry::address);
        addresses.map(|(run_id, attempt, _)| (run_id, attempt)).collect()
    }

    /// Every pod whose command runs now and whose usage is wanted.
    pub fn running(&self, usages: &Usages) -> Vec<Target> {
        let all = self.entries.values().flat_map(Entry::running);
        all.filter(|target| usages.wants(target.key)).collect()
    }

    /// Where to look for more of one attempt.
    pub fn address(&self, uid: &str) -> Option<(RunId, Attempt, &JobView)> {
        self.entries.get(uid)?.address()
    }

    fn entry(&mut self, uid: &str) -> Option<&mut Entry> {
        if uid.is_empty() {
            return None;
        }
        Some(self.entries.entry(uid.to_owned()).or_default())
    }
}

/// Whether `newer` may take the place of `known`: a direct read may have overtaken the watch.
pub(super) fn is_newer<T: Object>(known: &T, newer: &T) -> bool {
    let revision = |object: &T| object.meta().resource_version.parse::<u64>().ok();
    match (revision(known), revision(newer)) {
        (Some(known), Some(newer)) => newer >= known,
        (Some(_) | None, _) => true,
    }
}

/// For maps of what was first seen when.
pub(super) type Since = Option<Instant>;

pub(super) fn waited(since: Since, now: Instant) -> Duration {
    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}

/// Pods of one Job by UID.
pub(super) type Pods = BTreeMap<String, super::entry::PodSeen>;

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;

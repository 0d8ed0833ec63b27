//! Where a run stands in its queue.
//!
//! The order is Kueue's: higher priority first, then the older, then the lower UID. Used by the watch (which sees every
//! Workload of its namespaces) and by `K8sBackend::observe`. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::decode::WorkloadView;

/// Up to here places are exact. Behind that they are rounded: whoever waits behind hundreds need not be told of each one
/// that goes, and a history of every such step would be most of what is stored.
const EXACT: usize = 20;

/// The place of one Workload among those that wait in its LocalQueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// 1 is next.
    pub position: usize,
    pub of: usize,
}

impl Place {
    /// `position 3 of 11`; far back `position ~140 of ~1200`.
    #[must_use]
    pub fn words(self) -> String {
        format!("position {} of {}", rounded(self.position), rounded(self.of))
    }
}

fn rounded(number: usize) -> String {
    if number <= EXACT {
        return number.to_string();
    }
    let mut step = 1;
    while number / step >= 100 {
        step *= 10;
    }
    if step == 1 {
        step = 10;
    }
    format!("~{}", number.div_ceil(step) * step)
}

/// What orders Workloads in a queue.
type Rank = (Reverse<i64>, Option<Timestamp>, String);
/// Namespace and LocalQueue.
type Line = (String, String);

/// Everybody who waits, by UID of the Workload.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    waiting: HashMap<String, (Line, Rank)>,
    changed: bool,
}

impl Lines {
    pub fn put(&mut self, workload: &WorkloadView) {
        let uid = &workload.metadata.uid;
        if !waits(workload) {
            self.changed |= self.waiting.remove(uid).is_some();
            return;
        }
        let entry = (line_of(workload), rank_of(workload));
        if self.waiting.get(uid) != Some(&entry) {
            self.waiting.insert(uid.clone(), entry);
            self.changed = true;
        }
    }

    pub fn remove(&mut self, uid: &str) {
        self.changed |= self.waiting.remove(uid).is_some();
    }

    pub fn clear(&mut self) {
        self.changed = true;
        self.waiting.clear();
    }

    /// Every place, if any may have changed since the last call.
    pub fn places(&mut self) -> Option<HashMap<String, Place>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        Some(self.all())
    }

    fn all(&self) -> HashMap<String, Place> {
        let mut lines: BTreeMap<&Line, Vec<(&Rank, &String)>> = BTreeMap::new();
        for (uid, (line, rank)) in &self.waiting {
            lines.entry(line).or_default().push((rank, uid));
        }
        let mut places = HashMap::with_capacity(self.waiting.len());
        for line in lines.values_mut() {
            line.sort_unstable();
            let of = line.len();
            let numbered = line.iter().enumerate();
            places.extend(numbered.map(|(index, (_, uid))| {
                (
                    (*uid).clone(),
                    Place {
                        position: index + 1,
                        of,
                    },
                )
            }));
        }
        places
    }
}

/// The place of one Workload among those of its namespace.
pub(crate) fn place_among<'a>(all: impl Iterator<Item = &'a WorkloadView>, uid: &str) -> Option<Place> {
    let mut lines = Lines::default();
    all.for_each(|workload| lines.put(workload));
    lines.all().get(uid).copied()
}

fn waits(workload: &WorkloadView) -> bool {
    let is = |kind| {
        workload
            .condition(kind)
            .is_some_and(crate::decode::Condition::is_true)
    };
    workload.spec.active != Some(false) && !is("QuotaReserved") && !is("Finished")
}

fn line_of(workload: &WorkloadView) -> Line {
    (
        workload.metadata.namespace.clone(),
        workload.spec.queue_name.clone(),
    )
}

fn rank_of(workload: &WorkloadView) -> Rank {
    let meta = &workload.metadata;
    (
        Reverse(workload.spec.priority.unwrap_or(0)),
        sent_back_at(workload).or(meta.creation_timestamp),
        meta.uid.clone(),
    )
}

/// One whose pods did not come up in time, or that an admission check turned down, goes to the end of the queue; one
/// that was preempted keeps its place.
fn sent_back_at(workload: &WorkloadView) -> Option<Timestamp> {
    let evicted = workload.condition("Evicted").filter(|seen| seen.is_true())?;
    ["PodsReadyTimeout", "AdmissionCheck"]
        .contains(&evicted.reason.as_str())
        .then_some(evicted.last_transition_time)
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, priority: i64, created: i64, reserved: &str) -> WorkloadView {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": name,
                "creationTimestamp": Timestamp::from_second(created).unwrap().to_string(),
            },
            "spec": { "queueName": "team", "priority": priority },
            "status": { "conditions": [{ "type": "QuotaReserved", "status": reserved }] },
        }))
        .unwrap()
    }

    #[test]
    fn priority_comes_before_age_and_the_admitted_do_not_wait() {
        let all = [
            workload("old", 0, 1, "False"),
            workload("young", 0, 2, "False"),
            workload("urgent", 5, 3, "False"),
            workload("running", 9, 0, "True"),
        ];
        let place = |uid| place_among(all.iter(), uid).map(Place::words);
        assert_eq!(place("urgent").as_deref(), Some("position 1 of 3"));
        assert_eq!(place("old").as_deref(), Some("position 2 of 3"));
        assert_eq!(place("young").as_deref(), Some("position 3 of 3"));
        assert_eq!(place("running"), None);
    }

    #[test]
    fn equals_go_by_uid_and_who_was_sent_back_goes_last() {
        let [first, second, mut back, mut preempted] =
            ["b", "c", "a", "d"].map(|name| workload(name, 0, 1, "False"));
        // Made in the same second, named the other way round than their UIDs.
        (preempted.metadata.name, back.metadata.name) = ("a".to_owned(), "d".to_owned());
        let evicted = |reason: &str| {
            let at = Timestamp::from_second(9).unwrap().to_string();
            serde_json::from_value(serde_json::json!({
                "type": "Evicted", "status": "True", "reason": reason, "lastTransitionTime": at,
            }))
            .unwrap()
        };
        back.status.conditions.push(evicted("PodsReadyTimeout"));
        preempted.status.conditions.push(evicted("Preempted"));
        let all = [first, second, back, preempted];
        let order = ["b", "c", "d", "a"].map(|uid| place_among(all.iter(), uid).unwrap().position);
        assert_eq!(order, [1, 2, 3, 4]);
    }

    #[test]
    fn places_are_told_when_something_moved() {
        let mut lines = Lines::default();
        lines.put(&workload("a", 0, 1, "False"));
        lines.put(&workload("b", 0, 2, "False"));
        assert_eq!(lines.places().unwrap()["b"], Place { position: 2, of: 2 });
        lines.put(&workload("b", 0, 2, "False"));
        assert_eq!(lines.places(), None);
        lines.put(&workload("a", 0, 1, "True"));
        assert_eq!(lines.places().unwrap()["b"], Place { position: 1, of: 1 });
    }

    #[test]
    fn far_back_is_told_roughly() {
        let words = |position| {
            Place {
                position,
                of: position,
            }
            .words()
        };
        assert_eq!(words(20), "position 20 of 20");
        assert_eq!(words(21), "position ~30 of ~30");
        assert_eq!(words(131), "position ~140 of ~140");
        assert_eq!(words(98_765), "position ~99000 of ~99000");
    }
}

//! What the commands of runs use. A cluster tells it only of what runs, and only for the moment: so it is looked at now and
//! then while a watch lasts, the greatest of what was seen counts, and nothing is told of a command that ended before the
//! first look. The watch drives it; whoever tells the details of an attempt reads it. Nothing here is worth an error: what
//! cannot be measured is not told.
//!
//! `metrics.k8s.io` comes first: one question for a whole namespace, and a right that is given freely. Where it is not
//! served, or not to us, the kubelets are asked through the API server, if we may.

mod kubelet;
mod meter;
mod metrics;
mod span;

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use qwex_core::{Attempt, RunId, Usage};

use crate::config::Measured;

pub(crate) use meter::{Looked, Meter, look};

/// A pod whose command runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub key: Key,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub node: Option<String>,
}

/// An attempt.
pub(crate) type Key = (RunId, Attempt);

/// What one look says of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sample {
    /// All processor time since its start.
    Counted { cpu_nanos: u64, memory_bytes: u64 },
    /// Processor time within a span of time.
    Within {
        cpu_nanos: u64,
        since: Timestamp,
        until: Timestamp,
        memory_bytes: u64,
    },
}

/// What is known of one pod's command.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    counted_nanos: u64,
    /// The sum of what was used within all spans seen, which do not cover the whole time.
    within_nanos: u64,
    until: Option<Timestamp>,
    memory_bytes: u64,
}

impl Known {
    fn take(&mut self, sample: Sample) {
        let (Sample::Counted { memory_bytes, .. } | Sample::Within { memory_bytes, .. }) = sample;
        self.memory_bytes = self.memory_bytes.max(memory_bytes);
        match sample {
            Sample::Counted { cpu_nanos, .. } => self.counted_nanos = self.counted_nanos.max(cpu_nanos),
            Sample::Within {
                cpu_nanos,
                since,
                until,
                ..
            } => {
                self.within_nanos += self.new_part(cpu_nanos, since, until);
                self.until = self.until.max(Some(until));
            }
        }
    }

    /// Of a span that was partly told before only the rest counts.
    fn new_part(&self, cpu_nanos: u64, since: Timestamp, until: Timestamp) -> u64 {
        let from = self.until.map_or(since, |told| told.max(since));
        let whole = until.duration_since(since);
        let part = until.duration_since(from);
        if part <= SignedDuration::ZERO || whole <= SignedDuration::ZERO {
            return 0;
        }
        let share = part.as_nanos() as f64 / whole.as_nanos() as f64;
        (cpu_nanos as f64 * share) as u64
    }

    /// Two ways to ask may have been used: each is a lower bound.
    fn cpu_nanos(&self) -> u64 {
        self.counted_nanos.max(self.within_nanos)
    }
}

/// What was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    measured: Measured,
    asked: HashSet<Key>,
    known: HashMap<Key, HashMap<String, Known>>,
}

impl Usages {
    pub fn new(measured: Measured) -> Self {
        Self {
            measured,
            ..Self::default()
        }
    }

    pub fn want(&mut self, key: Key) {
        match self.measured {
            Measured::Asked => drop(self.asked.insert(key)),
            Measured::All => {}
        }
    }

    pub fn wants(&self, key: Key) -> bool {
        match self.measured {
            Measured::Asked => self.asked.contains(&key),
            Measured::All => true,
        }
    }

    /// Of all that are not there any more nobody will ask.
    pub fn keep_only(&mut self, there: &HashSet<Key>) {
        match self.measured {
            Measured::Asked => {}
            Measured::All => self.known.retain(|key, _| there.contains(key)),
        }
    }

    pub fn note(&mut self, target: &Target, sample: Sample) {
        if self.wants(target.key) {
            let pods = self.known.entry(target.key).or_default();
            pods.entry(target.uid.clone()).or_default().take(sample);
        }
    }

    /// Of all pods of the attempt, as far as they were measured.
    pub fn of(&self, key: Key) -> Option<Usage> {
        let pods = self.known.get(&key)?;
        let nanos: u64 = pods.values().map(Known::cpu_nanos).sum();
        Some(Usage {
            cpu_ms: Some(nanos.div_ceil(1_000_000)),
            max_memory_bytes: pods.values().map(|pod| pod.memory_bytes).max(),
            sampled: true,
        })
    }

    pub fn forget(&mut self, key: Key) {
        self.asked.remove(&key);
        self.known.remove(&key);
    }
}

/// A target of tests.
#[cfg(test)]
fn target(uid: &str) -> Target {
    Target {
        key: (RunId::mint(), Attempt::FIRST),
        namespace: "n".to_owned(),
        pod: format!("pod-{uid}"),
        uid: uid.to_owned(),
        node: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(cpu_ms: u64, memory_bytes: u64) -> Sample {
        Sample::Counted {
            cpu_nanos: cpu_ms * 1_000_000,
            memory_bytes,
        }
    }

    fn within(cpu_ms: u64, since: i64, until: i64) -> Sample {
        let at = |second| Timestamp::from_second(1_800_000_000 + second).unwrap();
        Sample::Within {
            cpu_nanos: cpu_ms * 1_000_000,
            since: at(since),
            until: at(until),
            memory_bytes: 1,
        }
    }

    fn told(target: &Target, samples: &[Sample]) -> Option<(u64, u64)> {
        let mut usages = Usages::default();
        usages.want(target.key);
        for sample in samples {
            usages.note(target, *sample);
        }
        let usage = usages.of(target.key)?;
        assert!(usage.sampled);
        usage.cpu_ms.zip(usage.max_memory_bytes)
    }

    #[test]
    fn the_last_counter_and_the_most_memory_are_told() {
        let target = target("a");
        assert_eq!(told(&target, &[]), None);
        let samples = [counted(10, 5), counted(30, 9), counted(20, 7)];
        assert_eq!(told(&target, &samples), Some((30, 9)));
    }

    #[test]
    fn spans_are_added_and_none_counts_twice() {
        let target = target("a");
        let spans = [
            within(100, 0, 10),
            within(100, 0, 10),
            within(50, 10, 20),
            // Half of it was told.
            within(80, 15, 25),
            // Older than what was told, and one that is none.
            within(500, 0, 5),
            within(500, 30, 30),
        ];
        assert_eq!(told(&target, &spans), Some((190, 1)));
        let both = [within(100, 0, 10), counted(90, 4)];
        assert_eq!(told(&target, &both), Some((100, 4)));
    }

    #[test]
    fn pods_of_one_attempt_are_one_usage_and_strangers_are_not_kept() {
        let first = target("a");
        let second = Target {
            uid: "b".to_owned(),
            ..first.clone()
        };
        let mut usages = Usages::default();
        usages.note(&first, counted(1, 1));
        assert_eq!(usages.of(first.key), None, "nobody asked");
        usages.want(first.key);
        usages.note(&first, counted(10, 5));
        usages.note(&second, counted(20, 3));
        let usage = usages.of(first.key).unwrap();
        assert_eq!((usage.cpu_ms, usage.max_memory_bytes), (Some(30), Some(5)));
        usages.forget(first.key);
        assert_eq!(usages.of(first.key), None);
        let mut all = Usages::new(Measured::All);
        all.note(&first, counted(1, 1));
        all.keep_only(&HashSet::from([first.key]));
        assert!(all.of(first.key).is_some(), "nobody has to ask");
        all.keep_only(&HashSet::new());
        assert_eq!(all.of(first.key), None);
    }
}

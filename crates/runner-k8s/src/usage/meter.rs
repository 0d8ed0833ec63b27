//! When to look, and where. Each place is asked no more often than every ten seconds or so, however many runs are there,
//! and each watch at its own moments; a place that does not answer, or not us, is left alone for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use super::{Sample, Target, kubelet, metrics};
use crate::rest::{CallError, Rest};

/// Until the first look at what was just found running: before, there is little to see.
const FIRST: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(5));
/// Between two looks at one place.
const AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(15));
/// How long who did not answer is left alone.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_secs(240), Duration::from_secs(300));
/// Questions on their way at a time.
const AT_ONCE: usize = 8;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Metrics,
    Node(String),
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    place: Place,
    targets: Vec<Target>,
}

/// What came of it.
pub(crate) struct Looked {
    place: Place,
    found: Result<Vec<(Target, Sample)>, CallError>,
}

/// The timetable of one watch.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When a place may be asked next.
    next: BTreeMap<Place, Instant>,
    /// Until when these are not asked at all.
    no_metrics: Option<Instant>,
    no_kubelets: Option<Instant>,
    asked: usize,
    /// When to look at what runs.
    checked: Option<Instant>,
}

impl Meter {
    /// Whether it is worth to find out what runs.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.checked.is_none_or(|at| now >= at + Duration::from_secs(1));
        if due {
            self.checked = Some(now);
        }
        due && self.asked < AT_ONCE
    }

    /// The questions to ask now about what runs.
    pub fn looks(&mut self, running: Vec<Target>, now: Instant) -> Vec<Look> {
        let mut looks = Vec::new();
        for (place, targets) in self.places(running, now) {
            let due = *self
                .next
                .entry(place.clone())
                .or_insert_with(|| now + within(FIRST));
            if now >= due && self.asked < AT_ONCE {
                self.asked += 1;
                self.next.insert(place.clone(), now + within(AGAIN));
                looks.push(Look { place, targets });
            }
        }
        looks
    }

    fn places(&mut self, running: Vec<Target>, now: Instant) -> BTreeMap<Place, Vec<Target>> {
        let mut places: BTreeMap<Place, Vec<Target>> = BTreeMap::new();
        let is_off = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if !is_off(self.no_metrics) {
            if !running.is_empty() {
                places.insert(Place::Metrics, running);
            }
        } else if !is_off(self.no_kubelets) {
            for target in running {
                if let Some(node) = target.node.clone() {
                    places.entry(Place::Node(node)).or_default().push(target);
                }
            }
        }
        // A place where nothing runs any more begins anew with the next run there.
        self.next
            .retain(|place, due| places.contains_key(place) || *due > now);
        places
    }

    /// Takes in an answer and gives what was measured.
    pub fn take(&mut self, looked: Looked, now: Instant) -> Vec<(Target, Sample)> {
        self.asked = self.asked.saturating_sub(1);
        let error = match looked.found {
            Ok(found) => return found,
            Err(error) => error,
        };
        tracing::debug!(place = ?looked.place, %error, "what runs use cannot be measured there");
        let until = now + within(LEFT_ALONE);
        let is_forbidden = error
            .refusal()
            .is_some_and(|refusal| matches!(refusal.code, 401 | 403));
        match looked.place {
            Place::Metrics => self.no_metrics = Some(until),
            // What one kubelet does not tell us, none will.
            Place::Node(_) if is_forbidden => self.no_kubelets = Some(until),
            place @ Place::Node(_) => {
                self.next.insert(place, until);
            }
        }
        Vec::new()
    }
}

fn within((shortest, longest): (Duration, Duration)) -> Duration {
    rand::rng().random_range(shortest..=longest)
}

/// Asks a question. Never fails but into its answer.
pub(crate) async fn look(rest: &Rest, namespace: Option<&str>, look: Look) -> Looked {
    let found = match &look.place {
        Place::Metrics => metrics::ask(rest, namespace, &look.targets).await,
        Place::Node(node) => kubelet::ask(rest, node, &look.targets).await,
    };
    Looked {
        place: look.place,
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::Refusal;

    fn target(node: &str) -> Target {
        Target {
            node: Some(node.to_owned()),
            ..super::super::target("u")
        }
    }

    fn refused(place: Place, code: u16) -> Looked {
        Looked {
            place,
            found: Err(CallError::Refused(Refusal {
                code,
                reason: String::new(),
                of_api: true,
                message: String::new(),
                retry_after: None,
            })),
        }
    }

    fn places(looks: &[Look]) -> Vec<&Place> {
        looks.iter().map(|look| &look.place).collect()
    }

    #[test]
    fn a_place_is_asked_once_for_all_and_not_too_often() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let running = || (0..1000).map(|_| target("one")).collect::<Vec<_>>();
        let mut meter = Meter::default();
        assert_eq!(meter.looks(running(), at(0)), []);
        let mut asked = 0;
        for second in 1..=100 {
            for look in meter.looks(running(), at(second)) {
                assert_eq!(look.targets.len(), 1000);
                asked += 1;
                let found = Ok(Vec::new());
                meter.take(
                    Looked {
                        place: look.place,
                        found,
                    },
                    at(second),
                );
            }
        }
        assert!((6..=10).contains(&asked), "{asked} in 100 s");
        assert_eq!(meter.looks(Vec::new(), at(200)), [], "nothing runs");
    }

    #[test]
    fn without_metrics_kubelets_are_asked_and_without_the_right_nobody() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let running = || vec![target("one"), target("two")];
        let mut meter = Meter::default();
        meter.looks(running(), at(0));
        let looks = meter.looks(running(), at(6));
        assert_eq!(places(&looks), [&Place::Metrics]);
        meter.take(refused(Place::Metrics, 404), at(6));
        meter.looks(running(), at(7));
        let looks = meter.looks(running(), at(13));
        let nodes = ["one", "two"].map(|name| Place::Node(name.to_owned()));
        assert_eq!(places(&looks), [&nodes[0], &nodes[1]]);
        // One is down, which says nothing of the other.
        meter.take(refused(nodes[0].clone(), 502), at(13));
        meter.take(
            Looked {
                place: nodes[1].clone(),
                found: Ok(Vec::new()),
            },
            at(13),
        );
        let looks = meter.looks(running(), at(30));
        assert_eq!(places(&looks), [&nodes[1]]);
        meter.take(refused(nodes[1].clone(), 403), at(30));
        assert_eq!(
            meter.looks(running(), at(100)),
            [],
            "no right is no right on every node"
        );
        meter.looks(running(), at(400));
        let looks = meter.looks(running(), at(406));
        assert_eq!(places(&looks), [&Place::Metrics], "it may be served by now");
    }

    #[test]
    fn a_storm_of_nodes_is_asked_by_and_by() {
        let now = Instant::now();
        let mut meter = Meter {
            no_metrics: Some(now + Duration::from_secs(600)),
            ..Meter::default()
        };
        let running = || (0..100).map(|n| target(&format!("n{n}"))).collect::<Vec<_>>();
        meter.looks(running(), now);
        let later = now + Duration::from_secs(6);
        assert_eq!(meter.looks(running(), later).len(), AT_ONCE);
        assert!(meter.looks(running(), later).is_empty());
        meter.take(refused(Place::Node("n0".to_owned()), 500), later);
        assert_eq!(meter.looks(running(), later).len(), 1);
    }
}

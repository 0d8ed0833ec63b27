//! How many tries may be under way: in all, and for each endpoint. An endpoint begins with one at a time and earns
//! more by answering; those that fail share a lane of their own, so that a hundred dead ones delay no good one.

use std::collections::HashMap;

/// Most tries at once of endpoints that answer.
const HEALTHY: usize = 256;
/// Most tries at once of endpoints that do not.
const FAILING: usize = 64;
/// Most tries at once of one endpoint.
const PER_ENDPOINT: usize = 4;
/// What is known of idle endpoints is forgotten beyond this many.
const REMEMBERED: usize = 4_096;

/// Which endpoints a try belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Healthy,
    Failing,
}

#[derive(Debug, Default)]
struct Endpoint {
    under_way: usize,
    earned: usize,
}

impl Endpoint {
    fn allowed(&self) -> usize {
        1 + self.earned
    }
}

/// Counts tries under way.
#[derive(Debug, Default)]
pub struct Slots {
    healthy: usize,
    failing: usize,
    endpoints: HashMap<String, Endpoint>,
}

impl Slots {
    /// Tries that may begin in a lane.
    pub fn free(&self, lane: Lane) -> usize {
        match lane {
            Lane::Healthy => HEALTHY.saturating_sub(self.healthy),
            Lane::Failing => FAILING.saturating_sub(self.failing),
        }
    }

    /// Tries that may begin for endpoints that are known; for every other it is one.
    pub fn room(&self) -> Vec<(String, i64)> {
        let room = |one: &Endpoint| one.allowed().saturating_sub(one.under_way);
        self.endpoints
            .iter()
            .map(|(id, one)| (id.clone(), i64::try_from(room(one)).unwrap_or(0)))
            .collect()
    }

    pub fn take(&mut self, lane: Lane, endpoint: &str) {
        *self.count(lane) += 1;
        self.endpoints.entry(endpoint.to_owned()).or_default().under_way += 1;
    }

    /// A try ended. What an endpoint earned is lost with one failure.
    pub fn give_back(&mut self, lane: Lane, endpoint: &str, delivered: bool) {
        *self.count(lane) -= 1;
        let crowded = self.endpoints.len() > REMEMBERED;
        let Some(one) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        one.under_way -= 1;
        one.earned = if delivered {
            (one.earned + 1).min(PER_ENDPOINT - 1)
        } else {
            0
        };
        if one.under_way == 0 && (one.earned == 0 || crowded) {
            self.endpoints.remove(endpoint);
        }
    }

    fn count(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Healthy => &mut self.healthy,
            Lane::Failing => &mut self.failing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(slots: &Slots, endpoint: &str) -> i64 {
        let known = slots.room();
        known
            .iter()
            .find(|(id, _)| id == endpoint)
            .map_or(1, |(_, room)| *room)
    }

    #[test]
    fn e11_an_endpoint_earns_its_tries_and_loses_them_at_once() {
        let mut slots = Slots::default();
        assert_eq!(room(&slots, "good"), 1);
        for expected in [2, 3, 4, 4] {
            slots.take(Lane::Healthy, "good");
            slots.give_back(Lane::Healthy, "good", true);
            assert_eq!(room(&slots, "good"), expected);
        }
        for _ in 0..4 {
            slots.take(Lane::Healthy, "good");
        }
        assert_eq!(room(&slots, "good"), 0);
        slots.give_back(Lane::Healthy, "good", false);
        assert_eq!(
            room(&slots, "good"),
            0,
            "three are still under way and one is allowed"
        );
        for _ in 0..3 {
            slots.give_back(Lane::Healthy, "good", false);
        }
        assert_eq!(room(&slots, "good"), 1);
        assert!(slots.endpoints.is_empty(), "nothing is kept of what is as new");
    }

    #[test]
    fn e11_the_failing_do_not_take_the_slots_of_the_healthy() {
        let mut slots = Slots::default();
        for number in 0..FAILING {
            slots.take(Lane::Failing, &format!("dead-{number}"));
        }
        assert_eq!(slots.free(Lane::Failing), 0);
        assert_eq!(slots.free(Lane::Healthy), HEALTHY);
    }
}

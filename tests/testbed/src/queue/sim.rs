//! The planner against an API server played in memory: random histories of Jobs that come, end and go and of queues
//! that stop and start. After each step the plan settles, no quota is given out twice, and nobody waits who would fit.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::api::{LocalQueue, Workload};
use super::jobs;
use super::plan::{Write, plan};
use super::quota::{self, Usage};
use super::world::{Key, Seen, World};

const QUOTA: i128 = 1000;

/// A small generator; its seed is in every failure.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

struct Sim {
    world: World,
    version: u64,
    born: i64,
}

impl Sim {
    fn new() -> Self {
        let mut this = Self {
            world: World::default(),
            version: 1,
            born: 0,
        };
        let flavor = json!({ "metadata": { "name": "default", "resourceVersion": "1" } });
        let quotas = json!([{ "name": "cpu", "nominalQuota": "1" }]);
        let group =
            json!({ "coveredResources": ["cpu"], "flavors": [{ "name": "default", "resources": quotas }] });
        let cluster = json!({
            "metadata": { "name": "cq", "resourceVersion": "1" },
            "spec": {
                "namespaceSelector": {}, "resourceGroups": [group],
                "preemption": { "withinClusterQueue": "LowerPriority" },
            },
        });
        let high = json!({ "metadata": { "name": "high", "resourceVersion": "1" }, "value": 10 });
        this.world.flavors.put(serde_json::from_value(flavor).unwrap());
        this.world
            .cluster_queues
            .put(serde_json::from_value(cluster).unwrap());
        this.world.priorities.put(serde_json::from_value(high).unwrap());
        this.stop_policy("None");
        this
    }

    fn next_version(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    fn stop_policy(&mut self, policy: &str) {
        let old = self
            .world
            .local_queues
            .get(&("n".into(), "main".into()))
            .and_then(|queue| queue.status.clone());
        let queue = json!({
            "metadata": { "name": "main", "namespace": "n", "resourceVersion": self.next_version() },
            "spec": { "clusterQueue": "cq", "stopPolicy": policy }, "status": old,
        });
        self.world
            .local_queues
            .put(serde_json::from_value::<LocalQueue>(queue).unwrap());
    }

    fn create(&mut self, name: &str, milli: u64, high: bool) {
        let mut labels = json!({ "kueue.x-k8s.io/queue-name": "main" });
        if high {
            labels["kueue.x-k8s.io/priority-class"] = json!("high");
        }
        let resources = json!({ "requests": { "cpu": format!("{milli}m") } });
        let container = json!({ "name": "main", "resources": resources });
        let job = json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": name, "labels": labels, "resourceVersion": self.next_version(),
            },
            "spec": { "suspend": true, "template": { "spec": { "containers": [container] } } },
        });
        self.world.jobs.put(serde_json::from_value(job).unwrap());
    }

    fn change_job(&mut self, key: &Key, change: impl FnOnce(&mut Job)) {
        let mut job = self.world.jobs.get(key).unwrap().clone();
        change(&mut job);
        job.metadata.resource_version = self.next_version();
        self.world.jobs.put(job);
    }

    fn delete(&mut self, key: &Key) {
        let job = self.world.jobs.get(key).unwrap().clone();
        if let Some(workload) = self.world.workloads.get(&jobs::workload_key(&job)).cloned() {
            self.world.apply(Seen::Workload(Event::Delete(workload)));
        }
        self.world.apply(Seen::Job(Box::new(Event::Delete(job))));
    }

    /// What the API server makes of a write.
    fn write(&mut self, write: Write) {
        match write {
            Write::CreateWorkload(mut workload) => {
                self.born += 1;
                let created = Timestamp::from_second(self.born).unwrap();
                workload.metadata.creation_timestamp = Some(Time(created));
                self.put_workload(*workload);
            }
            Write::WorkloadStatus(key, status) => {
                let mut workload = self.world.workloads.get(&key).unwrap().clone();
                workload.status = Some(status);
                self.put_workload(workload);
            }
            Write::Deactivate(key) => {
                let mut workload = self.world.workloads.get(&key).unwrap().clone();
                workload.spec.active = Some(false);
                self.put_workload(workload);
            }
            Write::Suspend(key, suspend) => self.change_job(&key, |job| {
                job.spec.as_mut().unwrap().suspend = Some(suspend);
                // The Job controller, at once.
                job.status.get_or_insert_default().active = Some(i32::from(!suspend));
                job.status.get_or_insert_default().ready = Some(i32::from(!suspend));
            }),
            Write::LocalQueueStatus(key, status) => {
                let mut queue = self.world.local_queues.get(&key).unwrap().clone();
                queue.status = Some(status);
                queue.metadata.resource_version = self.next_version();
                self.world.local_queues.put(queue);
            }
            Write::ClusterQueueStatus(key, status) => {
                let mut queue = self.world.cluster_queues.get(&key).unwrap().clone();
                queue.status = Some(status);
                queue.metadata.resource_version = self.next_version();
                self.world.cluster_queues.put(queue);
            }
        }
    }

    fn put_workload(&mut self, mut workload: Workload) {
        workload.metadata.resource_version = self.next_version();
        self.world.workloads.put(workload);
    }

    fn settle(&mut self, story: &str) {
        for _ in 0..50 {
            let writes = plan(&self.world, Timestamp::now());
            if writes.is_empty() {
                return;
            }
            for write in writes {
                self.write(write);
                self.check_quota(story);
            }
        }
        panic!(
            "it never settles: {story}\n{:?}",
            plan(&self.world, Timestamp::now())
        );
    }

    /// Given out to this priority and above.
    fn held_from(&self, priority: i32) -> i128 {
        let mut used = Usage::new();
        for (_, workload) in self
            .world
            .workloads
            .iter()
            .filter(|(_, one)| one.spec.priority >= Some(priority))
        {
            let status = workload.status.clone().unwrap_or_default();
            if let Some(admission) = status.admission.as_ref().filter(|_| !status.is("Finished")) {
                quota::add(&mut used, admission);
            }
        }
        used.values().sum()
    }

    fn check_quota(&self, story: &str) {
        let held = self.held_from(i32::MIN);
        assert!(held <= QUOTA, "{held} of {QUOTA} given out: {story}");
    }

    /// When nothing is left to do: who runs is admitted, and who waits does not fit.
    fn check_rest(&self, stopped: bool, story: &str) {
        for (key, job) in self.world.jobs.iter().filter(|(_, job)| jobs::end(job).is_none()) {
            let workload = self.world.workloads.get(&jobs::workload_key(job)).unwrap();
            let status = workload.status.clone().unwrap();
            assert_eq!(
                status.is("Admitted"),
                !jobs::is_suspended(job),
                "{key:?}: {story}"
            );
            let asks = quota::requests(&workload.spec.pod_sets[0])["cpu"];
            let free = QUOTA - self.held_from(workload.spec.priority.unwrap());
            assert!(
                status.is("Admitted") || stopped || asks > free,
                "{} waits though it fits: {story}",
                key.1
            );
        }
    }
}

#[test]
fn random_histories() {
    for seed in 0..60 {
        let (mut random, mut sim, mut story, mut stopped) =
            (Random(seed), Sim::new(), format!("seed {seed}"), false);
        for step in 0..30 {
            let keys: Vec<Key> = sim.world.jobs.iter().map(|(key, _)| key.clone()).collect();
            let some = (!keys.is_empty()).then(|| keys[random.below(keys.len() as u64) as usize].clone());
            match (random.below(8), some) {
                (0, Some(key)) => {
                    story += &format!("; delete {}", key.1);
                    sim.delete(&key);
                }
                (1 | 2, Some(key)) => {
                    story += &format!("; end {}", key.1);
                    sim.change_job(&key, |job| {
                        let status = job.status.get_or_insert_default();
                        (status.active, status.succeeded) = (Some(0), Some(1));
                        let end = JobCondition {
                            type_: "Complete".into(),
                            status: "True".into(),
                            ..Default::default()
                        };
                        status.conditions = Some(vec![end]);
                    });
                }
                (3, _) => {
                    let policy = ["None", "Hold", "HoldAndDrain"][random.below(3) as usize];
                    story += &format!("; {policy}");
                    stopped = policy != "None";
                    sim.stop_policy(policy);
                }
                _ => {
                    let (milli, high) = (100 * (1 + random.below(12)), random.below(3) == 0);
                    story += &format!("; create j{step} {milli}m high={high}");
                    sim.create(&format!("j{step}"), milli, high);
                }
            }
            sim.settle(&story);
            sim.check_rest(stopped, &story);
        }
    }
}

#[test]
fn a_waiting_one_can_be_deactivated_and_comes_back() {
    let mut sim = Sim::new();
    sim.create("holds", 600, false);
    sim.create("waits", 600, false);
    sim.settle("one of two fits");
    let key = ("n".to_owned(), "waits".to_owned());
    let workload_key = jobs::workload_key(sim.world.jobs.get(&key).unwrap());
    let activate = |sim: &mut Sim, active| {
        let mut workload = sim.world.workloads.get(&workload_key).unwrap().clone();
        workload.spec.active = Some(active);
        sim.put_workload(workload);
        sim.settle("active or not");
        sim.world
            .workloads
            .get(&workload_key)
            .unwrap()
            .status
            .clone()
            .unwrap()
    };
    let off = activate(&mut sim, false);
    assert!(
        off.is("Evicted") && off.is_false_because("QuotaReserved", "Deactivated"),
        "{off:?}"
    );
    let on = activate(&mut sim, true);
    assert!(on.is_false_because("QuotaReserved", "WaitingForQuota"), "{on:?}");
    sim.delete(&("n".into(), "holds".into()));
    sim.settle("room again");
    let status = sim
        .world
        .workloads
        .get(&workload_key)
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert!(status.is("Admitted") && !status.is("Evicted"), "{status:?}");
}

#[test]
fn what_is_like_one_that_does_not_fit_is_told_no_reason() {
    let mut sim = Sim::new();
    sim.create("holds", 600, false);
    sim.settle("one that fits");
    for name in ["waits", "alike", "other"] {
        sim.create(name, if name == "other" { 500 } else { 600 }, false);
        sim.settle(name);
    }
    let reason = |sim: &Sim, name: &str| {
        let job = sim.world.jobs.get(&("n".into(), name.into())).unwrap();
        let workload = sim.world.workloads.get(&jobs::workload_key(job)).unwrap();
        let status = workload.status.clone().unwrap_or_default();
        status.condition("QuotaReserved").map(|seen| seen.reason.clone())
    };
    assert_eq!(reason(&sim, "waits").as_deref(), Some("WaitingForQuota"));
    assert_eq!(reason(&sim, "alike"), None);
    assert_eq!(reason(&sim, "other").as_deref(), Some("WaitingForQuota"));
    sim.delete(&("n".into(), "holds".into()));
    sim.settle("room for one");
    assert_eq!(reason(&sim, "waits").as_deref(), Some("QuotaReserved"));
    assert_eq!(reason(&sim, "alike").as_deref(), Some("WaitingForQuota"));
}

//! What the stand-in knows of the cluster: the newest version of each object, from watches and from the replies to its
//! own writes. A reply counts at once, so that quota given out in one round is not given out again in the next.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::api::{ClusterQueue, LocalQueue, PriorityClass, ResourceFlavor, Workload};

/// Namespace (empty for cluster-wide kinds) and name.
pub type Key = (String, String);

pub fn key<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Store<K> {
    items: BTreeMap<Key, K>,
    /// A list under way; it replaces the items when it is complete.
    listed: BTreeMap<Key, K>,
    synced: bool,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            listed: BTreeMap::new(),
            synced: false,
        }
    }
}

impl<K: ResourceExt> Store<K> {
    pub fn get(&self, key: &Key) -> Option<&K> {
        self.items.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &K)> {
        self.items.iter()
    }

    /// Takes an object unless a newer version is known.
    pub fn put(&mut self, object: K) {
        let key = key(&object);
        if self
            .items
            .get(&key)
            .is_none_or(|known| version(known) < version(&object))
        {
            self.items.insert(key, object);
        }
    }

    pub fn apply(&mut self, event: Event<K>) {
        match event {
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => {
                self.items.remove(&key(&object));
            }
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                self.listed.insert(key(&object), object);
            }
            Event::InitDone => {
                self.items = std::mem::take(&mut self.listed);
                self.synced = true;
            }
        }
    }
}

/// The API server's own order of versions of one object.
fn version<K: ResourceExt>(object: &K) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Every kind the stand-in reads.
#[derive(Debug, Default)]
pub struct World {
    pub jobs: Store<Job>,
    pub workloads: Store<Workload>,
    pub local_queues: Store<LocalQueue>,
    pub cluster_queues: Store<ClusterQueue>,
    pub flavors: Store<ResourceFlavor>,
    pub priorities: Store<PriorityClass>,
}

/// One event of one of the watches.
#[derive(Debug)]
pub enum Seen {
    Job(Box<Event<Job>>),
    Workload(Event<Workload>),
    LocalQueue(Event<LocalQueue>),
    ClusterQueue(Event<ClusterQueue>),
    Flavor(Event<ResourceFlavor>),
    Priority(Event<PriorityClass>),
}

impl World {
    pub fn apply(&mut self, seen: Seen) {
        match seen {
            Seen::Job(event) => self.jobs.apply(*event),
            Seen::Workload(event) => self.workloads.apply(event),
            Seen::LocalQueue(event) => self.local_queues.apply(event),
            Seen::ClusterQueue(event) => self.cluster_queues.apply(event),
            Seen::Flavor(event) => self.flavors.apply(event),
            Seen::Priority(event) => self.priorities.apply(event),
        }
    }

    /// Whether every kind was listed at least once; before that nothing may be decided.
    pub fn is_complete(&self) -> bool {
        self.jobs.synced
            && self.workloads.synced
            && self.local_queues.synced
            && self.cluster_queues.synced
            && self.flavors.synced
            && self.priorities.synced
    }

    /// The priority of a WorkloadPriorityClass; 0 for one that is not there.
    pub fn priority(&self, class: &str) -> i32 {
        let found = self.priorities.get(&(String::new(), class.to_owned()));
        let value = found.and_then(|class| class.data.get("value")?.as_i64());
        value.and_then(|value| i32::try_from(value).ok()).unwrap_or(0)
    }
}

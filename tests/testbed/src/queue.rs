//! The queue stand-in: partial CRDs of `kueue.x-k8s.io` and a controller that behaves as Kueue was seen to behave
//! towards one Job at a time. It is not Kueue and must never be called so in results. Not there: cohorts and
//! borrowing, admission checks, node labels of flavors, partial admission, integrations other than `batch/v1` Jobs.
//!
//! Runs inside the test process or in `qwex-testbed`, by [`QueueStandIn::start`]. Tests use nothing that only
//! the stand-in has: with `QWEX_TEST_KUEUE_KUBECONFIG` they run against the real thing.

mod admit;
mod api;
mod jobs;
mod lease;
mod plan;
mod quota;
#[cfg(test)]
mod sim;
mod usage;
mod world;

use std::fmt::Debug;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::api::{ClusterQueue, LocalQueue, QUEUE_LABEL, Workload};
use self::lease::Tenure;
use self::plan::Write;
use self::world::{Key, Seen, World};
use crate::wait;

const LIMIT: Duration = Duration::from_secs(30);
/// For letting go of the Lease; it runs out by itself where the cluster is gone already.
const GOODBYE: Duration = Duration::from_secs(2);
const CRDS: &[&str] = &[
    include_str!("queue/crds/workloads.yaml"),
    include_str!("queue/crds/localqueues.yaml"),
    include_str!("queue/crds/clusterqueues.yaml"),
    include_str!("queue/crds/resourceflavors.yaml"),
    include_str!("queue/crds/workloadpriorityclasses.yaml"),
];

/// Kubeconfig of a cluster with the real Kueue, where the environment names one.
pub fn real_kueue() -> Option<PathBuf> {
    std::env::var_os("QWEX_TEST_KUEUE_KUBECONFIG").map(PathBuf::from)
}

/// A running stand-in; it ends when dropped.
#[derive(Debug)]
pub struct QueueStandIn {
    /// Its end stops the controller.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl QueueStandIn {
    /// Installs the CRDs and starts the controller, which waits while another one works on the cluster. It has a thread
    /// and a runtime of its own, so that all tests of a binary can share it.
    ///
    /// # Errors
    /// The kubeconfig (YAML) cannot be used, or the CRDs cannot be installed.
    pub async fn start(kubeconfig: &str) -> Result<Self> {
        let config = Kubeconfig::from_yaml(kubeconfig)?;
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = async move {
            let client = match begin(config).await {
                Ok(client) => client,
                Err(error) => return ready.send(Err(error)).unwrap_or_default(),
            };
            ready.send(Ok(())).unwrap_or_default();
            if let Err(error) = work(client, stopped).await {
                tracing::error!(%error, "the queue stand-in ended");
            }
        };
        let thread = std::thread::Builder::new().name("queue-stand-in".to_owned());
        let thread = thread.spawn(move || runtime.block_on(serve))?;
        let this = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        started.await.context("the queue stand-in did not start")??;
        Ok(this)
    }
}

impl Drop for QueueStandIn {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It lets go of its Lease and nothing more.
        self.thread.take().map(JoinHandle::join);
    }
}

async fn begin(config: Kubeconfig) -> Result<Client> {
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    install(&client).await?;
    Ok(client)
}

/// Works while it is the only one on the cluster.
async fn work(client: Client, mut stopped: oneshot::Receiver<()>) -> Result<()> {
    loop {
        let tenure = tokio::select! {
            tenure = Tenure::begin(&client) => tenure,
            _ = &mut stopped => return Ok(()),
        };
        tokio::select! {
            ended = control(client.clone()) => ended?,
            why = tenure.hold() => tracing::warn!(why, "the queue stand-in has to wait for its Lease again"),
            _ = &mut stopped => return Ok(tokio::time::timeout(GOODBYE, tenure.end()).await??),
        }
    }
}

/// Installs the CRDs (again) and waits until the API server serves them.
///
/// # Errors
/// The API server refuses, or does not serve them within 30 s.
pub async fn install(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for text in CRDS {
        let crd: CustomResourceDefinition =
            serde_saphyr::from_str(text).context("read a CRD of the queue")?;
        let name = crd.name_any();
        crds.patch(
            &name,
            &PatchParams::apply("qwex-testbed").force(),
            &Patch::Apply(&crd),
        )
        .await?;
        let what = format!("the CRD {name} to be served");
        wait::until(LIMIT, &what, || async {
            let status = crds.get(&name).await.ok()?.status?;
            let conditions = status.conditions.unwrap_or_default();
            conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
                .then_some(())
        })
        .await?;
    }
    Ok(())
}

/// The kinds that only the stand-in's CRDs define.
struct Kinds {
    workload: ApiResource,
    local_queue: ApiResource,
    cluster_queue: ApiResource,
    flavor: ApiResource,
    priority: ApiResource,
}

impl Kinds {
    fn new() -> Self {
        Self {
            workload: api::resource("Workload", "workloads"),
            local_queue: api::resource("LocalQueue", "localqueues"),
            cluster_queue: api::resource("ClusterQueue", "clusterqueues"),
            flavor: api::resource("ResourceFlavor", "resourceflavors"),
            priority: api::resource("WorkloadPriorityClass", "workloadpriorityclasses"),
        }
    }
}

type Events = SelectAll<BoxStream<'static, Seen>>;

fn events(client: &Client, kinds: &Kinds) -> Events {
    let all = watcher::Config::default;
    let jobs = watcher::Config::default().labels(QUEUE_LABEL);
    futures::stream::select_all([
        watch(Api::all(client.clone()), jobs, |event| Seen::Job(Box::new(event))),
        watch(
            Api::all_with(client.clone(), &kinds.workload),
            all(),
            Seen::Workload,
        ),
        watch(
            Api::all_with(client.clone(), &kinds.local_queue),
            all(),
            Seen::LocalQueue,
        ),
        watch(
            Api::all_with(client.clone(), &kinds.cluster_queue),
            all(),
            Seen::ClusterQueue,
        ),
        watch(Api::all_with(client.clone(), &kinds.flavor), all(), Seen::Flavor),
        watch(
            Api::all_with(client.clone(), &kinds.priority),
            all(),
            Seen::Priority,
        ),
    ])
}

fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    seen: fn(watcher::Event<K>) -> Seen,
) -> BoxStream<'static, Seen>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let stream = watcher(api, config).default_backoff();
    stream
        .filter_map(move |event| async move {
            match event {
                Ok(event) => Some(seen(event)),
                Err(error) => {
                    tracing::warn!(%error, "a watch of the queue stand-in broke; it is started again");
                    None
                }
            }
        })
        .boxed()
}

async fn control(client: Client) -> Result<()> {
    let kinds = Kinds::new();
    let mut events = events(&client, &kinds);
    let mut world = World::default();
    let mut retry = false;
    loop {
        match tokio::time::timeout(patience(&world, retry), events.next()).await {
            Ok(None) => bail!("every watch of the queue stand-in ended"),
            Ok(Some(seen)) => world.apply(seen),
            Err(_) => {}
        }
        while let Some(Some(seen)) = events.next().now_or_never() {
            world.apply(seen);
        }
        if world.is_complete() {
            retry = settle(&client, &kinds, &mut world).await;
        }
    }
}

/// How long nothing has to be done unless something happens.
fn patience(world: &World, retry: bool) -> Duration {
    if retry {
        return Duration::from_millis(200);
    }
    let left = plan::next_deadline(world).map(|at| Timestamp::now().duration_until(at));
    let left = left.map(|left| Duration::try_from(left).unwrap_or_default() + Duration::from_millis(10));
    left.unwrap_or(Duration::from_secs(3600))
}

/// Writes until nothing is left to write. `true`: something could not be written and has to be tried again.
async fn settle(client: &Client, kinds: &Kinds, world: &mut World) -> bool {
    loop {
        let writes = plan::plan(world, Timestamp::now());
        if writes.is_empty() {
            return false;
        }
        // One that fails must not hold up the rest: its namespace may be on its way out.
        let mut failed = false;
        for write in writes {
            if let Err(error) = carry_out(client, kinds, world, &write).await {
                // Mostly an object that changed or went away meanwhile; the watch will tell.
                tracing::info!(%error, ?write, "the queue stand-in could not write");
                failed = true;
            }
        }
        if failed {
            return true;
        }
    }
}

async fn carry_out(client: &Client, kinds: &Kinds, world: &mut World, write: &Write) -> kube::Result<()> {
    match write {
        Write::CreateWorkload(workload) => {
            let namespace = workload.namespace().unwrap_or_default();
            let api: Api<Workload> = Api::namespaced_with(client.clone(), &namespace, &kinds.workload);
            world
                .workloads
                .put(api.create(&PostParams::default(), workload).await?);
        }
        Write::WorkloadStatus(key, status) => {
            let api: Api<Workload> = Api::namespaced_with(client.clone(), &key.0, &kinds.workload);
            world.workloads.put(patch_status(&api, key, json!(status)).await?);
        }
        Write::Deactivate(key) => {
            let api: Api<Workload> = Api::namespaced_with(client.clone(), &key.0, &kinds.workload);
            world
                .workloads
                .put(patch(&api, key, json!({ "spec": { "active": false } })).await?);
        }
        Write::Suspend(key, suspend) => {
            let api: Api<Job> = Api::namespaced(client.clone(), &key.0);
            world
                .jobs
                .put(patch(&api, key, json!({ "spec": { "suspend": suspend } })).await?);
        }
        Write::LocalQueueStatus(key, status) => {
            let api: Api<LocalQueue> = Api::namespaced_with(client.clone(), &key.0, &kinds.local_queue);
            world
                .local_queues
                .put(patch_status(&api, key, status.clone()).await?);
        }
        Write::ClusterQueueStatus(key, status) => {
            let api: Api<ClusterQueue> = Api::all_with(client.clone(), &kinds.cluster_queue);
            world
                .cluster_queues
                .put(patch_status(&api, key, status.clone()).await?);
        }
    }
    Ok(())
}

async fn patch<K>(api: &Api<K>, key: &Key, change: Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch(&key.1, &PatchParams::default(), &Patch::Merge(change))
        .await
}

async fn patch_status<K>(api: &Api<K>, key: &Key, status: Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let change = json!({ "status": status });
    api.patch_status(&key.1, &PatchParams::default(), &Patch::Merge(change))
        .await
}

//! Everything of ours on one cluster, as a stream of sightings: lists first, then one watch each for
//! Jobs, Pods and (where Kueue is served) Workloads, merged into one view.
//!
//! Called through `Watcher::watch`. An error ends the stream; the caller comes back with its last
//! position. The view is kept meanwhile, so that the same process resumes without a list; any other
//! position, or none, or a position that the API server has forgotten, means a full list, which
//! always tells everything anew. A closed watch is never taken for a fact.

mod entry;
mod follow;
mod view;

use std::sync::Arc;

use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use jiff::Timestamp;
use qwex_runner::{RunnerError, Sighting, SightingStream, WatchPosition};
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use self::entry::Lookup;
use self::follow::{Event, Versioned, Watch, follow};
use self::view::{JobUid, Lists, Moment, Told, View};
use crate::backend::Shared;
use crate::cancel::{handle_of, pods_of};
use crate::decode::{JobView, PodView, WorkloadView};
use crate::list::{Listed, list_all};
use crate::place::place_among;
use crate::trouble::{Still, trouble};
use crate::usage::{self, Looked, Meter};
use crate::{names, paths};

/// How often what only the clock moves is looked at.
const TICK: std::time::Duration = std::time::Duration::from_millis(500);

/// The view of a stream that ended, for the next one.
#[derive(Default)]
pub(crate) struct Retained {
    view: View,
    /// The last position told and the one reached since without news; `None` if something was on its
    /// way to the listener when the stream ended.
    told_to: Option<(WatchPosition, Positions)>,
}

/// Resource versions up to which everything was told.
#[derive(Debug, Clone, Serialize)]
struct Positions {
    jobs: String,
    pods: String,
    /// Version of Kueue's API and the position in it.
    workloads: Option<(String, String)>,
}

impl Positions {
    fn to_wire(&self) -> WatchPosition {
        WatchPosition(serde_json::to_string(self).expect("strings serialise"))
    }
}

/// A change in one of the watched resources.
enum Change {
    Job(Versioned<JobView>),
    Pod(Versioned<PodView>),
    Workload(Versioned<WorkloadView>),
}

/// What a change is about.
enum Touched {
    /// The attempt of this Job; `None` if the object is nobody's.
    Attempt(Option<JobUid>),
    /// Only the position moved.
    Position,
    Nothing,
}

type Changes = SelectAll<BoxStream<'static, Result<Change, RunnerError>>>;

/// The outcome of a lookup.
enum Answer {
    Pods(JobUid, Result<Vec<PodView>, RunnerError>),
    Trouble(JobUid, Still, Option<String>),
    Usage(Looked),
}

/// One stream: owns the view while it lives and gives it back when it ends, however it ends.
struct Session {
    shared: Arc<Shared>,
    view: View,
    positions: Positions,
    /// The last position told.
    told: Option<WatchPosition>,
    /// Whether all that the view counts as told has reached the listener.
    delivered: bool,
    lookups: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// When to look at what runs use.
    meter: Meter,
}

impl Drop for Session {
    fn drop(&mut self) {
        let retained = Retained {
            view: std::mem::take(&mut self.view),
            told_to: self
                .told
                .take()
                .filter(|_| self.delivered)
                .map(|told| (told, self.positions.clone())),
        };
        *self.shared.retained() = retained;
    }
}

pub(crate) async fn watch(
    shared: Arc<Shared>,
    from: Option<WatchPosition>,
) -> Result<SightingStream, RunnerError> {
    let mut session = match resume(&shared, from.as_ref()) {
        Some(session) => session,
        None => start(shared).await?,
    };
    let first = if session.delivered {
        Vec::new()
    } else {
        session.first_sightings()
    };
    Ok(run(session, first).boxed())
}

/// Goes on where the last stream ended, if that is where the caller stands.
fn resume(shared: &Arc<Shared>, from: Option<&WatchPosition>) -> Option<Session> {
    let mut retained = shared.retained();
    let (told, positions) = retained.told_to.take()?;
    if from != Some(&told) {
        return None;
    }
    Some(Session {
        shared: Arc::clone(shared),
        view: std::mem::take(&mut retained.view),
        positions,
        told: Some(told),
        delivered: true,
        lookups: FuturesUnordered::new(),
        meter: Meter::default(),
    })
}

/// Lists everything. What an earlier stream saw stays as evidence of what has gone since; it is only
/// taken once the lists are there.
async fn start(shared: Arc<Shared>) -> Result<Session, RunnerError> {
    let rest = &shared.clients.watches;
    let namespace = shared.config.namespace.as_deref();
    let size = shared.config.tuning.page_size;
    let selector = names::ours();
    let (jobs_path, pods_path) = (paths::jobs(namespace), paths::pods(namespace));
    let jobs = list_all::<JobView>(rest, &jobs_path, &selector, size);
    let pods = list_all::<PodView>(rest, &pods_path, &selector, size);
    let (jobs, pods, workloads) = futures::try_join!(jobs, pods, list_workloads(&shared))?;
    let (workloads, kueue) = workloads.unzip();
    let lists = Lists {
        jobs: jobs.items,
        pods: pods.items,
        workloads: workloads.unwrap_or_default(),
    };
    let mut view = std::mem::take(&mut shared.retained().view);
    view.forget_told();
    view.replace(lists, moment(&shared));
    shared.usages().keep_only(&view.attempts());
    Ok(Session {
        view,
        positions: Positions {
            jobs: jobs.resource_version,
            pods: pods.resource_version,
            workloads: kueue,
        },
        told: None,
        delivered: false,
        lookups: FuturesUnordered::new(),
        meter: Meter::default(),
        shared,
    })
}

fn run(
    mut session: Session,
    first: Vec<Sighting>,
) -> impl futures::Stream<Item = Result<Sighting, RunnerError>> + Send {
    async_stream::try_stream! {
        for sighting in first {
            yield sighting;
        }
        session.delivered = true;
        let mut changes = session.changes();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let sightings = session.step(&mut changes, &mut ticks).await?;
            for sighting in sightings {
                yield sighting;
            }
            session.delivered = true;
        }
    }
}

fn ended() -> RunnerError {
    RunnerError::Unreachable {
        message: "every watch has ended".to_owned(),
    }
}

impl Session {
    fn first_sightings(&mut self) -> Vec<Sighting> {
        let told = self.view.tell_all(moment(&self.shared));
        let mut sightings = self.keep(told);
        sightings.push(Sighting::Listed(self.view.listed()));
        sightings.push(self.position());
        sightings
    }

    fn position(&mut self) -> Sighting {
        let position = self.positions.to_wire();
        self.told = Some(position.clone());
        Sighting::Position(position)
    }

    /// Waits for whatever comes first: a change, an answer, a moment of the clock.
    async fn step(
        &mut self,
        changes: &mut Changes,
        ticks: &mut Interval,
    ) -> Result<Vec<Sighting>, RunnerError> {
        tokio::select! {
            change = changes.next() => {
                let change = change.unwrap_or_else(|| Err(ended()));
                if matches!(change, Err(RunnerError::PositionGone { .. })) {
                    // Nobody may resume from here again: the next stream lists.
                    self.told = None;
                }
                Ok(self.take(change?))
            }
            Some(answer) = self.lookups.next(), if !self.lookups.is_empty() => Ok(self.take_answer(answer)),
            _ = ticks.tick() => Ok(self.tick()),
        }
    }

    fn changes(&self) -> Changes {
        let Shared { config, clients, .. } = &*self.shared;
        let namespace = config.namespace.as_deref();
        let watch = |path: String, selector: String| Watch {
            path,
            selector,
            timeout: config.tuning.watch_timeout,
        };
        let rest = || clients.watches.clone();
        let jobs = watch(paths::jobs(namespace), names::ours());
        let pods = watch(paths::pods(namespace), names::ours());
        let mut all = SelectAll::new();
        let jobs = follow::<JobView>(rest(), jobs, self.positions.jobs.clone());
        all.push(jobs.map(|event| event.map(Change::Job)).boxed());
        let pods = follow::<PodView>(rest(), pods, self.positions.pods.clone());
        all.push(pods.map(|event| event.map(Change::Pod)).boxed());
        if let Some((version, from)) = &self.positions.workloads {
            let workloads = watch(paths::kueue(version, namespace, "workloads"), String::new());
            let workloads = follow::<WorkloadView>(rest(), workloads, from.clone());
            all.push(workloads.map(|event| event.map(Change::Workload)).boxed());
        }
        all
    }

    /// Brings a change into the view and tells what it means.
    fn take(&mut self, change: Change) -> Vec<Sighting> {
        let now = Instant::now();
        let view = &mut self.view;
        let touched = match change {
            Change::Job((event, version)) => {
                self.positions.jobs = version;
                match event {
                    Event::Put(job) => Touched::Attempt(view.put_job(job)),
                    Event::Deleted(job) => Touched::Attempt(view.delete_job(job, now)),
                    Event::Bookmark => Touched::Position,
                    Event::Open => Touched::Nothing,
                }
            }
            Change::Pod((event, version)) => {
                self.positions.pods = version;
                match event {
                    Event::Put(pod) => Touched::Attempt(view.put_pod(pod, now)),
                    Event::Deleted(pod) => Touched::Attempt(view.delete_pod(pod, now)),
                    Event::Bookmark => Touched::Position,
                    Event::Open => Touched::Nothing,
                }
            }
            Change::Workload((event, version)) => {
                if let Some((_, position)) = &mut self.positions.workloads {
                    *position = version;
                }
                match event {
                    Event::Put(workload) => Touched::Attempt(view.put_workload(workload)),
                    Event::Deleted(workload) => Touched::Attempt(view.delete_workload(&workload)),
                    Event::Bookmark => Touched::Position,
                    Event::Open => Touched::Nothing,
                }
            }
        };
        match touched {
            Touched::Attempt(Some(uid)) => {
                let told = self.view.tell(&uid, moment(&self.shared));
                self.deliver(told)
            }
            Touched::Attempt(None) => Vec::new(),
            Touched::Position => vec![Sighting::Alive, self.position()],
            Touched::Nothing => vec![Sighting::Alive],
        }
    }

    fn take_answer(&mut self, answer: Answer) -> Vec<Sighting> {
        let moment = moment(&self.shared);
        let uid = match answer {
            Answer::Pods(uid, Ok(pods)) => {
                self.view.looked_up_pods(&uid, pods, moment.now);
                uid
            }
            Answer::Pods(uid, Err(error)) => {
                tracing::warn!(job = uid, %error, "the pods of an ended Job cannot be listed");
                uid
            }
            Answer::Trouble(uid, still, trouble) => {
                self.view.looked_up_trouble(&uid, &still, trouble);
                uid
            }
            Answer::Usage(looked) => {
                let measured = self.meter.take(looked, moment.now);
                let mut usages = self.shared.usages();
                for (target, sample) in measured {
                    usages.note(&target, sample);
                }
                return Vec::new();
            }
        };
        let told = self.view.tell(&uid, moment);
        self.deliver(told)
    }

    fn tick(&mut self) -> Vec<Sighting> {
        self.measure();
        let told = self.view.tick(moment(&self.shared));
        self.deliver(told)
    }

    /// Looks at what runs use, where that is due.
    fn measure(&mut self) {
        let now = Instant::now();
        if !self.meter.is_due(now) {
            return;
        }
        let running = self.view.running(&self.shared.usages());
        for due in self.meter.looks(running, now) {
            let shared = Arc::clone(&self.shared);
            let look = async move {
                let namespace = shared.config.namespace.as_deref();
                Answer::Usage(usage::look(&shared.clients.logs, namespace, due).await)
            };
            self.lookups.push(look.boxed());
        }
    }

    /// With the position behind it, if there is anything to deliver.
    fn deliver(&mut self, told: Told) -> Vec<Sighting> {
        let mut sightings = self.keep(told);
        if !sightings.is_empty() {
            self.delivered = false;
            sightings.push(self.position());
        }
        sightings
    }

    /// Starts the lookups, and adds what only the meter knows.
    fn keep(&mut self, told: Told) -> Vec<Sighting> {
        for (uid, lookup) in told.lookups {
            if let Some((run_id, attempt, job)) = self.view.address(&uid) {
                let shared = Arc::clone(&self.shared);
                let handle = handle_of(job, run_id, attempt);
                self.lookups.push(look_up(shared, uid, handle, lookup).boxed());
            }
        }
        let mut sightings = told.sightings;
        for sighting in &mut sightings {
            if let Sighting::Detailed(object, details) = sighting {
                details.usage = self.shared.usages().of((object.run_id, object.attempt));
            }
        }
        sightings
    }
}

async fn look_up(shared: Arc<Shared>, uid: JobUid, handle: qwex_runner::Handle, lookup: Lookup) -> Answer {
    let Shared { config, clients, .. } = &*shared;
    match lookup {
        Lookup::Pods => {
            let pods = pods_of(&clients.watches, config, &handle).await;
            Answer::Pods(uid, pods)
        }
        Lookup::Trouble(still) => {
            let namespace = handle.backend.namespace.as_deref().unwrap_or_default();
            // An API server has no index of what events are about: each question reads all of the namespace.
            let _turn = shared.explains.acquire().await;
            let trouble = trouble(&clients.watches, namespace, &still).await;
            Answer::Trouble(uid, still, trouble)
        }
    }
}

fn moment(shared: &Shared) -> Moment<'_> {
    Moment {
        now: Instant::now(),
        at: Timestamp::now(),
        tuning: &shared.config.tuning,
    }
}

async fn list_workloads_in(
    shared: &Shared,
    version: &str,
    namespace: Option<&str>,
) -> Result<Listed<WorkloadView>, RunnerError> {
    let path = paths::kueue(version, namespace, "workloads");
    list_all(&shared.clients.watches, &path, "", shared.config.tuning.page_size).await
}

/// The Workload of one suspended Job, read directly. It only explains, so no error is worth failing.
pub(crate) async fn workload_of(shared: &Shared, job: &JobView) -> Option<WorkloadView> {
    let version = shared.kueue_version().await.ok()??;
    let namespace = Some(job.metadata.namespace.as_str());
    let found = list_workloads_in(shared, &version, namespace).await.ok()?;
    let mine = |workload: &&WorkloadView| workload.metadata.owner_job() == Some(&job.metadata.uid);
    let mut workload = found.items.iter().find(mine)?.clone();
    workload.place = place_among(found.items.iter(), &workload.metadata.uid);
    Some(workload)
}

type KueuePosition = (String, String);

/// Kueue only explains; a cluster without it, or one that hides it from us, is watched all the same.
async fn list_workloads(shared: &Shared) -> Result<Option<(Vec<WorkloadView>, KueuePosition)>, RunnerError> {
    let Some(version) = shared.kueue_version().await? else {
        return Ok(None);
    };
    let namespace = shared.config.namespace.as_deref();
    match list_workloads_in(shared, &version, namespace).await {
        Ok(found) => Ok(Some((found.items, (version, found.resource_version)))),
        Err(error @ RunnerError::NotFound { .. }) => {
            tracing::warn!(%error, "Kueue is not served any more");
            *shared.kueue.lock().await = None;
            Ok(None)
        }
        Err(error @ RunnerError::Unauthorized { .. }) => {
            tracing::warn!(%error, "Workloads cannot be read: runs in queues wait without a reason");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

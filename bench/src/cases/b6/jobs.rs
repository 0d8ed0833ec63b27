//! Jobs of one namespace: watched, copied, created by hand, taken away.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use qwex_testbed::wait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{LIMIT, RUN_ID};
use crate::load::Client;

/// What the API server puts on a Job and its pods by itself.
const MADE_BY_SERVER: [&str; 4] = [
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
];

/// New Jobs, as a watch tells them.
pub struct Seen {
    arrivals: mpsc::UnboundedReceiver<Instant>,
    task: JoinHandle<Result<()>>,
}

impl Seen {
    /// Watches from now on.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn watch(jobs: &Api<Job>) -> Result<Self> {
        let now = jobs.list_metadata(&ListParams::default().limit(1)).await?;
        let version = now.metadata.resource_version.context("a list has a version")?;
        let (told, arrivals) = mpsc::unbounded_channel();
        let jobs = jobs.clone();
        let task = tokio::spawn(async move {
            let mut version = version;
            // The API server ends each watch in time; the next one goes on behind it.
            loop {
                let events = jobs.watch_metadata(&WatchParams::default(), &version).await?;
                let mut events = pin!(events);
                while let Some(event) = events.try_next().await? {
                    match event {
                        WatchEvent::Added(job) => {
                            version = job.resource_version().unwrap_or(version);
                            if told.send(Instant::now()).is_err() {
                                return Ok(());
                            }
                        }
                        WatchEvent::Modified(job) | WatchEvent::Deleted(job) => {
                            version = job.resource_version().unwrap_or(version);
                        }
                        WatchEvent::Error(status) => bail!("the watch broke: {status:?}"),
                        WatchEvent::Bookmark(_) => {}
                    }
                }
            }
        });
        Ok(Self { arrivals, task })
    }

    /// Waits for so many new Jobs; gives Jobs a second since `began`.
    ///
    /// # Errors
    /// They do not come in time.
    pub async fn rate(mut self, began: Instant, count: u32) -> Result<f64> {
        let mut last = began;
        for number in 0..count {
            let next = tokio::time::timeout(LIMIT, self.arrivals.recv()).await;
            last = match next.with_context(|| format!("{number} of {count} Jobs came"))? {
                Some(at) => at,
                None => {
                    self.task.await.context("the watch panicked")??;
                    bail!("the watch ended after {number} of {count} Jobs");
                }
            };
        }
        self.task.abort();
        Ok(f64::from(count) / last.duration_since(began).as_secs_f64())
    }
}

/// One of the Jobs there are, as it was before it was sent.
///
/// # Errors
/// There is none.
pub async fn template(jobs: &Api<Job>) -> Result<Job> {
    let found = jobs.list(&ListParams::default().limit(1)).await?;
    let mut job = found.items.into_iter().next().context("no Job to copy")?;
    let strip = |labels: &mut BTreeMap<String, String>| {
        labels.retain(|key, _| !MADE_BY_SERVER.contains(&key.as_str()))
    };
    strip(job.labels_mut());
    job.metadata = ObjectMeta {
        name: job.metadata.name,
        labels: job.metadata.labels,
        annotations: job.metadata.annotations,
        ..ObjectMeta::default()
    };
    job.status = None;
    let spec = job.spec.as_mut().context("a Job has a spec")?;
    spec.selector = None;
    if let Some(labels) = spec
        .template
        .metadata
        .as_mut()
        .and_then(|meta| meta.labels.as_mut())
    {
        strip(labels);
    }
    Ok(job)
}

/// Creates copies of a Job, each under a name of its own.
pub struct Creator {
    jobs: Api<Job>,
    template: Job,
}

impl Creator {
    #[must_use]
    pub fn new(jobs: Api<Job>, mut template: Job) -> Self {
        // Not the server's to adopt.
        let manager = "app.kubernetes.io/managed-by".to_owned();
        template.labels_mut().insert(manager, "hand".to_owned());
        Self { jobs, template }
    }
}

impl Client for Creator {
    async fn once(&mut self) -> Result<()> {
        let id = Uuid::now_v7().to_string();
        self.template.metadata.name = Some(format!("qwex-{id}-1"));
        self.template.labels_mut().insert(RUN_ID.to_owned(), id);
        self.jobs.create(&PostParams::default(), &self.template).await?;
        Ok(())
    }
}

/// The value of a label on each Job that has it.
///
/// # Errors
/// The API server does not answer.
pub async fn labels(jobs: &Api<Job>, key: &str) -> Result<Vec<String>> {
    let all = jobs.list_metadata(&ListParams::default()).await?;
    Ok(all
        .items
        .iter()
        .filter_map(|job| job.labels().get(key).cloned())
        .collect())
}

/// Deletes every Job with its pods and waits until they are gone.
///
/// # Errors
/// They are not, in time.
pub async fn delete_all(jobs: &Api<Job>, limit: Duration) -> Result<()> {
    jobs.delete_collection(&DeleteParams::background(), &ListParams::default())
        .await?;
    wait::until(limit, "the Jobs to be gone", || async {
        let left = jobs.list_metadata(&ListParams::default().limit(1)).await.ok()?;
        left.items.is_empty().then_some(())
    })
    .await?;
    Ok(())
}

//! Keeps a task group alive for each cluster whose lease this replica holds: watch, dispatch, clean-up.

use std::collections::HashMap;
use std::time::Duration;

use qwex_core::ClusterName;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Connector, Reach, queues};
use crate::db::cluster::{self, Connection};
use crate::db::{DbResult, Pools, dispatch as dispatch_rows, lease};
use crate::hints::Hints;
use crate::logs::Archive;
use crate::recorder::{LeaseGuard, Recorder};
use crate::{cleanup, dispatch, watch};

/// A lease lasts so long, and is renewed each [`ROUND`].
const TTL: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_secs(2);

/// What every task group shares.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub pools: Pools,
    pub recorder: Recorder,
    pub hints: Hints,
    pub archive: Archive,
    pub connector: Connector,
    /// Names this process among replicas; no two processes ever share one.
    pub holder: String,
}

struct Group {
    generation: i64,
    epoch: i64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Runs until `stop`, then ends every group and gives up the leases.
    pub async fn run(self, stop: CancellationToken) {
        let mut groups: HashMap<ClusterName, Group> = HashMap::new();
        // A renewal that failed for longer than the lease lasts means that it is not ours any more.
        let mut renewed = tokio::time::Instant::now();
        while !stop.is_cancelled() {
            match self.round(&mut groups, &stop).await {
                Ok(()) => renewed = tokio::time::Instant::now(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "leases were not renewed"
                    );
                    if renewed.elapsed() >= TTL {
                        end_all(&mut groups).await;
                    }
                }
            }
            metrics::gauge!("qwex_clusters_held").set(groups.len() as f64);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(ROUND) => {}
            }
        }
        end_all(&mut groups).await;
        if let Err(error) = lease::release_all(&self.pools.work, &self.holder).await {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "leases lapse by themselves"
            );
        }
    }

    async fn round(
        &self,
        groups: &mut HashMap<ClusterName, Group>,
        stop: &CancellationToken,
    ) -> DbResult<()> {
        let stored = cluster::list_connections(&self.pools.work).await?;
        let gone: Vec<ClusterName> = groups
            .keys()
            .filter(|name| !stored.iter().any(|one| one.name == **name))
            .cloned()
            .collect();
        for name in gone {
            end(groups, &name).await;
        }
        for connection in stored.into_iter().filter(|one| self.connector.serves(&one.kind)) {
            let lease_name = format!("cluster/{}", connection.name);
            let held = lease::acquire(&self.pools.work, &lease_name, &self.holder, TTL).await?;
            let fits = groups.get(&connection.name).is_some_and(|group| {
                Some(group.epoch) == held
                    && group.generation == connection.generation
                    && !group.task.is_finished()
            });
            if fits {
                continue;
            }
            end(groups, &connection.name).await;
            if let Some(epoch) = held {
                dispatch_rows::drop_claims(&self.pools.work, connection.name.as_str()).await?;
                let guard = LeaseGuard {
                    lease: lease_name,
                    epoch,
                };
                groups.insert(
                    connection.name.clone(),
                    self.start(connection, guard, stop.child_token()),
                );
            }
        }
        Ok(())
    }

    fn start(&self, connection: Connection, guard: LeaseGuard, stop: CancellationToken) -> Group {
        let (generation, epoch) = (connection.generation, guard.epoch);
        tracing::info!(cluster = %connection.name, epoch, "this replica serves the cluster");
        let task = tokio::spawn(self.clone().serve(connection, guard, stop.clone()));
        Group {
            generation,
            epoch,
            stop,
            task,
        }
    }

    /// Serves one cluster until told to stop. What ends before is started again by the next round.
    async fn serve(self, connection: Connection, guard: LeaseGuard, stop: CancellationToken) {
        let reach = Reach::new(self.pools.clone(), connection.name.clone());
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = self.connector.connect(&connection) => connected,
        };
        let backend = match connected {
            Ok(backend) => backend,
            Err(error) => {
                tracing::warn!(cluster = %connection.name, error = &error as &dyn std::error::Error, "not connected");
                reach.refused(&error.to_string()).await;
                return;
            }
        };
        let keeping = queues::keep(
            self.pools.clone(),
            self.hints.clone(),
            backend.clone(),
            stop.clone(),
        );
        let watching = watch::Context {
            recorder: self.recorder.clone(),
            archive: self.archive.clone(),
            backend: backend.clone(),
            reach,
            guard: guard.clone(),
            stop: stop.clone(),
        };
        let dispatching = dispatch::Context {
            pools: self.pools.clone(),
            recorder: self.recorder,
            hints: self.hints.clone(),
            backend: backend.clone(),
            guard: guard.clone(),
            stop: stop.clone(),
        };
        let cleaning = cleanup::Context {
            pools: self.pools,
            hints: self.hints,
            archive: self.archive.clone(),
            backend,
            guard,
            stop: stop.clone(),
        };
        tokio::join!(
            keeping,
            watch::run(watching),
            dispatch::run(dispatching),
            cleanup::run(cleaning),
        );
        self.archive.leave(&connection.name).await;
    }
}

async fn end(groups: &mut HashMap<ClusterName, Group>, name: &ClusterName) {
    if let Some(group) = groups.remove(name) {
        group.stop.cancel();
        if let Err(error) = group.task.await
            && error.is_panic()
        {
            tracing::error!(cluster = %name, "the cluster's tasks panicked; they start again");
        }
    }
}

async fn end_all(groups: &mut HashMap<ClusterName, Group>) {
    let names: Vec<ClusterName> = groups.keys().cloned().collect();
    for group in groups.values() {
        group.stop.cancel();
    }
    for name in names {
        end(groups, &name).await;
    }
}

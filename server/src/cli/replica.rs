//! One replica: every service of the server, wired together, served and ended. `serve` and `dev` differ in where its
//! parts come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use super::probe;
use crate::answers::Answers;
use crate::auth::Auth;
use crate::clusters::{Clusters, Connector, LocalSettings, Supervisor, Tuning};
use crate::config::{DatabaseSettings, HttpSettings, SecretKey};
use crate::db::{PoolSizes, Pools, migrate};
use crate::dispatch;
use crate::hints::Hints;
use crate::http::{self, AccessTable, App, Drain, Limiter};
use crate::logs::{Archive, ChunkStore};
use crate::projects::Projects;
use crate::recorder::{Recorder, RecorderConfig};
use crate::runs::Runs;
use crate::sealing::Sealer;
use crate::telemetry::Metrics;
use crate::webhooks::{Deliverer, Webhooks, WebhooksConfig};

/// Background work has this long to come to a good point when the server leaves.
const WORK_TIME: Duration = Duration::from_secs(5);
const PARTITIONS_EVERY: Duration = Duration::from_secs(24 * 3600);
const POOLS_EVERY: Duration = Duration::from_secs(5);

/// What a replica is made of.
pub struct ReplicaConfig {
    pub pools: Pools,
    pub http: HttpSettings,
    pub archive_url: Url,
    pub secret_key: SecretKey,
    pub metrics: Metrics,
    /// The embedded cluster, if this replica serves one.
    pub local: Option<LocalSettings>,
    pub webhooks: WebhooksConfig,
    pub dev: bool,
}

/// A running replica.
pub struct Replica {
    app: Arc<App>,
    http: HttpSettings,
    metrics: Metrics,
    pools: Pools,
    drain: Drain,
    stop: CancellationToken,
    work: TaskTracker,
}

/// Splits the connections of a replica over its lanes.
pub fn open_pools(settings: &DatabaseSettings) -> anyhow::Result<Pools> {
    let all = settings.connections;
    let record = (all / 6).max(1);
    let work = (all / 3).max(2);
    let sizes = PoolSizes {
        api: all - record - work,
        record,
        work,
    };
    Pools::open(&settings.url, sizes).context("the database URL is not valid")
}

/// A listener on every address is reached on loopback.
#[must_use]
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

impl Replica {
    /// Starts every service and all background work.
    ///
    /// # Errors
    /// A part cannot be made of what it was given.
    pub async fn start(config: ReplicaConfig) -> anyhow::Result<Self> {
        let ReplicaConfig {
            pools,
            http,
            archive_url,
            secret_key,
            metrics,
            local,
            webhooks: webhooks_config,
            dev,
        } = config;
        let (drain, stop, work) = (Drain::new(), CancellationToken::new(), TaskTracker::new());
        let hints = Hints::new(pools.work.clone());
        let recorder_config = RecorderConfig {
            public_base: http.public_base(),
        };
        let recorder = Recorder::start(&pools, hints.clone(), recorder_config);
        let runs = Runs::start(&pools, recorder.clone(), hints.clone());
        let store = ChunkStore::open(&archive_url).context("the log archive cannot be opened")?;
        work.spawn(check_archive(store.clone()));
        let logs = Archive::new(&pools, store, recorder.clone(), hints.clone());
        let sealer = Sealer::new(&secret_key);
        let connector = Connector::new(sealer.clone(), local, Tuning::default());
        let clusters = Clusters::new(&pools, hints.clone(), connector.clone());
        let supervisor = Supervisor {
            pools: pools.clone(),
            recorder: recorder.clone(),
            hints: hints.clone(),
            archive: logs.clone(),
            connector,
            holder: Uuid::now_v7().to_string(),
        };
        let auth = Auth::new(pools.api.clone());
        let answers = Answers::new(pools.api.clone());

        let webhooks = Webhooks::new(&pools, sealer.clone(), hints.clone(), &webhooks_config);
        let deliverer = Deliverer::new(&pools, sealer, hints.clone(), &webhooks_config)
            .context("webhooks cannot be delivered")?;

        work.spawn(deliverer.run(stop.clone()));
        work.spawn(supervisor.run(stop.clone()));
        work.spawn(dispatch::place(
            pools.clone(),
            recorder,
            hints.clone(),
            stop.clone(),
        ));
        work.spawn(hints.listen(stop.clone()));
        spawn_upkeep(&work, &stop, &pools, &answers, &logs);
        let probe = probe::of(pools.clone(), logs.clone());
        let app = Arc::new(App {
            projects: Projects::new(pools.api.clone(), auth.clone()),
            auth,
            runs,
            clusters,
            logs,
            webhooks,
            answers,
            limiter: Limiter::new(http.rate_limit),
            access: AccessTable::of_routes().map_err(anyhow::Error::msg)?,
            drain: drain.clone(),
            probe,
            metrics: http.metrics_listen.is_none().then(|| metrics.clone()),
            dev,
        });
        Ok(Self {
            app,
            http,
            metrics,
            pools,
            drain,
            stop,
            work,
        })
    }

    /// The registry of clusters.
    #[must_use]
    pub fn clusters(&self) -> &Clusters {
        &self.app.clusters
    }

    /// Serves until a signal, then leaves: not ready, no new connections, streams end, work comes to a good point.
    /// A second signal ends the process at once. `lost` resolves when a part is lost without which it cannot serve.
    ///
    /// # Errors
    /// The address of the metrics is taken, signals cannot be heard, or a part was lost.
    pub async fn run(
        self,
        listener: TcpListener,
        lost: impl Future<Output = anyhow::Error>,
    ) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        tracing::info!(listen = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving");
        let serving = tokio::spawn(http::serve(
            listener,
            http::router(self.app.clone()),
            self.drain.clone(),
        ));
        if let Some(address) = self.http.metrics_listen {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("failed to listen on {address} for metrics"))?;
            let router = http::metrics_router(self.metrics.clone());
            // It answers until the very end: what happens while leaving is of interest.
            tokio::spawn(http::serve(listener, router, Drain::new()));
        }
        let ended = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "leaving; a second signal ends at once");
                Ok(())
            }
            error = lost => Err(error),
        };
        tokio::spawn(async move {
            let name = signals.next().await;
            tracing::warn!(signal = name, "ending at once");
            std::process::exit(1);
        });
        self.leave(serving).await;
        tracing::info!("left");
        ended
    }

    async fn leave(self, serving: tokio::task::JoinHandle<()>) {
        self.drain.begin();
        tokio::time::sleep(Duration::from_secs(self.http.drain_delay)).await;
        self.drain.close();
        if let Err(error) = serving.await {
            tracing::error!(%error, "the listener failed");
        }
        self.stop.cancel();
        self.work.close();
        if tokio::time::timeout(WORK_TIME, self.work.wait()).await.is_err() {
            tracing::warn!(
                open = self.work.len(),
                "background work was cut; its rows bring it back"
            );
        }
        // A connection that is still in use is not worth waiting for.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.pools.close()).await;
    }
}

/// Says early what would else be met with the first log. Runs go on without an archive; their logs wait.
async fn check_archive(store: ChunkStore) {
    if let Err(error) = store.check().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the log archive cannot be used now; logs wait until it can"
        );
    }
}

/// What keeps a replica tidy.
fn spawn_upkeep(
    work: &TaskTracker,
    stop: &CancellationToken,
    pools: &Pools,
    answers: &Answers,
    logs: &Archive,
) {
    spawn_until(work, stop, answers.clone().sweep());
    spawn_until(work, stop, logs.clone().sweep());
    spawn_until(work, stop, logs.clone().measure());
    spawn_until(work, stop, keep_partitions(pools.clone()));
    spawn_until(work, stop, watch_pools(pools.clone()));
}

/// Work that may be cut anywhere when the server leaves.
fn spawn_until(
    work: &TaskTracker,
    stop: &CancellationToken,
    endless: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    work.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = endless => {}
        }
    });
}

/// Makes the partitions of the months to come.
async fn keep_partitions(pools: Pools) {
    loop {
        let wait = match migrate::ensure_partitions(&pools.work).await {
            Ok(()) => PARTITIONS_EVERY,
            Err(error) => {
                tracing::warn!(cause = %anyhow::Error::from(error), "partitions were not made");
                Duration::from_secs(60)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Connections of each lane, as metrics.
async fn watch_pools(pools: Pools) {
    let mut ticks = tokio::time::interval(POOLS_EVERY);
    loop {
        ticks.tick().await;
        for (lane, pool) in [
            ("api", &pools.api),
            ("record", &pools.record),
            ("work", &pools.work),
        ] {
            let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
            metrics::gauge!("qwex_db_connections", "lane" => lane, "state" => "idle").set(idle);
            metrics::gauge!("qwex_db_connections", "lane" => lane, "state" => "used")
                .set(pool.size().saturating_sub(idle));
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

//! The real `qwexcloud serve` over a real Postgres, started, killed and started again.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use qwex_testbed::postgres::Postgres;
use qwex_testbed::process::{Process, Spec};
use qwex_testbed::{ports, wait};
use serde_json::json;
use tempfile::TempDir;

use crate::api::Api;
use crate::{binary, laws};

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ServerSetup {
    /// Database to use; `None`: a fresh one of the shared Postgres.
    pub database_url: Option<String>,
    /// Name of an embedded cluster that runs commands as processes; `None`: none.
    pub local_cluster: Option<&'static str>,
    pub env: Vec<(String, String)>,
    /// Which `qwexcloud`; `None`: the one beside the running test.
    pub binary: Option<PathBuf>,
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self {
            database_url: None,
            local_cluster: Some("local"),
            env: Vec::new(),
            binary: None,
        }
    }
}

/// A running server, killed when it is dropped.
pub struct Server {
    pub api: Api,
    pub database_url: String,
    /// Data directory and archive.
    pub dir: TempDir,
    setup: ServerSetup,
    listen: String,
    process: Option<Process>,
    starts: u32,
}

impl Server {
    /// Starts a server with an embedded cluster over a fresh database.
    ///
    /// # Errors
    /// A part cannot be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(ServerSetup::default()).await
    }

    /// # Errors
    /// A part cannot be started.
    pub async fn start_with(setup: ServerSetup) -> Result<Self> {
        let database_url = match &setup.database_url {
            Some(url) => url.clone(),
            None => Postgres::shared().await?.database().await?,
        };
        let listen = ports::free_addr()?.to_string();
        let dir = tempfile::tempdir().context("no directory for the server")?;
        let api = Api::new(format!("http://{listen}"), "");
        let mut server = Self {
            api,
            database_url,
            dir,
            setup,
            listen,
            process: None,
            starts: 0,
        };
        server.run_once(&["migrate"]).await?;
        server.api.token = server.token("default", "admin", "test-admin").await?;
        server.start_again().await?;
        Ok(server)
    }

    /// Starts another replica: same database, same archive, same token, a directory and an address of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn replica(&self) -> Result<Self> {
        let mut setup = self.setup.clone();
        let archive = format!("file://{}", self.dir.path().join("archive").display());
        setup.env.push(("QWEX_ARCHIVE_URL".to_owned(), archive));
        let listen = ports::free_addr()?.to_string();
        let mut replica = Self {
            api: Api::new(format!("http://{listen}"), self.api.token.clone()),
            database_url: self.database_url.clone(),
            dir: tempfile::tempdir().context("no directory for the server")?,
            setup,
            listen,
            process: None,
            starts: 0,
        };
        replica.start_again().await?;
        Ok(replica)
    }

    /// Starts a server that was killed or stopped.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.starts += 1;
        let log = self.dir.path().join(format!("serve-{}.log", self.starts));
        let process = self.spawn(&["serve"], log)?.start()?;
        let api = &self.api;
        process
            .ready(Duration::from_secs(30), || async {
                api.get("/readyz")
                    .await
                    .ok()
                    .filter(|reply| reply.status.is_success())
                    .map(|_| ())
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    fn spawn(&self, args: &[&str], log: PathBuf) -> Result<Spec> {
        let program = match &self.setup.binary {
            Some(path) => path.clone(),
            None => binary("qwexcloud")?,
        };
        let mut spawn = Spec::new(program, log)
            .args(args)
            .env("QWEX_DATABASE_URL", &self.database_url)
            .env("QWEX_LISTEN", &self.listen)
            .env("QWEX_DATA_DIR", self.dir.path())
            .env("QWEX_SECRET_KEY", "00".repeat(32))
            .env("QWEX_LOG", "info,qwexcloud=debug")
            .env("QWEX_DRAIN_DELAY", "0")
            // A suite that waits for sixty runs asks more often than anybody may.
            .env("QWEX_RATE_LIMIT", "0")
            .env("QWEX_WEBHOOK_ALLOW_LOOPBACK", "true");
        if let Some(name) = self.setup.local_cluster {
            spawn = spawn.env("QWEX_LOCAL_CLUSTER", name);
        }
        for (key, value) in &self.setup.env {
            spawn = spawn.env(key, value);
        }
        Ok(spawn)
    }

    async fn run_once(&self, args: &[&str]) -> Result<String> {
        let log = self
            .dir
            .path()
            .join(format!("{}.log", args.join("-").replace('/', "_")));
        self.spawn(args, log.clone())?
            .run(Duration::from_secs(30))
            .await?;
        std::fs::read_to_string(log).context("the command's output cannot be read")
    }

    /// Makes a token by the command line of the server.
    ///
    /// # Errors
    /// It is refused.
    pub async fn token(&self, project: &str, role: &str, name: &str) -> Result<String> {
        let output = self
            .run_once(&[
                "token",
                "create",
                "--project",
                project,
                "--role",
                role,
                "--name",
                name,
            ])
            .await?;
        let token = output.split_whitespace().find(|word| word.starts_with("qwx_"));
        Ok(token
            .with_context(|| format!("no token in: {output}"))?
            .to_owned())
    }

    /// Makes a project and asks as a new token of it.
    ///
    /// # Errors
    /// It is refused.
    pub async fn project(&self, project: &str, role: &str) -> Result<Api> {
        let made = self.api.post("/v1/projects", &json!({ "name": project })).await?;
        ensure!([201, 409].contains(&made.status.as_u16()), "{made:?}");
        let name = format!("{project}-{role}");
        let body = json!({ "name": name, "role": role, "project": project });
        let created = self.api.post("/v1/tokens", &body).await?.expect(201)?.json();
        let token = created["token"]
            .as_str()
            .context("no token in the answer")?
            .to_owned();
        Ok(self.api.with_token(token))
    }

    fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("the server is not running")
    }

    /// # Errors
    /// It is not running.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process()?.pid())
    }

    /// What the server last said.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map(Process::log_tail).unwrap_or_default()
    }

    /// Everything that this start of the server said.
    ///
    /// # Errors
    /// It is not running or its log cannot be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.process()?.log()).context("the server's log cannot be read")
    }

    /// Kills it with -9.
    ///
    /// # Errors
    /// It is not running.
    pub async fn kill(&mut self) -> Result<()> {
        let process = self.process.take().context("the server is not running")?;
        process.stop(Signal::SIGKILL, Duration::from_secs(10)).await?;
        Ok(())
    }

    /// Stops it with SIGTERM, within `limit`.
    ///
    /// # Errors
    /// It is not running, or does not leave in time.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        let process = self.process.take().context("the server is not running")?;
        process.stop(Signal::SIGTERM, limit).await
    }

    /// # Errors
    /// It is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process()?.signal(signal)
    }

    /// Waits until nothing is owed to any run, then checks every law.
    ///
    /// # Errors
    /// Something stays owed, or a law is broken.
    pub async fn settle(&self, canaries: &[&str]) -> Result<()> {
        let pool = sqlx::PgPool::connect(&self.database_url).await?;
        wait::until(Duration::from_secs(60), "no clean-up is owed", || async {
            let owed: i64 = sqlx::query_scalar("SELECT count(*) FROM cleanup")
                .fetch_one(&pool)
                .await
                .ok()?;
            (owed == 0).then_some(())
        })
        .await?;
        pool.close().await;
        laws::check(&self.database_url, canaries).await
    }
}

//! Private Postgres servers for tests: own data directory, own loopback port, own socket, never the machine's server.
//!
//! A test binary shares one server ([`Postgres::shared`]) and takes a database per test. A test that crashes the
//! server starts its own. fsync stays on: durability is what the tests are about.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use crate::process::{Process, Spec, find};
use crate::{ports, scratch};

const LIMIT: Duration = Duration::from_secs(60);
const SUPERUSER: &str = "qwex";
const TEMPLATE: &str = "qwex_template";

/// Small, and as durable as a real one.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("shared_buffers", "32MB"),
    ("max_connections", "200"),
    ("max_wal_size", "256MB"),
    ("jit", "off"),
    ("listen_addresses", "127.0.0.1"),
    ("log_line_prefix", "%m [%p] %d "),
];

/// One private server. Dropping it kills it at once.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    user: Option<User>,
    settings: Vec<(String, String)>,
    server: Mutex<Option<Process>>,
    template: OnceCell<()>,
    next: AtomicU32,
}

impl Postgres {
    /// Initialises and starts a server with the default settings.
    ///
    /// # Errors
    /// Postgres is not installed, or does not come up within a minute.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// As [`Postgres::start`], with more settings (`max_connections`, ...) on top.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let bin = binaries().context("postgres is not installed: apt-get install postgresql")?;
        let user = unprivileged_user()?;
        let dir = scratch::dir("pg")?;
        if let Some(user) = &user {
            chown(&dir, Some(user.uid), Some(user.gid))?;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let settings = SETTINGS
            .iter()
            .chain(settings)
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        let port = ports::free()?;
        let (server, template, next) = (Mutex::new(None), OnceCell::new(), AtomicU32::new(1));
        let this = Self {
            bin,
            dir,
            port,
            user,
            settings,
            server,
            template,
            next,
        };
        this.initialise().await?;
        this.start_again().await?;
        Ok(this)
    }

    /// The server that all tests of this binary share.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// The maintenance database, by TCP, as superuser.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Any database of this server, by TCP, as superuser.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// TCP port on 127.0.0.1, for a proxy in between.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Directory of the unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// Prepares what every later [`Postgres::database`] starts from. The first caller's `migrate` runs with the URL
    /// of the template; for everyone else this only waits.
    ///
    /// # Errors
    /// The template cannot be made or `migrate` fails.
    pub async fn template<F, Fut>(&self, migrate: F) -> Result<()>
    where
        F: FnOnce(String) -> Fut,
        Fut: Future<Output = Result<()>>,
    {
        let make = || async {
            // A first try that failed half-way must not be what tests start from.
            self.execute(format!("DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)"))
                .await?;
            self.execute(format!("CREATE DATABASE {TEMPLATE}")).await?;
            migrate(self.url_of(TEMPLATE))
                .await
                .context("migrate the template database")?;
            // A pool of `migrate` that is still closing would block every copy.
            self.terminate_backends(&self.url_of(TEMPLATE)).await.map(drop)
        };
        self.template.get_or_try_init(make).await.map(drop)
    }

    /// A fresh database, a copy of the template if there is one.
    ///
    /// # Errors
    /// The server is down or refuses.
    pub async fn database(&self) -> Result<String> {
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        let from = if self.template.initialized() {
            TEMPLATE
        } else {
            "template1"
        };
        self.execute(format!("CREATE DATABASE {name} TEMPLATE {from}"))
            .await?;
        Ok(self.url_of(&name))
    }

    /// Stops in immediate mode, as a crash would: no checkpoint, connections cut, recovery at the next start.
    ///
    /// # Errors
    /// The server is not running or does not end.
    pub async fn crash(&self) -> Result<()> {
        let process = self.server().take().context("postgres is not running")?;
        process.stop(Signal::SIGQUIT, LIMIT).await.map(drop)
    }

    /// Starts the server (again) on the same data, port and socket, and waits until it takes connections.
    ///
    /// # Errors
    /// It is running already or does not come up.
    pub async fn start_again(&self) -> Result<()> {
        if self.server().is_some() {
            bail!("postgres is running already");
        }
        let mut spec = self
            .spec("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-p")
            .arg(self.port.to_string());
        for (key, value) in &self.settings {
            spec = spec.arg("-c").arg(format!("{key}={value}"));
        }
        let process = spec.arg("-k").arg(&self.dir).start()?;
        process
            .ready(LIMIT, || async { self.connect().await.ok() })
            .await?
            .close()
            .await?;
        *self.server() = Some(process);
        Ok(())
    }

    /// Cuts every connection to the database of `url`; gives their number.
    ///
    /// # Errors
    /// The server is down, or `url` names no database.
    pub async fn terminate_backends(&self, url: &str) -> Result<u64> {
        let options: PgConnectOptions = url.parse()?;
        let database = options
            .get_database()
            .ok_or_else(|| anyhow!("{url} names no database"))?
            .to_owned();
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()";
        let mut connection = self.connect().await?;
        let cut = sqlx::query(sql).bind(database).execute(&mut connection).await?;
        connection.close().await?;
        Ok(cut.rows_affected())
    }

    async fn initialise(&self) -> Result<()> {
        let options = [
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--username",
            SUPERUSER,
        ];
        self.spec("initdb")
            .args(options)
            .arg("-D")
            .arg(self.data())
            .run(LIMIT)
            .await
    }

    async fn execute(&self, sql: String) -> Result<()> {
        let mut connection = self.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    async fn connect(&self) -> Result<PgConnection> {
        let options: PgConnectOptions = self.url().parse()?;
        Ok(options.disable_statement_logging().connect().await?)
    }

    fn spec(&self, program: &str) -> Spec {
        // Postgres wants a working directory it can read, which root's home is not.
        let spec = Spec::new(self.bin.join(program), self.dir.join("postgres.log")).dir(&self.dir);
        match &self.user {
            Some(user) => spec.user(user),
            None => spec,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.server
            .lock()
            .expect("no code panics while it holds the server")
    }
}

/// Directory that holds `postgres` and `initdb`: PATH first, then Debian's versioned places, newest first.
pub fn binaries() -> Option<PathBuf> {
    let in_path = find("initdb").and_then(|file| Some(file.parent()?.to_owned()));
    in_path.or_else(|| {
        let entries = fs::read_dir("/usr/lib/postgresql").ok()?;
        let version = |dir: &PathBuf| dir.file_name()?.to_str()?.parse::<u32>().ok();
        let newest = entries
            .flatten()
            .map(|entry| entry.path())
            .max_by_key(version)?
            .join("bin");
        newest.join("initdb").exists().then_some(newest)
    })
}

/// Postgres refuses to run as root: `postgres`, else `nobody`; `None` when we are an ordinary user ourselves.
fn unprivileged_user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("running as root and there is neither a user postgres nor nobody to run the server as")
}

//! What the cases stand on: one private Postgres with fsync on, and servers over fresh databases of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::postgres::Postgres;

/// Big enough that checkpoints and connections are not what is measured; durability is left as it is.
const POSTGRES: &[(&str, &str)] = &[
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("max_connections", "300"),
];

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Knobs {
    pub trials: u32,
    /// Of one trial of a load.
    pub length: Duration,
    /// Submits a second of the open loop.
    pub rate: u32,
    pub jobs: u32,
    pub rows: u32,
    pub records: u32,
}

/// Everything that runs as long as the program.
pub struct Bench {
    pub knobs: Knobs,
    pub postgres: Postgres,
    server: PathBuf,
}

impl Bench {
    /// # Errors
    /// A binary is missing or Postgres does not start.
    pub async fn start(server: Option<PathBuf>, knobs: Knobs) -> Result<Self> {
        let server = match server {
            Some(path) => path,
            None => qwex_suite::binary("qwexcloud")?,
        };
        ensure!(server.is_file(), "{} is not there", server.display());
        let postgres = Postgres::start_with(POSTGRES).await?;
        Ok(Self {
            knobs,
            postgres,
            server,
        })
    }

    /// The binary that lies beside the server.
    ///
    /// # Errors
    /// It is not there.
    pub fn binary(&self, name: &str) -> Result<PathBuf> {
        let path = self.server.parent().unwrap_or(Path::new(".")).join(name);
        ensure!(
            path.is_file(),
            "{} is missing: build it in the same profile",
            path.display()
        );
        Ok(path)
    }

    /// A server over a fresh database, without any cluster and without a rate limit: the load is one token's.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn server(&self) -> Result<Server> {
        let database_url = self.postgres.database().await?;
        let env = [("QWEX_RATE_LIMIT", "0"), ("QWEX_LOG", "info")];
        Server::start_with(ServerSetup {
            database_url: Some(database_url),
            local_cluster: None,
            env: env
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
            binary: Some(self.server.clone()),
        })
        .await
        .context("the server did not start")
    }
}

/// Where a server listens.
///
/// # Errors
/// Its address is none.
pub fn address(server: &Server) -> Result<SocketAddr> {
    let address = server.api.base.trim_start_matches("http://");
    address
        .parse()
        .with_context(|| format!("{address} is no address"))
}

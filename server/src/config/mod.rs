//! Settings of a replica: each by flag or by environment variable, flag first. Read once in `cli` and handed
//! down as plain values; nothing below looks at the environment again.

mod secret;

use std::net::SocketAddr;
use std::path::PathBuf;

use url::Url;

pub use secret::{SecretKey, SecretKeyError};

/// Everything `qwexcloud serve` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub http: HttpSettings,
    #[command(flatten)]
    pub storage: StorageSettings,
    #[command(flatten)]
    pub log: LogSettings,
}

/// Where Postgres is, and how many connections it gives.
#[derive(Clone, clap::Args)]
pub struct DatabaseSettings {
    /// Postgres, like postgres://user:password@host:5432/qwex
    #[arg(
        id = "database_url",
        long = "database-url",
        env = "QWEX_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub url: String,
    /// Most connections of this replica, over all its pools
    #[arg(
        id = "database_connections",
        long = "database-connections",
        env = "QWEX_DATABASE_CONNECTIONS",
        default_value_t = 24,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(6..=10_000)
    )]
    pub connections: u32,
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("DatabaseSettings")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// How the API is served.
#[derive(Debug, Clone, clap::Args)]
pub struct HttpSettings {
    /// Address of the API
    #[arg(
        long,
        env = "QWEX_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,
    /// Address of /metrics alone; without it /metrics is served with the API
    #[arg(long, env = "QWEX_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where clients reach this server; stands in links of webhooks [default: http://LISTEN]
    #[arg(long, env = "QWEX_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<Url>,
    /// Seconds between "not ready" and the end of accepting connections when the server leaves
    #[arg(
        long,
        env = "QWEX_DRAIN_DELAY",
        default_value_t = 2,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(0..=8)
    )]
    pub drain_delay: u64,
    /// Requests per second that one token may make on average; ten times as many at once; 0 turns the limit off
    #[arg(long, env = "QWEX_RATE_LIMIT", default_value_t = 200, value_name = "N")]
    pub rate_limit: u32,
}

impl HttpSettings {
    /// Base of the links that leave the server, without a slash at the end.
    #[must_use]
    pub fn public_base(&self) -> String {
        match &self.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.listen),
        }
    }
}

/// Where bytes lie that are not rows, and the key that seals secrets.
#[derive(Clone, clap::Args)]
pub struct StorageSettings {
    /// Directory of what this replica keeps on disk [default: $XDG_DATA_HOME/qwex]
    #[arg(long, env = "QWEX_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Log archive: file:///DIR, s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH; credentials come from that
    /// service's own environment variables [default: the directory `archive` in the data directory]
    #[arg(long, env = "QWEX_ARCHIVE_URL", value_name = "URL")]
    pub archive_url: Option<Url>,
    /// Key that seals kubeconfigs and webhook secrets: 32 bytes in hex or base64
    #[arg(
        long,
        env = "QWEX_SECRET_KEY",
        hide_env_values = true,
        value_name = "KEY",
        conflicts_with = "secret_key_file"
    )]
    pub secret_key: Option<SecretKey>,
    /// File that holds the secret key
    #[arg(long, env = "QWEX_SECRET_KEY_FILE", value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
}

impl std::fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An archive URL may hold credentials.
        f.debug_struct("StorageSettings")
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// Why no place on disk could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("there is no data directory: neither --data-dir nor XDG_DATA_HOME nor HOME is set")]
    NoDataDir,
    #[error("the data directory {0} cannot be written as a file URL")]
    NoUrl(PathBuf),
}

impl StorageSettings {
    /// The data directory, absolute.
    ///
    /// # Errors
    /// Nothing says where it is.
    pub fn data_dir(&self) -> Result<PathBuf, StorageError> {
        let chosen = self.data_dir.clone().or_else(default_data_dir);
        let dir = chosen.ok_or(StorageError::NoDataDir)?;
        std::path::absolute(&dir).map_err(|_| StorageError::NoUrl(dir))
    }

    /// Where the log archive is.
    ///
    /// # Errors
    /// It is in the data directory and nothing says where that is.
    pub fn archive_url(&self) -> Result<Url, StorageError> {
        match &self.archive_url {
            Some(url) => Ok(url.clone()),
            None => {
                let dir = self.data_dir()?.join("archive");
                Url::from_directory_path(&dir).map_err(|()| StorageError::NoUrl(dir))
            }
        }
    }

    /// The key that seals secrets.
    ///
    /// # Errors
    /// None was given, or its file does not hold one.
    pub fn secret_key(&self) -> Result<SecretKey, SecretKeyError> {
        match (&self.secret_key, &self.secret_key_file) {
            (Some(key), _) => Ok(key.clone()),
            (None, Some(file)) => SecretKey::from_file(file),
            (None, None) => Err(SecretKeyError::Missing),
        }
    }
}

/// `$XDG_DATA_HOME/qwex`, else `~/.local/share/qwex`.
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// `$QWEX_CONFIG_DIR`, else `$XDG_CONFIG_HOME/qwex`, else `~/.config/qwex`: where the contexts of the user lie.
#[must_use]
pub fn user_config_dir() -> Option<PathBuf> {
    let own = std::env::var_os("QWEX_CONFIG_DIR").filter(|dir| !dir.is_empty());
    own.map(PathBuf::from)
        .or_else(|| xdg("XDG_CONFIG_HOME", ".config"))
}

fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    // The XDG specification says that a relative path is to be ignored.
    let set = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let base = set.or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        home.is_absolute().then(|| home.join(below_home))
    })?;
    Some(base.join("qwex"))
}

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct LogSettings {
    /// What to log: a level, or directives like info,qwexcloud=debug
    #[arg(
        id = "log",
        long = "log",
        env = "QWEX_LOG",
        default_value = "info,sqlx::postgres::notice=warn",
        value_name = "FILTER"
    )]
    pub filter: String,
    /// How lines of the log look
    #[arg(
        id = "log_format",
        long = "log-format",
        env = "QWEX_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub format: LogFormat,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

//! One `qwexcloud dev` for all tests of this binary; it ends with the test process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_runner::Backend as _;
use qwex_testbed::process::{Process, Spec};
use qwex_testbed::{ports, scratch};
use qwexctl::remote::{Backend, Endpoint, HttpJobApiClient};
use tokio::sync::OnceCell;

/// Long, because the machine may build at the same time.
const READY: Duration = Duration::from_secs(120);

/// Where it is and whom it lets in.
pub struct Server {
    address: String,
    token: String,
    _process: Process,
}

/// Starts it for the first who asks.
pub async fn shared() -> Result<&'static Server> {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_try_init(start).await
}

impl Server {
    /// A client of its own for each test: connections live in the runtime of the test that made them.
    pub fn backend(&self) -> Backend {
        backend(&self.address, &self.token).expect("the address is one")
    }
}

fn backend(address: &str, token: &str) -> Result<Backend> {
    let client = HttpJobApiClient::new(Endpoint {
        server: address.to_owned(),
        token: Some(token.into()),
        retry_for: Duration::from_secs(10),
        notice: Box::new(|_| {}),
    })?;
    Ok(Backend::new(Arc::new(client), None))
}

async fn start() -> Result<Server> {
    let dir = scratch::dir("dev")?;
    let listen = ports::free_addr()?.to_string();
    let address = format!("http://{listen}");
    let process = Spec::new(binary()?, dir.join("dev.log"))
        .args(["dev", "--listen", &listen])
        .env("QWEX_DATA_DIR", dir.join("data"))
        .env("QWEX_CONFIG_DIR", dir.join("config"))
        .start()?;
    let contexts = dir.join("config/contexts.yaml");
    let token = process
        .ready(READY, || async {
            let token = token_in(&contexts)?;
            backend(&address, &token).ok()?.probe().await.ok()?;
            Some(token)
        })
        .await?;
    Ok(Server {
        address,
        token,
        _process: process,
    })
}

/// The token that `dev` leaves to the client: one line of its one context.
fn token_in(contexts: &Path) -> Option<String> {
    let text = std::fs::read_to_string(contexts).ok()?;
    let token = text.lines().find_map(|line| line.trim().strip_prefix("token: "));
    token.map(str::to_owned)
}

/// The server's binary, built beside ours.
fn binary() -> Result<PathBuf> {
    let ours = Path::new(env!("CARGO_BIN_EXE_qwexctl"));
    let path = ours
        .parent()
        .context("a binary lies in a directory")?
        .join("qwexcloud");
    ensure!(
        path.is_file(),
        "{} is missing: run `cargo build --bins` first",
        path.display()
    );
    Ok(path)
}

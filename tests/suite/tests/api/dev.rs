//! `qwexcloud dev` from outside: started, killed, started again, ended; nothing is lost and nothing is left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use qwex_suite::{Api, binary};
use qwex_testbed::process::{Process, Spec, tail};
use qwex_testbed::{ports, wait};
use serde_json::json;

const READY: Duration = Duration::from_secs(60);
const OVER: Duration = Duration::from_secs(30);

async fn start(dir: &Path, listen: &str) -> Result<(Process, Api)> {
    let process = Spec::new(binary("qwexcloud")?, dir.join("dev.log"))
        .args(["dev", "--listen", listen])
        .env("QWEX_DATA_DIR", dir.join("data"))
        .env("QWEX_CONFIG_DIR", dir.join("config"))
        .start()?;
    let open = Api::new(format!("http://{listen}"), "");
    process
        .ready(READY, || async {
            open.get("/readyz")
                .await
                .ok()
                .filter(|reply| reply.status == 200)
                .map(|_| ())
        })
        .await?;
    // Written before it listens to people, read as the client does: one `token:` line of the one context.
    let contexts = std::fs::read_to_string(dir.join("config/contexts.yaml"))?;
    let token = contexts
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: "));
    Ok((process, open.with_token(token.with_context(|| contexts.clone())?)))
}

/// The embedded Postgres of a data directory, if one runs.
fn postmaster(dir: &Path) -> Option<u32> {
    let file = std::fs::read_to_string(dir.join("data/postgres/data/postmaster.pid")).ok()?;
    let pid: u32 = file.lines().next()?.trim().parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

#[tokio::test]
async fn dev_keeps_its_history_over_a_kill_and_ends_with_everything_it_started() -> Result<()> {
    qwex_testbed::require!(Postgres);
    let dir = tempfile::tempdir()?;
    // What `mktemp -d` of root looks like: Postgres, which refuses root, must get through all the same.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700))?;
    let listen = ports::free_addr()?.to_string();
    let (first, api) = start(dir.path(), &listen).await?;
    let mode = std::fs::metadata(dir.path().join("config/contexts.yaml"))?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o600, "others may read the token: {mode:o}");
    let run = api.submit(&json!({"command": "echo before the kill"})).await?;
    api.until_sealed(run.id, OVER).await?;
    let token = api.token.clone();

    let second = Spec::new(binary("qwexcloud")?, dir.path().join("second.log"))
        .args(["dev", "--listen", "127.0.0.1:0"])
        .env("QWEX_DATA_DIR", dir.path().join("data"))
        .env("QWEX_CONFIG_DIR", dir.path().join("config"))
        .start()?;
    let refused = wait::until(OVER, "a second dev to be refused", || async { second.exit() }).await?;
    let said = tail(&dir.path().join("second.log"), 4096)?;
    ensure!(
        !refused.success() && said.contains("another `qwexcloud dev` uses"),
        "{said}"
    );

    first.stop(Signal::SIGKILL, OVER).await?;
    let (again, api) = start(dir.path(), &listen).await?;
    ensure!(
        api.token == token,
        "the token of the context is still valid and stays"
    );
    ensure!(api.run(run.id).await?.status.is_terminal());
    ensure!(api.log(run.id).await? == "before the kill\n");
    let later = api.submit(&json!({"command": "echo after it"})).await?;
    api.until_sealed(later.id, OVER).await?;

    let postgres = postmaster(dir.path()).context("no Postgres runs")?;
    let status = again.stop(Signal::SIGINT, Duration::from_secs(25)).await?;
    ensure!(
        status.success(),
        "{status}: {}",
        tail(&dir.path().join("dev.log"), 4096)?
    );
    ensure!(
        !Path::new(&format!("/proc/{postgres}")).exists(),
        "its Postgres runs on"
    );
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_before_anything_starts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listen = taken.local_addr()?.to_string();
    let log = dir.path().join("dev.log");
    let mut process = Spec::new(binary("qwexcloud")?, &log)
        .args(["dev", "--listen", &listen])
        .env("QWEX_DATA_DIR", dir.path().join("data"))
        .env("QWEX_CONFIG_DIR", dir.path().join("config"))
        .start()?;
    ensure!(!process.wait(OVER).await?.success());
    let said = tail(&log, 4096)?;
    ensure!(said.contains(&listen) && said.contains("--listen"), "{said}");
    ensure!(!dir.path().join("data").exists(), "a database was made");
    Ok(())
}

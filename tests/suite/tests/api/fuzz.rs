//! Generated requests, valid and not, against the real server: no 5xx, nothing that the document does not say.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::process::{Spec, tail};

/// Why the generator cannot be had here.
fn missing() -> Option<String> {
    let found = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    let there = found.is_ok_and(|output| output.status.success());
    (!there).then(|| "python3 with venv is not installed: apt-get install python3-venv".to_owned())
}

#[tokio::test]
async fn f06_generated_requests_get_documented_answers() -> Result<()> {
    qwex_testbed::require!(Postgres);
    if qwex_testbed::require::skip_for(missing()) {
        return Ok(());
    }
    // Without a cluster: generated commands are recorded, never executed.
    let setup = ServerSetup {
        local_cluster: None,
        ..Default::default()
    };
    let server = Server::start_with(setup).await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemathesis.sh");
    let log = server.dir.path().join("schemathesis.log");
    let mut fuzz = Spec::new(script, &log)
        .args([&server.api.base, &server.api.token])
        .env("QWEX_FUZZ_EXAMPLES", "5")
        .start()?;
    let status = fuzz.wait(Duration::from_secs(600)).await?;
    ensure!(
        status.success(),
        "{}",
        tail(&log, 20_000).context("no log of schemathesis")?
    );
    let said = server.log()?;
    ensure!(!said.contains("ERROR"), "an error was logged: {said}");
    Ok(())
}

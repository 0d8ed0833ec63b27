//! The log archive has no room: the run does not care, the log waits, and is whole once there is room again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use qwex_core::{LogVerdict, RunStatus};
use qwex_suite::{Server, ServerSetup};
use qwex_testbed::{require, wait};
use tempfile::TempDir;

use crate::support::{LIMIT, over, shell};

const SIZE: u64 = 512 * 1024;

/// A file system of half a MiB, gone with the test.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mounted() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let options = format!("size={SIZE}");
        let kind = Some("tmpfs");
        mount(kind, dir.path(), kind, MsFlags::empty(), Some(options.as_str()))
            .context("mount a small disk")?;
        Ok(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) -> Result<PathBuf> {
        let ballast = self.path().join("ballast");
        let written = std::fs::write(&ballast, vec![1; usize::try_from(SIZE)? * 2]);
        ensure!(written.is_err(), "the disk is larger than it was made");
        Ok(ballast)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

#[tokio::test]
async fn d12_a_full_archive_loses_no_byte_and_ends_no_run() -> Result<()> {
    require!(Root, Postgres);
    let disk = SmallDisk::mounted()?;
    let setup = ServerSetup {
        env: vec![(
            "QWEX_ARCHIVE_URL".to_owned(),
            format!("file://{}", disk.path().display()),
        )],
        ..ServerSetup::default()
    };
    let mut server = Server::start_with(setup).await?;
    let api = server.api.clone();
    let before = api.submit(&shell("echo before")).await?.id;
    api.until_sealed(before, LIMIT).await?;

    let ballast = disk.fill()?;
    // Hard to pack: it needs room in the archive.
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 7";
    let id = api.submit(&shell(script)).await?.id;
    let run = api.until(id, LIMIT, "over", over).await?;
    ensure!(
        (run.status, run.exit_code) == (RunStatus::Failed, Some(7)),
        "{run:#?}"
    );
    // The reason is told, with its cause.
    wait::until_ok(LIMIT, "the full disk to be told", || async {
        let log = server.log().map_err(|error| error.to_string())?;
        let told = |line: &str| line.contains("No space left on device") && line.contains(&id.to_string());
        log.lines()
            .any(told)
            .then_some(())
            .ok_or_else(|| server.log_tail())
    })
    .await?;
    let run = api.run(id).await?;
    ensure!(run.logs.is_none(), "sealed without room: {run:#?}");
    ensure!(api.get("/readyz").await?.status == 200, "other work goes on");
    ensure!(
        api.log(before).await? == "before\n",
        "what is archived can be read"
    );

    // Nothing of it depends on the memory of the one that read it.
    server.kill().await?;
    server.start_again().await?;
    wait::until(LIMIT, "the new server to meet the full disk", || async {
        server
            .log()
            .ok()?
            .contains("No space left on device")
            .then_some(())
    })
    .await?;
    std::fs::remove_file(ballast)?;
    let run = api.until_sealed(id, LIMIT).await?;
    let wanted: String = (0..2000).map(|line| format!("line {line}\n")).collect();
    let logs = run.logs.context("sealed")?;
    ensure!(
        (logs.verdict, logs.bytes) == (LogVerdict::Complete, wanted.len() as u64),
        "{logs:?}"
    );
    ensure!(api.log(id).await? == wanted);
    server.settle(&[]).await
}

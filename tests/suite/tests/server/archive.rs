//! The log archive has no room: the run does not care, the log waits, and is whole once there is room again.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use qwex_core::{LogVerdict, RunId, RunStatus};
use qwex_suite::{Api, Server, ServerSetup, binary};
use qwex_testbed::{require, wait};
use serde_json::Value;
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

/// What `why` says of the log of a run, once it says that it waits.
async fn waiting(api: &Api, id: RunId) -> Result<Value> {
    let told = wait::until_ok(LIMIT, "why to tell that the log waits", || async {
        let why = api
            .get(&format!("/v1/runs/{id}/why"))
            .await
            .map_err(|error| error.to_string())?
            .json();
        let waits = why["log_waiting"]["code"] == "no_space";
        waits.then(|| why.clone()).ok_or_else(|| why.to_string())
    });
    Ok(told.await?)
}

/// The value of a metric without labels.
async fn metric(api: &Api, name: &str) -> Option<f64> {
    let text = api.get("/metrics").await.ok()?.bytes;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn metrics_are(api: &Api, what: &str, wanted: impl Fn(f64, f64) -> bool) -> Result<()> {
    let seen = wait::until_ok(LIMIT, what, || async {
        let seconds = metric(api, "qwex_archive_failing_seconds").await;
        let runs = metric(api, "qwex_archive_waiting_runs").await;
        let fits = seconds
            .zip(runs)
            .is_some_and(|(seconds, runs)| wanted(seconds, runs));
        fits.then_some(())
            .ok_or_else(|| format!("{seconds:?} s, {runs:?} runs"))
    });
    Ok(seen.await?)
}

/// What a user is told of a run whose log waits, and what an operator of the server.
async fn is_told(api: &Api, id: RunId) -> Result<Value> {
    let why = waiting(api, id).await?;
    let log = &why["log_waiting"];
    let words = |field: &str| log[field].as_str().unwrap_or_default().to_owned();
    ensure!(words("message").contains("no space left"), "{why:#}");
    ensure!(words("hint").contains("QWEX_ARCHIVE_URL"), "{why:#}");
    ensure!(
        words("since") <= words("last_refused_at") && log["streams"].as_u64() > Some(0),
        "{why:#}"
    );
    let summary = why["summary"].as_str().unwrap_or_default();
    ensure!(
        summary.contains("(exit_code)") && summary.contains("its log waits for the log archive"),
        "{why:#}"
    );
    let ready = api.get("/readyz").await?.expect(200)?;
    let text = String::from_utf8_lossy(&ready.bytes).into_owned();
    ensure!(
        text.starts_with("ready\ndegraded: archive: failing since 2")
            && text.contains("no space left on its device; the log of 1 run waits"),
        "{text}"
    );
    let verbose = api.get("/readyz?verbose").await?.expect(200)?.json();
    let archive = verbose["checks"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["check"] == "archive"));
    let archive = archive.context("no check of the archive")?;
    ensure!(
        verbose["ready"] == true && verbose["degraded"] == true,
        "{verbose:#}"
    );
    ensure!(
        archive["ok"] == false && archive["needed"] == false,
        "{verbose:#}"
    );
    metrics_are(api, "the metrics to tell", |seconds, runs| {
        seconds > 0.0 && runs == 1.0
    })
    .await?;
    Ok(log["since"].clone())
}

/// `qwexctl why` as a person reads it.
async fn why_in_words(api: &Api, id: RunId) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let out = tokio::process::Command::new(binary("qwexctl")?)
        .args(["why", &id.to_string()])
        .env_clear()
        .env("HOME", dir.path())
        .env("QWEX_SERVER", &api.base)
        .env("QWEX_TOKEN", &api.token)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}

/// With room again: every byte is there, and nobody speaks of the archive any more.
async fn is_whole_and_clean(api: &Api, id: RunId) -> Result<()> {
    let run = api.until_sealed(id, LIMIT).await?;
    let wanted: String = (0..2000).map(|line| format!("line {line}\n")).collect();
    let logs = run.logs.context("sealed")?;
    ensure!(
        (logs.verdict, logs.bytes) == (LogVerdict::Complete, wanted.len() as u64),
        "{logs:?}"
    );
    ensure!(api.log(id).await? == wanted);
    let why = api.get(&format!("/v1/runs/{id}/why")).await?.json();
    ensure!(
        why["log_waiting"].is_null() && !why.to_string().contains("archive"),
        "{why:#}"
    );
    ensure!(api.get("/readyz").await?.expect(200)?.bytes == "ready\n");
    metrics_are(api, "the metrics to be clean", |seconds, runs| {
        seconds == 0.0 && runs == 0.0
    })
    .await
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
    let since = is_told(&api, id).await?;
    let words = why_in_words(&api, id).await?;
    ensure!(
        words.contains("log: the log archive does not take the rest")
            && words.contains("to do: whoever runs the server makes room"),
        "{words}"
    );
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
    ensure!(
        is_told(&api, id).await? == since,
        "it waits since then, whoever tells it"
    );
    std::fs::remove_file(ballast)?;
    is_whole_and_clean(&api, id).await?;
    server.settle(&[]).await
}

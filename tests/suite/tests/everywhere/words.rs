//! `run -d -- sleep 60`, attach from elsewhere, leave, cancel, wait, why: the same words and exit codes on every backend.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qwex_testbed::{require, wait};

use crate::bed::{Bed, IMAGE, LIMIT};

const BACKENDS: [&str; 6] = ["local", "docker", "podman", "ssh", "k8s", "kueue"];
/// What a shell tells of a program that SIGINT ended.
const LEFT: i32 = 130;

/// All that a user reads of a run from its start to its cancelled end.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    attached: i32,
    while_running: String,
    cancelled: i32,
    waited: i32,
    status: String,
    failure: String,
    why: String,
}

async fn words(bed: &Bed, backend: &str) -> Result<Words> {
    let mut args = vec!["run", "-d", "--backend", backend];
    match backend {
        "local" => {}
        "ssh" => args.extend(["--host", "build1"]),
        "kueue" => args.extend([
            "--image", IMAGE, "--queue", "main", "--cpu", "100m", "--memory", "64Mi",
        ]),
        _ => args.extend(["--image", IMAGE]),
    }
    args.extend(["--", "sleep", "60"]);
    let id = bed.qwexctl(&args).await?.expect(0)?.out.trim().to_owned();
    wait::until_ok(LIMIT, &format!("{backend} to run it"), || async {
        let run = bed.run_of(&id).await?;
        ensure!(run["status"] == "running", "{run:#}");
        Ok(())
    })
    .await?;
    let while_running = without(&bed.qwexctl(&["why", &id]).await?.expect(0)?.out);
    let attached = leave(bed, &id).await?;
    let cancelled = bed.qwexctl(&["cancel", &id]).await?.code;
    let waited = bed.qwexctl(&["wait", &id]).await?.code;
    let run = bed.run_of(&id).await?;
    Ok(Words {
        attached,
        while_running,
        cancelled,
        waited,
        status: run["status"].to_string(),
        failure: run["failure"]["code"].to_string(),
        why: without(&bed.qwexctl(&["why", &id]).await?.out),
    })
}

/// Attaches from another terminal, and leaves by Ctrl-C.
async fn leave(bed: &Bed, id: &str) -> Result<i32> {
    let mut attached = bed.command(&["attach", id])?.spawn()?;
    let pid = i32::try_from(attached.id().context("attach ended at once")?)?;
    wait::until(LIMIT, "attach to listen for Ctrl-C", || async {
        listens(pid).then_some(())
    })
    .await?;
    kill(Pid::from_raw(pid), Signal::SIGINT)?;
    let left = tokio::time::timeout(Duration::from_secs(30), attached.wait()).await;
    let code = left.context("attach does not let go")??.code();
    code.context("attach was killed")
}

/// Whether a process has a handler for SIGINT.
fn listens(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (Signal::SIGINT as u64 - 1)) != 0)
}

/// What the first line says before it comes to what is of this run alone.
fn without(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    first.split(':').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_left_cancelled_and_explained_in_the_same_words_everywhere() -> Result<()> {
    require!(Root, Containerd, Go, Docker, Podman, Sshd);
    let bed = Bed::new().await?;
    let all = futures::future::try_join_all(BACKENDS.map(|backend| words(&bed, backend))).await?;
    let here = &all[0];
    ensure!(
        here.attached == LEFT && here.status == "\"cancelled\"",
        "{here:#?}"
    );
    for (backend, there) in BACKENDS.iter().zip(&all) {
        ensure!(there == here, "{backend}: {there:#?}\nlocal: {here:#?}");
    }
    Ok(())
}

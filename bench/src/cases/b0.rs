//! Whole programs: how long `qwexctl --version` takes beside a program that does nothing, and what an idle server holds.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::Bench;
use crate::calibrate::repeat;
use crate::load::Load;
use crate::report::{Goal, Report, Row};

const CASE: &str = "b0";
const LENGTH: Duration = Duration::from_millis(700);
/// A server is idle when what it did at start is over.
const SETTLE: Duration = Duration::from_secs(3);

/// # Errors
/// A binary is missing or fails.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let qwexctl = bench.binary("qwexctl")?;
    let trials = bench.knobs.trials;
    let (own, peer) = tokio::task::spawn_blocking(move || starts(&qwexctl, trials))
        .await
        .context("a trial panicked")??;
    report.add(
        Row::new(CASE, "qwexctl --version, whole process, p50", "ms", own.clone()).goal(Goal::AtMost(5.0)),
    );
    report.add(
        Row::new(CASE, "the same", "ms", own)
            .beside("/bin/true, p50 ms", peer)
            .goal(Goal::RatioAtMost(2.0)),
    );
    let mut resident = Vec::new();
    for _ in 0..trials {
        let server = bench.server().await?;
        tokio::time::sleep(SETTLE).await;
        resident.push(resident_mib(server.pid()?)?);
    }
    report.add(Row::new(CASE, "memory of an idle server (RSS)", "MiB", resident).goal(Goal::AtMost(60.0)));
    Ok(())
}

fn starts(qwexctl: &Path, trials: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    let median = |load: Load| load.percentile(50);
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..trials {
        peer.push(repeat(LENGTH, || start(Path::new("/bin/true"), &[])).map(median)?);
        own.push(repeat(LENGTH, || start(qwexctl, &["--version"])).map(median)?);
    }
    Ok((own, peer))
}

fn start(program: &Path, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(())
}

fn resident_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("the kernel tells no RSS")?.parse()?;
    Ok(kib / 1024.0)
}

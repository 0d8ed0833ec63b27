//! The command line alone: a detached run with its durable record, beside what cannot be less, the start of a process and
//! one synced file; and a list of very many runs.

mod list;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_testbed::scratch;

use super::cli::Desk;
use crate::bench::Bench;
use crate::calibrate::repeat;
use crate::load::Load;
use crate::report::{Goal, Report, Row};

const CASE: &str = "b3";
const LENGTH: Duration = Duration::from_secs(2);

/// # Errors
/// A binary is missing, a run fails or is not on record.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let qwexctl = bench.binary("qwexctl")?;
    let trials = bench.knobs.trials;
    let measured = tokio::task::spawn_blocking(move || detached(&qwexctl, trials));
    let (own, floor) = measured.await.context("a trial panicked")??;
    let what = "qwexctl run -d -- true, p50";
    report.add(Row::new(CASE, what, "ms", own.clone()).goal(Goal::AtMost(5.0)));
    report.add(
        Row::new(CASE, what, "ms", own)
            .beside("spawn of /bin/true + a synced file, p50 ms", floor)
            .goal(Goal::RatioAtMost(3.0)),
    );
    listed(bench, report).await
}

async fn listed(bench: &Bench, report: &mut Report) -> Result<()> {
    let qwexctl = bench.binary("qwexctl")?;
    let (trials, records) = (bench.knobs.trials, bench.knobs.records);
    let measured = tokio::task::spawn_blocking(move || list::measure(&qwexctl, trials, records));
    let list::Times { many, few } = measured.await.context("a trial panicked")??;
    let what = format!("qwexctl ls of {records} runs, p50");
    report.add(
        Row::new(CASE, what, "ms", many)
            .beside("the same of 50 runs, p50 ms", few)
            .goal(Goal::AtMost(20.0)),
    );
    Ok(())
}

fn detached(qwexctl: &Path, trials: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    let desk = Desk::new(qwexctl, "b3")?;
    let peer = scratch::dir("b3-floor")?;
    let (mut own, mut floor) = (Vec::new(), Vec::new());
    let mut runs = 0;
    desk.run(&["run", "--backend", "local", "-d", "--", "true"])?;
    for _ in 0..trials {
        floor.push(median(&repeat(LENGTH, || start_and_record(&peer))?));
        let load = repeat(LENGTH, || {
            desk.run(&["run", "--backend", "local", "-d", "--", "true"])
        })?;
        runs += load.count();
        own.push(median(&load));
    }
    let recorded = desk.recorded()?;
    ensure!(
        recorded == runs + 1,
        "{} runs were made, {recorded} are on record",
        runs + 1
    );
    Ok((own, floor))
}

fn median(load: &Load) -> f64 {
    load.percentile(50)
}

/// A new file as durable as a record must be (written, synced, renamed, its directory synced), and a process.
fn start_and_record(dir: &Path) -> Result<()> {
    let half = dir.join("half");
    let mut file = File::create(&half)?;
    file.write_all(&[b' '; 1024])?;
    file.sync_all()?;
    fs::rename(&half, dir.join("run.json"))?;
    File::open(dir)?.sync_all()?;
    let status = Command::new("/bin/true").status()?;
    ensure!(status.success(), "/bin/true failed");
    Ok(())
}

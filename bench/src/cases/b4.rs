//! A thousand short commands, two at a time, each with its full record, beside tools that keep none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};

use super::cli::Desk;
use crate::bench::Bench;
use crate::report::{Goal, Report, Row};

const CASE: &str = "b4";
const COMMANDS: u32 = 1000;
const AT_A_TIME: usize = 2;

/// Commands a second, trial by trial.
struct Rates {
    own: Vec<f64>,
    xargs: Vec<f64>,
    /// Empty where GNU parallel is not installed.
    parallel: Vec<f64>,
}

/// # Errors
/// A binary is missing, a run fails or is not on record.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let qwexctl = bench.binary("qwexctl")?;
    let trials = bench.knobs.trials;
    let measured = tokio::task::spawn_blocking(move || measure(&qwexctl, trials));
    let Rates { own, xargs, parallel } = measured.await.context("a trial panicked")??;
    let row = |own: &[f64]| {
        let what = "1,000 × qwexctl run -- true with full record, 2 at a time";
        Row::new(CASE, what, "/s", own.to_vec())
    };
    report.add(
        row(&own)
            .beside("xargs -P2 true, /s", xargs)
            .goal(Goal::RatioAtLeast(0.5)),
    );
    let absent = parallel
        .is_empty()
        .then(|| "GNU parallel is not installed".to_owned());
    let beside = row(&own).beside("parallel -j2 true, /s", parallel);
    report.add(beside.goal(Goal::RatioAtLeast(3.0)).invalid(absent));
    Ok(())
}

fn measure(qwexctl: &Path, trials: u32) -> Result<Rates> {
    let parallel = gnu_parallel();
    let mut rates = Rates {
        own: Vec::new(),
        xargs: Vec::new(),
        parallel: Vec::new(),
    };
    for trial in 0..trials {
        rates.xargs.push(rate(|| {
            shell(&format!("seq {COMMANDS} | xargs -P{AT_A_TIME} -n1 /bin/true"))
        })?);
        if let Some(program) = &parallel {
            let program = program.display();
            rates.parallel.push(rate(|| {
                shell(&format!("seq {COMMANDS} | {program} -j{AT_A_TIME} /bin/true"))
            })?);
        }
        let desk = Desk::new(qwexctl, &format!("b4-{trial}"))?;
        rates.own.push(rate(|| all(&desk))?);
        let recorded = desk.recorded()?;
        ensure!(
            recorded == COMMANDS as usize,
            "{recorded} of {COMMANDS} runs are on record"
        );
    }
    Ok(rates)
}

fn rate(step: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    step()?;
    Ok(f64::from(COMMANDS) / began.elapsed().as_secs_f64())
}

/// Every run in a process of its own, as a script would start them.
fn all(desk: &Desk) -> Result<()> {
    let left = AtomicU32::new(COMMANDS);
    let take = || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    };
    let work = || {
        while take() {
            desk.run(&["run", "--backend", "local", "--", "/bin/true"])?;
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

fn shell(line: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", line])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "{line} ended with {status}");
    Ok(())
}

/// Another program of that name (of moreutils) takes other arguments.
fn gnu_parallel() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("parallel"))
        .find(|file| file.is_file())?;
    let version = Command::new(&found).arg("--version").output().ok()?;
    let is_gnu = String::from_utf8_lossy(&version.stdout).contains("GNU parallel");
    is_gnu.then_some(found)
}

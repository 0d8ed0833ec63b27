//! `qwex-bench`: what qwex costs beside the limits of this machine and beside doing the same without it.
//!
//! For people, by hand or with `make bench`; no test runs it. Every result is a ratio to a peer of the same minute.

mod bench;
mod calibrate;
mod cases;
mod load;
mod open_loop;
mod report;
mod sql;
mod stats;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use bench::{Bench, Knobs};
use report::Report;

/// Measures qwex beside a peer, at least five times, and prints ratios as a table in Markdown.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// What to measure; the calibration always comes first
    #[arg(value_enum, default_value = "all")]
    cases: Vec<Case>,
    /// Trials of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,
    /// Seconds of one trial of a load
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// b2: submits a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// b6: Jobs of a trial
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(16..=20_000))]
    jobs: u32,
    /// b10: runs in the database
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=50_000_000))]
    rows: u32,
    /// b3: runs on record in the directory that is listed
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    records: u32,
    /// The `qwexcloud` to measure, with `qwexctl` in the same directory [default: beside this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Also writes everything measured here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    All,
    /// The limits of this machine
    Calibrate,
    /// Start of qwexctl, memory of an idle server
    B0,
    /// Durable submits, 256 connections
    B1,
    /// Latency of a submit, open loop
    B2,
    /// A detached run with its record, beside a process and a synced file; a list of very many runs
    B3,
    /// A thousand short runs, two at a time, beside xargs and GNU parallel
    B4,
    /// Jobs into one API server, beside a bare client
    B6,
    /// Pages of a long list, beside the bare query
    B10,
    /// A run in a container, beside `docker run --rm` and the bare calls of the API
    B15,
    /// Runs over ssh, beside a bare `ssh HOST true`
    B16,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let knobs = Knobs {
        trials: options.trials,
        length: Duration::from_secs(options.seconds),
        rate: options.rate,
        jobs: options.jobs,
        rows: options.rows,
        records: options.records,
    };
    let bench = Bench::start(options.server, knobs).await?;
    let mut report = Report::begin(&bench).await?;
    let ended = measure(&options.cases, &bench, &mut report).await;
    report.end();
    // What was measured before a failure is still worth reading.
    print!("{}", report.markdown());
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    ended?;
    Ok(if report.is_valid() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

async fn measure(cases: &[Case], bench: &Bench, report: &mut Report) -> Result<()> {
    calibrate::run(bench, report).await.context("calibrate")?;
    let wants = |case| cases.contains(&case) || cases.contains(&Case::All);
    if wants(Case::B0) {
        cases::b0::run(bench, report).await.context("b0")?;
    }
    if wants(Case::B1) {
        cases::b1::run(bench, report).await.context("b1")?;
    }
    if wants(Case::B2) {
        cases::b2::run(bench, report).await.context("b2")?;
    }
    if wants(Case::B3) {
        cases::b3::run(bench, report).await.context("b3")?;
    }
    if wants(Case::B4) {
        cases::b4::run(bench, report).await.context("b4")?;
    }
    if wants(Case::B6) {
        cases::b6::run(bench, report).await.context("b6")?;
    }
    if wants(Case::B10) {
        cases::b10::run(bench, report).await.context("b10")?;
    }
    if wants(Case::B15) {
        cases::b15::run(bench, report).await.context("b15")?;
    }
    if wants(Case::B16) {
        cases::b16::run(bench, report).await.context("b16")?;
    }
    Ok(())
}

//! `qwexctl ls` in a directory with very many runs on record, beside the same with fifty.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qwex_core::{Attempt, RunId};

use super::super::cli::Desk;
use crate::calibrate::repeat;

const LENGTH: Duration = Duration::from_secs(1);
/// As many as a list shows when nothing is said.
const PAGE: u32 = 50;

/// Milliseconds of each trial: among all runs, and among a page of them.
pub struct Times {
    pub many: Vec<f64>,
    pub few: Vec<f64>,
}

/// # Errors
/// A run cannot be recorded or a list is not whole.
pub fn measure(qwexctl: &Path, trials: u32, records: u32) -> Result<Times> {
    let many = desk(qwexctl, "b3-many", records)?;
    let few = desk(qwexctl, "b3-few", PAGE)?;
    let mut times = Times {
        many: Vec::new(),
        few: Vec::new(),
    };
    for _ in 0..trials {
        for (desk, times) in [(&many, &mut times.many), (&few, &mut times.few)] {
            times.push(repeat(LENGTH, || desk.run(&["ls", "--local"]))?.percentile(50));
        }
    }
    Ok(times)
}

/// A project with that many ended runs: one that was made by the program, and copies of it under other ids.
fn desk(qwexctl: &Path, name: &str, records: u32) -> Result<Desk> {
    let desk = Desk::new(qwexctl, name)?;
    desk.run(&["run", "--backend", "local", "--", "true"])?;
    let runs = desk.dir.join(".qwex/runs");
    let first = fs::read_dir(&runs)?.next().context("no run is on record")??;
    let id = first.file_name().into_string().ok().context("an id")?;
    let record = fs::read_to_string(first.path().join("run.json"))?;
    let object = |id: &str| anyhow::Ok(id.parse::<RunId>()?.object_name(Attempt::FIRST));
    for _ in 1..records {
        let copy = RunId::mint().to_string();
        let dir = runs.join(&copy);
        fs::create_dir(&dir)?;
        let record = record.replace(&object(&id)?, &object(&copy)?).replace(&id, &copy);
        fs::write(dir.join("run.json"), record)?;
    }
    // The first list makes the index; it is timed by nobody, as it comes once.
    let listed = desk
        .call(&["ls", "--local", "-q"])
        .stdout(std::process::Stdio::piped())
        .output()?;
    let lines = listed.stdout.iter().filter(|byte| **byte == b'\n').count();
    ensure!(
        listed.status.success() && lines == PAGE as usize,
        "{lines} of {PAGE} runs are listed"
    );
    Ok(desk)
}

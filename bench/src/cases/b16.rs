//! A run over ssh with its full record, beside a bare `ssh HOST true` over a shared connection.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qwex_core::{Attempt, Ending, Fact, JobSpec, Project, RunId};
use qwex_runner::{Handle, Runner, Watcher, Work};
use qwex_runner_ssh::{SshBackend, SshConfig, Supervisor};
use qwex_testbed::scratch;
use qwex_testbed::sshd::Sshd;
use tokio::process::Command;

use crate::bench::Bench;
use crate::report::{Goal, Report, Row};
use crate::stats::Summary;

const CASE: &str = "b16";
/// Of each kind, in turn, so that what slows one slows all.
const ROUNDS: usize = 30;
/// Of one run.
const LIMIT: Duration = Duration::from_secs(30);

/// Milliseconds of each kind, a median for each trial.
#[derive(Default)]
struct Times {
    bare: Vec<f64>,
    whole: Vec<f64>,
    submit: Vec<f64>,
    anew: Vec<f64>,
}

/// # Errors
/// A binary or sshd is missing, or a run fails.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let desk = Desk::new(bench.binary("qwexctl")?).await?;
    let mut times = Times::default();
    for _ in 0..bench.knobs.trials {
        trial(&desk, &mut times).await?;
    }
    let Times {
        bare,
        whole,
        submit,
        anew,
    } = times;
    let row = |what: &str, own: Vec<f64>, most: f64| {
        Row::new(CASE, what, "ms", own)
            .beside("ssh HOST true over a shared connection, p50 ms", bare.clone())
            .goal(Goal::RatioAtMost(most))
    };
    report.add(row("a durable submit of true over ssh, p50", submit, 1.3));
    report.add(row("true over ssh, from submit to its end told, p50", whole, 1.3));
    report.add(row("the same by a caller that has just started, p50", anew, 5.0));
    Ok(())
}

async fn trial(desk: &Desk, times: &mut Times) -> Result<()> {
    let kept = desk.backend()?;
    // The supervisor and all connections are there before anything is timed.
    desk.whole(&kept).await?;
    desk.bare().await?;
    let mut round = Times::default();
    for _ in 0..ROUNDS {
        round.bare.push(timed(desk.bare()).await?);
        round.submit.push(timed(submit(&kept)).await?);
        round.whole.push(timed(desk.whole(&kept)).await?);
        let anew = desk.backend()?;
        round.anew.push(timed(desk.whole(&anew)).await?);
    }
    times.bare.push(median(&round.bare));
    times.submit.push(median(&round.submit));
    times.whole.push(median(&round.whole));
    times.anew.push(median(&round.anew));
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    Summary::of(values).map_or(0.0, |summary| summary.median)
}

async fn timed<T>(step: impl Future<Output = Result<T>>) -> Result<f64> {
    let began = Instant::now();
    step.await?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// A host, and a way to it with a shared connection of each side's own.
struct Desk {
    sshd: Sshd,
    dir: PathBuf,
    qwexctl: PathBuf,
}

impl Desk {
    async fn new(qwexctl: PathBuf) -> Result<Self> {
        Ok(Self {
            sshd: Sshd::start().await?,
            dir: scratch::dir("b16")?,
            qwexctl,
        })
    }

    fn backend(&self) -> Result<SshBackend> {
        let place = |name: &str| self.dir.join(name).display().to_string();
        let mut config = SshConfig::new("testbed", "__supervise");
        config.remote_dir = place("there");
        config.cache_dir = place("cache");
        config.control_dir = Some(self.dir.join("c"));
        config.config_file = Some(self.sshd.config());
        config.supervisor = Supervisor::Program {
            path: self.qwexctl.clone(),
            subcommand: "__supervise".to_owned(),
        };
        Ok(SshBackend::new(config)?)
    }

    /// What cannot be less.
    async fn bare(&self) -> Result<()> {
        let socket = self.dir.join("bare");
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.sshd.config());
        ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60"])
            .arg("-o")
            .arg(option("ControlPath", &socket))
            .args(["testbed", "true"]);
        let ssh = ssh.stdin(Stdio::null()).stdout(Stdio::null());
        let status = ssh.stderr(Stdio::null()).status().await?;
        ensure!(status.success(), "ssh testbed true ended with {status}");
        Ok(())
    }

    /// A run from its submit until its end is told.
    async fn whole(&self, backend: &SshBackend) -> Result<()> {
        let handle = submit(backend).await?;
        let limit = Instant::now() + LIMIT;
        let ending = loop {
            ensure!(Instant::now() < limit, "the run does not end");
            let seen = backend.observe(&handle).await?;
            let ended = seen.into_iter().find_map(|seen| match seen.fact {
                Fact::Ended { ending, .. } => Some(ending),
                _ => None,
            });
            if let Some(ending) = ended {
                break ending;
            }
        };
        ensure!(
            matches!(ending, Ending::Succeeded { .. }),
            "true ended with {ending:?}"
        );
        ensure!(
            self.dir
                .join("there/runs")
                .join(handle.run_id.object_name(handle.attempt))
                .join("end.json")
                .is_file(),
            "the run is not on record"
        );
        Ok(())
    }
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push("=");
    option.push(path);
    option
}

async fn submit(backend: &SshBackend) -> Result<Handle> {
    let work = Work {
        run_id: RunId::mint(),
        attempt: Attempt::FIRST,
        project: Project::new("bench").context("a name")?,
        name: None,
        labels: BTreeMap::new(),
        spec: JobSpec::for_command(["true"]),
        workspace: None,
    };
    let submitted = backend.submit(&work).await?;
    Ok(Handle {
        run_id: work.run_id,
        attempt: work.attempt,
        backend: submitted.backend,
    })
}

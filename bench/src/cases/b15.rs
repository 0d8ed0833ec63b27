//! A run in a container with its full record, beside `docker run --rm` of the same image, and beside the three calls that
//! cannot be fewer: create, start, wait.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions, WaitContainerOptions};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use qwex_core::{Attempt, JobSpec, Project, RetryPolicy, RunId, RunState, RunStatus};
use qwex_runner::{Handle, Runner as _, Work, wait};
use qwex_runner_container::{ContainerBackend, ContainerConfig};
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::scratch;

use super::cli;
use crate::bench::Bench;
use crate::report::{Goal, Report, Row};
use crate::stats::Summary;

const CASE: &str = "b15";
/// Of each kind, in turn, so that what slows one slows all.
const ROUNDS: usize = 10;
/// Seconds that one call of the API may take.
const LIMIT: u64 = 60;

/// Milliseconds of each kind.
#[derive(Default)]
struct Times {
    /// `qwexctl run`, the whole process.
    program: Vec<f64>,
    /// `docker run --rm`, the whole process.
    docker: Vec<f64>,
    /// The backend in a process that goes on.
    backend: Vec<f64>,
    /// Create, start and wait by the API.
    bare: Vec<f64>,
}

/// # Errors
/// A binary or dockerd is missing, or a run fails or is not on record.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let desk = Desk::new(bench.binary("qwexctl")?).await?;
    desk.round().await?;
    let mut all = Times::default();
    for _ in 0..bench.knobs.trials {
        let mut trial = Times::default();
        for _ in 0..ROUNDS {
            let round = desk.round().await?;
            trial.program.extend(round.program);
            trial.docker.extend(round.docker);
            trial.backend.extend(round.backend);
            trial.bare.extend(round.bare);
        }
        all.program.push(median(&trial.program));
        all.docker.push(median(&trial.docker));
        all.backend.push(median(&trial.backend));
        all.bare.push(median(&trial.bare));
    }
    desk.is_recorded(1 + ROUNDS * bench.knobs.trials as usize)?;
    let above = all.backend.iter().zip(&all.bare).map(|(own, bare)| own - bare);
    let above = Row::new(
        CASE,
        "what the next line is above its peer, p50",
        "ms",
        above.collect(),
    );
    report.add(
        Row::new(
            CASE,
            "qwexctl run --backend docker, whole process, p50",
            "ms",
            all.program,
        )
        .beside("docker run --rm, p50 ms", all.docker)
        .goal(Goal::RatioAtMost(0.9)),
    );
    report.add(above.goal(Goal::AtMost(5.0)));
    report.add(
        Row::new(
            CASE,
            "the docker backend, submit to its end told, p50",
            "ms",
            all.backend,
        )
        .beside("create + start + wait by the API, p50 ms", all.bare),
    );
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    Summary::of(values).map_or(0.0, |summary| summary.median)
}

async fn timed(times: &mut Vec<f64>, step: impl Future<Output = Result<()>>) -> Result<()> {
    let began = Instant::now();
    step.await?;
    times.push(began.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

/// A dockerd of its own, and four ways to it.
struct Desk {
    dockerd: Dockerd,
    image: &'static str,
    cli: cli::Desk,
    backend: ContainerBackend,
    api: Docker,
}

impl Desk {
    async fn new(qwexctl: PathBuf) -> Result<Self> {
        let dockerd = Dockerd::start().await?;
        let image = dockerd.load_busybox().await?;
        let config = ContainerConfig::docker(scratch::dir("b15-records")?).at(Some(dockerd.host()));
        let api = Docker::connect_with_unix(&dockerd.host(), LIMIT, bollard::API_DEFAULT_VERSION)?;
        Ok(Self {
            image,
            cli: cli::Desk::new(&qwexctl, "b15")?,
            backend: ContainerBackend::open(config)?,
            api,
            dockerd,
        })
    }

    async fn round(&self) -> Result<Times> {
        let mut times = Times::default();
        timed(&mut times.docker, self.docker()).await?;
        timed(&mut times.program, self.program()).await?;
        timed(&mut times.bare, self.bare()).await?;
        timed(&mut times.backend, self.whole()).await?;
        Ok(times)
    }

    async fn docker(&self) -> Result<()> {
        let mut docker = self.dockerd.command();
        docker.args(["run", "--rm", "--network", "none", self.image, "true"]);
        let docker = docker.stdin(Stdio::null()).stdout(Stdio::null());
        let status = docker.stderr(Stdio::null()).status().await?;
        ensure!(status.success(), "docker run ended with {status}");
        Ok(())
    }

    async fn program(&self) -> Result<()> {
        let mut call = self
            .cli
            .call(&["run", "--backend", "docker", "--image", self.image]);
        call.args(["--network", "none", "--no-workspace", "--", "true"])
            .env("DOCKER_HOST", self.dockerd.host());
        let status = tokio::process::Command::from(call).status().await?;
        ensure!(status.success(), "qwexctl run ended with {status}");
        Ok(())
    }

    /// What cannot be less.
    async fn bare(&self) -> Result<()> {
        let body = ContainerCreateBody {
            image: Some(self.image.to_owned()),
            cmd: Some(vec!["true".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let made = self
            .api
            .create_container(None::<CreateContainerOptions>, body)
            .await?;
        self.api
            .start_container(&made.id, None::<StartContainerOptions>)
            .await?;
        let ended = self.api.wait_container(&made.id, None::<WaitContainerOptions>);
        let ended: Vec<_> = ended.try_collect().await?;
        let code = ended.last().map(|last| last.status_code);
        ensure!(code == Some(0), "true ended with {code:?}");
        Ok(())
    }

    /// A run from its submit until its end is told.
    async fn whole(&self) -> Result<()> {
        let work = Work {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
            project: Project::new("bench").context("a name")?,
            name: None,
            labels: BTreeMap::new(),
            spec: JobSpec {
                image: Some(self.image.to_owned()),
                network: Some("none".to_owned()),
                ..JobSpec::for_command(["true"])
            },
            workspace: None,
        };
        let submitted = self.backend.submit(&work).await?;
        let handle = Handle {
            run_id: work.run_id,
            attempt: work.attempt,
            backend: submitted.backend,
        };
        let mut state = RunState::accepted(Timestamp::now(), RetryPolicy::default());
        state.backend = Some(handle.backend.clone());
        let ended = wait(&self.backend, &handle, state).await?;
        ensure!(
            ended.status == RunStatus::Succeeded,
            "true ended as {}",
            ended.status.as_str()
        );
        Ok(())
    }

    fn is_recorded(&self, runs: usize) -> Result<()> {
        let recorded = self.cli.recorded()?;
        ensure!(
            recorded == runs,
            "{runs} runs were made, {recorded} are on record"
        );
        Ok(())
    }
}

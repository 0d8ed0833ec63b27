//! Engines that all tests of this binary share, backends of their own for each test, and short words for long things.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures::StreamExt as _;
use qwex_core::{
    Attempt, BackendInfo, Failure, FailureCode, JobSpec, Project, RetryPolicy, RunId, RunState, RunStatus,
};
use qwex_runner::conformance::{Subject, Submission, fold};
use qwex_runner::{
    CancelProgress, Handle, LogItem, LogPosition, Runner as _, Transfer, Watcher as _, Work, Workspace,
};
use qwex_runner_container::{ContainerBackend, ContainerConfig};
use qwex_testbed::dockerd::Dockerd;
use qwex_testbed::podman::Podman;
use qwex_testbed::wait;
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// Long, because the machine may build at the same time; each wait ends as soon as it can.
pub const LIMIT: Duration = Duration::from_secs(180);
/// Commands that do not feel TERM are killed after this long.
pub const GRACE: Duration = Duration::from_secs(1);

/// One of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Docker,
    Podman,
}

pub const BOTH: [Which; 2] = [Which::Docker, Which::Podman];

static DOCKER: OnceCell<(Dockerd, &'static str)> = OnceCell::const_new();
static PODMAN: OnceCell<(Podman, &'static str)> = OnceCell::const_new();

pub async fn docker() -> &'static Dockerd {
    &started_docker().await.0
}

pub async fn podman() -> &'static Podman {
    &started_podman().await.0
}

async fn started_docker() -> &'static (Dockerd, &'static str) {
    let start = || async {
        let engine = Dockerd::start().await?;
        let image = engine.load_busybox().await?;
        anyhow::Ok((engine, image))
    };
    DOCKER.get_or_try_init(start).await.unwrap()
}

async fn started_podman() -> &'static (Podman, &'static str) {
    let start = || async {
        let engine = Podman::start().await?;
        let image = engine.load_busybox().await?;
        anyhow::Ok((engine, image))
    };
    PODMAN.get_or_try_init(start).await.unwrap()
}

/// A backend with a state directory of its own.
pub struct Bench {
    pub backend: ContainerBackend,
    pub image: String,
    pub state: TempDir,
    pub config: ContainerConfig,
}

impl Which {
    pub async fn bench(self) -> Bench {
        let image = match self {
            Self::Docker => started_docker().await.1,
            Self::Podman => started_podman().await.1,
        };
        self.bench_at(&self.address().await, image)
    }

    pub fn bench_at(self, address: &str, image: &str) -> Bench {
        let state = tempfile::tempdir().unwrap();
        let mut config = match self {
            Self::Docker => ContainerConfig::docker(state.path()),
            Self::Podman => ContainerConfig::podman(state.path()),
        };
        config.address = Some(address.to_owned());
        config.grace = GRACE;
        Bench {
            backend: ContainerBackend::open(config.clone()).unwrap(),
            image: image.to_owned(),
            state,
            config,
        }
    }

    pub async fn address(self) -> String {
        match self {
            Self::Docker => docker().await.host(),
            Self::Podman => podman().await.host(),
        }
    }

    /// The engine's own client.
    pub async fn client(self, args: &[&str]) -> Result<String> {
        match self {
            Self::Docker => docker().await.docker(args).await,
            Self::Podman => podman().await.podman(args).await,
        }
    }
}

impl Bench {
    /// The same attempts, as another process sees them.
    pub fn another(&self) -> ContainerBackend {
        ContainerBackend::open(self.config.clone()).unwrap()
    }

    pub fn subject(self) -> Subject {
        let backend = Arc::new(self.backend.clone());
        let image = self.image.clone();
        // A log of 100 MB takes a minute where others build.
        Subject::new(backend, LIMIT * 2, self).with_image(&image)
    }

    pub fn shell(&self, script: &str) -> Work {
        self.work(&["sh", "-c", script])
    }

    pub fn work(&self, command: &[&str]) -> Work {
        Work {
            run_id: RunId::mint(),
            attempt: Attempt::FIRST,
            project: Project::new("default").unwrap(),
            name: None,
            labels: BTreeMap::new(),
            spec: JobSpec {
                image: Some(self.image.clone()),
                ..JobSpec::for_command(command.iter().copied())
            },
            workspace: None,
        }
    }

    pub async fn submit(&self, work: Work) -> Result<Submission> {
        submit(&self.backend, work).await
    }

    pub async fn run(&self, work: Work) -> Result<(Submission, RunState)> {
        let submission = self.submit(work).await?;
        let end = wait_for_end(&self.backend, &submission).await?;
        Ok((submission, end))
    }

    /// What a command wrote to its stdout.
    pub async fn said(&self, work: Work) -> Result<String> {
        let (submission, end) = self.run(work).await?;
        if end.started_at.is_none() {
            return Err(anyhow!("not started: {:?}", end.failure));
        }
        let said = log(&self.backend, &submission.handle, "stdout").await?;
        let said = String::from_utf8_lossy(&said).into_owned();
        match end.status {
            RunStatus::Succeeded => Ok(said),
            _ => Err(anyhow!("{:?} after {said:?}", end.failure)),
        }
    }
}

/// The handle of an attempt whose submit gave no answer.
pub fn handle_of(backend: &ContainerBackend, work: &Work) -> Handle {
    Handle {
        run_id: work.run_id,
        attempt: work.attempt,
        backend: BackendInfo {
            kind: backend.kind(),
            cluster: None,
            address: None,
            namespace: None,
            object: work.object_name(),
            uid: None,
        },
    }
}

pub fn in_workspace(mut work: Work, dir: &Path) -> Work {
    work.workspace = Some(Workspace {
        dir: dir.to_owned(),
        send: Transfer::Nothing,
    });
    work
}

pub async fn submit(backend: &ContainerBackend, work: Work) -> Result<Submission> {
    let submitted = tokio::time::timeout(LIMIT, backend.submit(&work))
        .await
        .context("submit")??;
    let handle = Handle {
        run_id: work.run_id,
        attempt: work.attempt,
        backend: submitted.backend,
    };
    Ok(Submission { work, handle })
}

pub async fn wait_for_end(backend: &ContainerBackend, submission: &Submission) -> Result<RunState> {
    let wait = qwex_runner::wait(backend, &submission.handle, submission.state());
    Ok(tokio::time::timeout(LIMIT, wait)
        .await
        .context("wait for the end")??)
}

/// The state by one look.
pub async fn state(backend: &ContainerBackend, submission: &Submission) -> Result<RunState> {
    let seen = backend.observe(&submission.handle).await?;
    let mut state = RunState::accepted(jiff::Timestamp::now(), RetryPolicy::default());
    state.backend = Some(submission.handle.backend.clone());
    Ok(fold(state, &seen))
}

pub async fn until_state(
    backend: &ContainerBackend,
    submission: &Submission,
    what: &str,
    wanted: impl Fn(&RunState) -> bool,
) -> RunState {
    let probe = || async {
        match state(backend, submission).await {
            Ok(state) if wanted(&state) => Ok(state),
            Ok(state) => Err(format!(
                "{:?} {:?} {:?}",
                state.status, state.pending, state.failure
            )),
            Err(error) => Err(error.to_string()),
        }
    };
    wait::until_ok(LIMIT, what, probe).await.unwrap()
}

pub async fn cancel(backend: &ContainerBackend, handle: &Handle) {
    let probe = || async {
        match backend.cancel(handle).await {
            Ok(CancelProgress::Stopped) => Ok(()),
            Ok(CancelProgress::Stopping { message }) => Err(message),
            Err(error) => Err(error.to_string()),
        }
    };
    wait::until_ok(LIMIT, "the cancel", probe).await.unwrap();
}

pub async fn log(backend: &ContainerBackend, handle: &Handle, stream: &str) -> Result<Vec<u8>> {
    let sources = backend.list_logs(handle).await?;
    let source = sources.into_iter().find(|source| source.stream == stream);
    let source = source.with_context(|| format!("no log {stream}"))?;
    let mut items = backend.read_log(&source, LogPosition::default(), true).await?;
    let mut bytes = Vec::new();
    let read = async {
        while let Some(item) = items.next().await {
            match item? {
                LogItem::Chunk(chunk) => bytes.extend_from_slice(&chunk.bytes),
                LogItem::Gap { message } => return Err(anyhow!("gap: {message}")),
                LogItem::End => return Ok(()),
            }
        }
        Err(anyhow!("the log stopped without its end"))
    };
    tokio::time::timeout(LIMIT, read)
        .await
        .context("read the log")??;
    Ok(bytes)
}

pub fn failure(state: &RunState) -> &Failure {
    state
        .failure
        .as_ref()
        .unwrap_or_else(|| panic!("no failure: {state:?}"))
}

pub fn code(state: &RunState) -> Option<FailureCode> {
    state.failure.as_ref().map(|failure| failure.code)
}

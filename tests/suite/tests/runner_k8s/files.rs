//! Files of the workspace over and back, on real pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use qwex_core::{Ending, Fact, FailureCode, PendingCode, Span};
use qwex_runner::backend::Backend;
use qwex_runner::{Handle, Transfer, Work, Workspace};
use qwex_testbed::{require, shared, wait};
use tokio_util::task::AbortOnDropHandle;

use crate::rig::{LIMIT, Rig, shell};

/// A rig and a workspace beside it.
pub struct Desk {
    pub rig: Rig,
    pub dir: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Result<Self> {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut qwex_runner_k8s::K8sDirectConfig)) -> Result<Self> {
        Self::at(Rig::direct(shared::alpha().await?, change).await?)
    }

    pub fn at(rig: Rig) -> Result<Self> {
        Ok(Self {
            rig,
            dir: tempfile::tempdir()?,
        })
    }

    fn workspace(&self, send: Transfer) -> Workspace {
        Workspace {
            dir: self.dir.path().to_owned(),
            send,
        }
    }

    pub fn script(&self, script: &str, send: Transfer, outputs: &[&str]) -> Work {
        let mut work = shell(script);
        work.workspace = Some(self.workspace(send));
        work.spec.outputs = outputs.iter().map(|glob| (*glob).to_owned()).collect();
        work
    }

    /// Submits and, as a keeper does, supplies beside the rest.
    pub async fn submit(&self, work: &Work) -> Result<(Handle, AbortOnDropHandle<()>)> {
        let handle = self.rig.submit(work).await?;
        let (backend, of) = (self.rig.backend.clone(), handle.clone());
        let workspace = work.workspace.clone().context("a workspace")?;
        let supplying = tokio::spawn(async move {
            let supplied = backend.supply(&of, &workspace).await;
            assert_eq!(supplied, Ok(()));
        });
        Ok((handle, AbortOnDropHandle::new(supplying)))
    }

    pub async fn collect(&self, work: &Work, handle: &Handle) -> Result<Vec<PathBuf>> {
        let into = self.dir.path();
        let mut found = self.rig.backend.collect(handle, into, &work.spec.outputs).await?;
        found.sort();
        Ok(found)
    }
}

pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().context("a parent")?)?;
    Ok(fs::write(path, bytes)?)
}

/// Whether the Job of a handle has a condition.
async fn job_says(rig: &Rig, handle: &Handle, kind: &str) -> Result<()> {
    let probe = || async {
        let job = rig.jobs().get(&handle.backend.object).await.ok()?;
        let conditions = job.status?.conditions.unwrap_or_default();
        conditions
            .iter()
            .any(|found| found.type_ == kind && found.status == "True")
            .then_some(())
    };
    Ok(wait::until(LIMIT, &format!("the Job to be {kind}"), probe).await?)
}

#[tokio::test]
async fn files_go_over_and_come_back_changed() -> Result<()> {
    require!(Root, Go, Containerd);
    let desk = Desk::new().await?;
    let here = desk.dir.path();
    let big: Vec<u8> = (0..5_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    write(here, "in/big.bin", &big)?;
    write(here, "in/a name with ' and \u{fc}.txt", b"hello")?;
    write(here, "run.sh", b"cat in/*.txt")?;
    write(here, "secret.log", b"not for the cluster")?;
    write(here, ".gitignore", b"*.log\n")?;
    let script = "pwd; ls -A; sh run.sh; mkdir -p out/deep; cp in/big.bin out/deep/copy; echo x > out/'a b'; echo y > other";
    let work = desk.script(script, Transfer::Everything, &["out/**"]);
    let listener = desk.rig.listen();
    let (handle, _supplying) = desk.submit(&work).await?;
    assert_eq!(
        listener.ending(&work).await?,
        Ending::Succeeded { verified: true }
    );
    let log = desk.rig.whole_log(&listener.log_of(&work).await?).await?;
    assert_eq!(log.text(), "/workspace\n.gitignore\nin\nrun.sh\nhello");
    // The pod stays until somebody has fetched what it made.
    let pod = desk.rig.running_pod(&work).await?;
    assert_eq!(pod.spec.context("a spec")?.containers.len(), 2);
    let found = desk.collect(&work, &handle).await?;
    assert_eq!(found, [PathBuf::from("out/a b"), PathBuf::from("out/deep/copy")]);
    assert_eq!(fs::read(here.join("out/deep/copy"))?, big);
    assert!(!here.join("other").exists());
    job_says(&desk.rig, &handle, "Complete").await?;
    // Asked again, because whoever asked did not live to hear the answer.
    assert_eq!(desk.collect(&work, &handle).await?, found);
    Ok(())
}

#[tokio::test]
async fn a_failed_run_gives_its_outputs_too() -> Result<()> {
    require!(Root, Go, Containerd);
    let desk = Desk::new().await?;
    let work = desk.script("echo partial > report; exit 42", Transfer::Nothing, &["report"]);
    let listener = desk.rig.listen();
    let (handle, _supplying) = desk.submit(&work).await?;
    let failure = listener.failure(&work).await?;
    assert_eq!(
        (failure.code, failure.exit_code),
        (FailureCode::ExitCode, Some(42))
    );
    assert_eq!(desk.collect(&work, &handle).await?, [PathBuf::from("report")]);
    assert_eq!(fs::read(desk.dir.path().join("report"))?, b"partial\n");
    job_says(&desk.rig, &handle, "Failed").await?;
    let late = desk.rig.listen();
    assert_eq!(
        late.failure(&work).await?.exit_code,
        Some(42),
        "the same for who comes late"
    );
    Ok(())
}

#[tokio::test]
async fn the_timeout_ends_the_command_and_not_the_outputs() -> Result<()> {
    require!(Root, Go, Containerd);
    let desk = Desk::new().await?;
    let mut work = desk.script("echo early > out; sleep 300", Transfer::Nothing, &["out"]);
    work.spec.timeout = Some(Span::from_secs(2));
    let listener = desk.rig.listen();
    let (handle, _supplying) = desk.submit(&work).await?;
    let failure = listener.failure(&work).await?;
    assert_eq!(failure.code, FailureCode::Timeout, "{failure:?}");
    assert!(failure.message.contains("timeout of 2s"), "{failure:?}");
    assert_eq!(desk.collect(&work, &handle).await?, [PathBuf::from("out")]);
    Ok(())
}

#[tokio::test]
async fn nobody_sends_and_it_is_told() -> Result<()> {
    require!(Root, Go, Containerd);
    let desk = Desk::with(|config| config.files.send_limit = Duration::from_secs(3)).await?;
    let work = desk.script("true", Transfer::Everything, &[]);
    let listener = desk.rig.listen();
    desk.rig.submit(&work).await?;
    listener
        .waiting(&work, PendingCode::Starting, "files of the workspace")
        .await?;
    let failure = listener.failure(&work).await?;
    assert_eq!(failure.code, FailureCode::StartError);
    assert!(failure.message.contains("did not come within 3 s"), "{failure:?}");
    let started = |fact: &Fact| matches!(fact, Fact::EpisodeStarted { .. });
    assert!(
        !listener.facts(work.run_id).iter().any(started),
        "the command never began"
    );
    Ok(())
}

#[tokio::test]
async fn an_image_without_a_shell_is_told() -> Result<()> {
    require!(Root, Go, Containerd);
    let desk = Desk::with(|config| config.files.image = Some(qwex_testbed::images::PAUSE.to_owned())).await?;
    let work = desk.script("true", Transfer::Everything, &[]);
    let listener = desk.rig.listen();
    desk.rig.submit(&work).await?;
    let failure = listener.failure(&work).await?;
    assert_eq!(failure.code, FailureCode::StartError);
    assert!(failure.message.contains("needs sh, tar and find"), "{failure:?}");
    Ok(())
}

#[tokio::test]
async fn a_cancel_ends_the_helpers_at_once() -> Result<()> {
    require!(Root, Go, Containerd);
    let desk = Desk::new().await?;
    write(desk.dir.path(), "a", b"a")?;
    let work = desk.script("cat a; exec sleep 300", Transfer::Everything, &["a"]);
    let listener = desk.rig.listen();
    let (handle, _supplying) = desk.submit(&work).await?;
    listener.running(&work).await?;
    let still = || async {
        use qwex_runner::{CancelProgress, Runner as _};
        matches!(
            desk.rig.backend.cancel(&handle).await,
            Ok(CancelProgress::Stopped)
        )
        .then_some(())
    };
    wait::until(LIMIT, "the cancel", still).await?;
    let gone = desk
        .rig
        .backend
        .collect(&handle, desk.dir.path(), &work.spec.outputs)
        .await;
    assert!(gone.is_err(), "{gone:?}");
    Ok(())
}

//! Drives a pipeline to its end. Every change is on disk before what it announces is done: a stage is recorded as
//! running, with its run's id, before the run is handed over. What happens at the same time is written at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use qwex_core::{Attempt, Run, RunStatus};
use qwex_runner::Transfer;
use tokio::sync::{mpsc, watch};

use super::artifacts::{Artifact, collect};
use super::cache::{self, Entry};
use super::decide::{Decision, decide};
use super::error::PipelineError;
use super::inputs::{Hashes, gather};
use super::launch::{How, Ready, ready};
use super::make::anew;
use super::manifest;
use super::objects::Objects;
use super::record::{Pipeline, StageRecord, StageStatus};
use super::runner::{StageRun, StageRunner};
use super::see_through::{End, Journey, News, Patience};
use super::shelf::Shelved;
use crate::project_file::settle;

type Result<T> = std::result::Result<T, PipelineError>;

/// How often it is looked whether somebody asked to cancel.
const LOOK: Duration = Duration::from_millis(200);
/// The end of a stage's run, by the index of the stage.
type Ended = (usize, End);

struct Driver<'a> {
    shelved: &'a Shelved,
    runner: &'a dyn StageRunner,
    objects: Arc<Objects>,
    hashes: Hashes,
    pipeline: Pipeline,
    runs: FuturesUnordered<LocalBoxFuture<'a, Ended>>,
    cancelling: watch::Sender<bool>,
    /// Why stages wait.
    news: (mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>),
    /// The record on disk is behind.
    is_behind: bool,
    /// Stages to be handed over as soon as the record says so.
    begun: Vec<(usize, Transfer)>,
}

/// Drives a pipeline until every stage is over. The caller holds its lock.
///
/// # Errors
/// The record or the store cannot be read or written; the next driver goes on from there.
pub async fn drive(shelved: &Shelved, runner: &dyn StageRunner) -> Result<()> {
    let pipeline = shelved.read()?;
    if pipeline.status.is_terminal() {
        return Ok(());
    }
    let objects = Arc::new(Objects::open(&shelved.project)?);
    let held = objects.clone();
    // Nobody removes stored files until this ends; who does so now is waited for.
    let _held = blocking(move || held.hold()).await??;
    let mut driver = Driver {
        shelved,
        runner,
        objects,
        hashes: Hashes::default(),
        pipeline,
        runs: FuturesUnordered::new(),
        cancelling: watch::Sender::new(shelved.is_asked_to_cancel()),
        news: mpsc::unbounded_channel(),
        is_behind: false,
        begun: Vec::new(),
    };
    driver.begin()?;
    driver.run_all().await
}

impl<'a> Driver<'a> {
    fn begin(&mut self) -> Result<()> {
        self.pipeline.status = RunStatus::Running;
        self.pipeline.started_at.get_or_insert_with(Timestamp::now);
        self.write()?;
        for index in 0..self.pipeline.stages.len() {
            if self.pipeline.stages[index].status == StageStatus::Running {
                self.take_up(index)?;
            }
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        self.shelved.write(&self.pipeline)
    }

    /// Brings the record up to date, then hands over what it calls running. From then on those runs may exist: nobody
    /// gives their stages others.
    fn flush(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_behind) {
            self.write()?;
        }
        for (index, send) in std::mem::take(&mut self.begun) {
            self.follow(index, send, false);
        }
        Ok(())
    }

    async fn run_all(mut self) -> Result<()> {
        loop {
            self.cancel_if_asked();
            while self.take_decisions().await? {}
            if self.pipeline.is_over() {
                self.pipeline.status = self.pipeline.verdict();
                self.pipeline.finished_at = Some(Timestamp::now());
                return self.write();
            }
            tokio::select! {
                Some((index, ended)) = self.runs.next() => {
                    self.ended(index, ended).await?;
                    while let Some(Some((index, ended))) = self.runs.next().now_or_never() {
                        self.ended(index, ended).await?;
                    }
                    self.flush()?;
                }
                Some(news) = self.news.1.recv() => {
                    self.waits(news);
                    self.flush()?;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Does what can be done now. True: more may have become possible.
    async fn take_decisions(&mut self) -> Result<bool> {
        let decisions = decide(&self.pipeline, *self.cancelling.borrow());
        let any = !decisions.is_empty();
        let mut flushed_at = tokio::time::Instant::now();
        for decision in decisions {
            // To look at the files of many stages takes a while: the first ones need not wait for the last.
            if flushed_at.elapsed() >= LOOK {
                self.flush()?;
                flushed_at = tokio::time::Instant::now();
            }
            self.is_behind = true;
            match decision {
                Decision::Skip {
                    index,
                    reason,
                    by_failure,
                } => {
                    let stage = &mut self.pipeline.stages[index];
                    stage.skipped_by_failure = by_failure;
                    finish(stage, StageStatus::Skipped, Some(reason));
                }
                Decision::Cancel(index) => {
                    let stage = &mut self.pipeline.stages[index];
                    finish(
                        stage,
                        StageStatus::Cancelled,
                        Some("cancelled before it ran".to_owned()),
                    );
                }
                Decision::Launch(index) => self.launch(index).await?,
            }
        }
        self.flush()?;
        Ok(any)
    }

    async fn launch(&mut self, index: usize) -> Result<()> {
        let (project, objects) = (self.shelved.project.clone(), self.objects.clone());
        let (pipeline, mut hashes) = (self.pipeline.clone(), std::mem::take(&mut self.hashes));
        let prepared = blocking(move || {
            let ready = ready(&project, &objects, &pipeline, index, &mut hashes);
            (ready, hashes)
        });
        let (ready, hashes) = prepared.await?;
        self.hashes = hashes;
        match ready {
            Ok(ready) => self.take(index, ready),
            Err(error) => {
                note(&format!("{}: {error}", self.pipeline.stages[index].name));
                finish(
                    &mut self.pipeline.stages[index],
                    StageStatus::Failed,
                    Some(told(&error)),
                );
            }
        }
        Ok(())
    }

    fn take(&mut self, index: usize, ready: Ready) {
        let stage = &mut self.pipeline.stages[index];
        stage.fingerprint = Some(ready.fingerprint);
        stage.key = ready.key;
        let now = Timestamp::now();
        match ready.how {
            How::Kept => {
                if let Some(kept) = stage.kept.take() {
                    stage.run_id = kept.run_id;
                    stage.reused_from = kept.reused_from;
                    stage.key = kept.key;
                    stage.attempt = kept.attempt;
                    stage.image_digest = kept.image_digest;
                    stage.outputs = kept.outputs;
                    stage.exit_code = Some(0);
                    stage.started_at = kept.started_at;
                    stage.finished_at = kept.finished_at;
                }
                stage.status = StageStatus::Succeeded;
                stage.reason = Some("kept: its inputs are the same".to_owned());
            }
            How::Reused {
                run_id,
                image_digest,
                outputs,
            } => {
                stage.run_id = run_id;
                stage.reused_from = Some(run_id);
                stage.image_digest = image_digest;
                stage.outputs = outputs;
                stage.exit_code = Some(0);
                stage.kept = None;
                stage.started_at = Some(now);
                finish(
                    stage,
                    StageStatus::Succeeded,
                    Some(format!("reused from run {run_id}")),
                );
            }
            How::Run(send) => {
                stage
                    .earlier_runs
                    .extend(stage.kept.take().map(|kept| kept.run_id));
                stage.status = StageStatus::Running;
                stage.started_at = Some(now);
                self.begun.push((index, send));
            }
        }
    }

    /// Goes on with a stage that a driver before this one began.
    fn take_up(&mut self, index: usize) -> Result<()> {
        let stage = &self.pipeline.stages[index];
        let inputs = gather(&self.shelved.project, &self.pipeline, stage, &mut self.hashes);
        // Only asked if the run was not handed over yet.
        let send = inputs.map_or(Transfer::Everything, |inputs| inputs.send);
        self.follow(index, send, true);
        Ok(())
    }

    fn follow(&mut self, index: usize, send: Transfer, known: bool) {
        let run = stage_run(&self.pipeline, &self.pipeline.stages[index], send);
        let journey = Journey {
            runner: self.runner,
            run,
            index,
            known,
            cancelling: self.cancelling.subscribe(),
            shelved: self.shelved,
            news: self.news.0.clone(),
            patience: Patience::USUAL,
        };
        self.runs
            .push(Box::pin(async move { (index, journey.see_through().await) }));
    }

    /// Puts it beside the status why a stage waits, for whoever watches.
    fn waits(&mut self, (index, why): News) {
        let stage = &mut self.pipeline.stages[index];
        if stage.status != StageStatus::Running {
            return;
        }
        if let Some(why) = &why {
            note(&format!("{}: {why}", stage.name));
        }
        stage.reason = why.map(|why| format!("waiting: {why}"));
        self.is_behind = true;
    }

    async fn ended(&mut self, index: usize, ended: End) -> Result<()> {
        self.is_behind = true;
        let stage = &mut self.pipeline.stages[index];
        match ended {
            End::Over(over) => self.over(index, &over.run).await?,
            End::Failed(why) => {
                note(&format!("{}: {why}", stage.name));
                stage.in_doubt = false;
                finish(stage, StageStatus::Failed, Some(why));
            }
            End::Withdrawn { in_doubt } => {
                stage.in_doubt = in_doubt;
                let reason = "cancelled before it ran".to_owned();
                finish(stage, StageStatus::Cancelled, Some(reason));
            }
            End::Lost(why) => {
                note(&format!("{}: given up: {why}", stage.name));
                stage.in_doubt = true;
                let reason = format!("cancelled, but its run may go on: {why}");
                finish(stage, StageStatus::Cancelled, Some(reason));
            }
        }
        Ok(())
    }

    async fn over(&mut self, index: usize, run: &Run) -> Result<()> {
        let stage = &mut self.pipeline.stages[index];
        let was_in_doubt = std::mem::take(&mut stage.in_doubt);
        if was_in_doubt && run.status != RunStatus::Succeeded {
            // It was taken up only because it could have gone on.
            anew(stage);
            return Ok(());
        }
        stage.attempt = Some(run.attempt.0);
        stage.exit_code = run.exit_code;
        stage.failure.clone_from(&run.failure);
        stage.image_digest = run
            .provenance
            .as_ref()
            .and_then(|known| known.image_digest.clone());
        // Of several attempts the record of the run names the start of the last one.
        if run.attempt == Attempt::FIRST {
            stage.started_at = run.started_at.or(stage.started_at);
        }
        let (status, reason) = match run.status {
            RunStatus::Succeeded => (StageStatus::Succeeded, None),
            RunStatus::Cancelled => (StageStatus::Cancelled, Some("cancelled".to_owned())),
            RunStatus::Failed | RunStatus::Pending | RunStatus::Running => {
                let why = run.failure.as_ref().map(|failure| failure.message.clone());
                (StageStatus::Failed, why)
            }
        };
        let (status, reason) = match status {
            StageStatus::Succeeded => self.keep_outputs(index, run).await?,
            other => (other, reason),
        };
        finish(&mut self.pipeline.stages[index], status, reason);
        Ok(())
    }

    /// Takes in what a stage made, and remembers its success.
    async fn keep_outputs(&mut self, index: usize, run: &Run) -> Result<(StageStatus, Option<String>)> {
        let stage = &self.pipeline.stages[index];
        let (project, objects) = (self.shelved.project.clone(), self.objects.clone());
        let globs: Vec<String> = stage
            .spec
            .outputs
            .iter()
            .map(|glob| settle(glob, &run.id.to_string()))
            .collect();
        let collected = blocking(move || collect(&project, &globs, &objects)).await?;
        let outputs = match collected {
            Ok(outputs) => outputs,
            Err(error) => {
                note(&format!("{}: {error}", stage.name));
                return Ok((StageStatus::Failed, Some(told(&error))));
            }
        };
        self.remember(index, run, outputs);
        Ok((StageStatus::Succeeded, None))
    }

    /// What cannot be remembered only has to run again.
    fn remember(&mut self, index: usize, run: &Run, outputs: Vec<Artifact>) {
        let stage = &mut self.pipeline.stages[index];
        stage.outputs = outputs;
        let entry = Entry {
            run_id: run.id,
            image_digest: stage.image_digest.clone(),
            finished_at: run.finished_at,
            outputs: stage.outputs.clone(),
        };
        if let Some(error) = stage
            .key
            .as_ref()
            .and_then(|key| cache::put(&self.objects, key, &entry).err())
        {
            note(&error.to_string());
        }
        if stage.outputs.is_empty() {
            return;
        }
        // The pipeline has it too.
        if let Err(error) = manifest::write(&self.shelved.project, run.id, &stage.outputs) {
            note(&format!("the list of the files of run {}: {error}", run.id));
        }
    }

    /// Tells those who see to a run once somebody asked to cancel.
    fn cancel_if_asked(&self) {
        if !*self.cancelling.borrow() && self.shelved.is_asked_to_cancel() {
            self.cancelling.send_replace(true);
        }
    }
}

fn stage_run(pipeline: &Pipeline, stage: &StageRecord, send: Transfer) -> StageRun {
    let id = stage.run_id.to_string();
    let fill = |text: &String| settle(text, &id);
    let mut spec = stage.spec.clone();
    spec.command = spec.command.iter().map(fill).collect();
    spec.env = spec
        .env
        .iter()
        .map(|(name, value)| (name.clone(), fill(value)))
        .collect();
    spec.image = spec.image.as_ref().map(fill);
    spec.working_dir = spec.working_dir.as_ref().map(fill);
    spec.outputs = spec.outputs.iter().map(fill).collect();
    for mount in &mut spec.mounts {
        mount.source = mount.source.as_ref().map(fill);
        mount.target = fill(&mount.target);
    }
    let labels = BTreeMap::from([
        ("pipeline".to_owned(), pipeline.id.to_string()),
        ("stage".to_owned(), stage.run_name.to_string()),
    ]);
    StageRun {
        id: stage.run_id,
        name: stage.run_name.clone(),
        labels,
        backend: stage.backend.clone(),
        host: stage.host.clone(),
        runs_by: stage.runs_by.clone(),
        spec,
        send,
    }
}

fn finish(stage: &mut StageRecord, status: StageStatus, reason: Option<String>) {
    stage.status = status;
    stage.reason = reason;
    stage.finished_at = Some(Timestamp::now());
}

/// With its cause.
fn told(error: &PipelineError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A line for whoever looks why a pipeline is not driven well.
fn note(line: &str) {
    eprintln!("{} {line}", Timestamp::now());
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| PipelineError::Refused {
            message: format!("the worker thread ended early: {error}"),
        })
}

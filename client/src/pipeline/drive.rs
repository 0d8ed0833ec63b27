//! Drives a pipeline to its end. Every change is on disk before what it announces is done: a stage is recorded as
//! running, with its run's id, before the run is handed over. What happens at the same time is written at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use qwex_core::RunStatus;
use qwex_runner::Transfer;
use tokio::sync::{mpsc, watch};

use super::decide::{Decision, decide};
use super::error::PipelineError;
use super::inputs::{Hashes, gather};
use super::launch::{How, Ready, ready};
use super::objects::{Objects, Work};
use super::record::{Pipeline, StageRecord, StageStatus};
use super::runner::{StageRun, StageRunner};
use super::see_through::{End, Journey, News, Patience};
use super::shelf::Shelved;
use crate::project_file::settle;

pub(super) type Result<T> = std::result::Result<T, PipelineError>;

/// How often it is looked whether somebody asked to cancel.
const LOOK: Duration = Duration::from_millis(200);
/// The end of a stage's run, by the index of the stage.
type Ended = (usize, End);

pub(super) struct Driver<'a> {
    pub(super) shelved: &'a Shelved,
    runner: &'a dyn StageRunner,
    pub(super) objects: Arc<Objects>,
    pub(super) hashes: Hashes,
    pub(super) pipeline: Pipeline,
    runs: FuturesUnordered<LocalBoxFuture<'a, Ended>>,
    cancelling: watch::Sender<bool>,
    /// The right to run stages in the project's directory, while one does.
    place: Option<File>,
    /// Why stages wait.
    news: (mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>),
    /// The record on disk is behind.
    pub(super) is_behind: bool,
    /// Stages to be handed over as soon as the record says so.
    begun: Vec<(usize, Transfer)>,
}

/// Drives a pipeline until every stage is over. The caller holds its lock.
///
/// # Errors
/// The record is not this user's; it or the store cannot be read or written, and the next driver goes on from there.
pub async fn drive(shelved: &Shelved, runner: &dyn StageRunner) -> Result<()> {
    let pipeline = shelved.read_own()?;
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
        place: None,
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
            self.leave_place();
            if self.pipeline.is_over() {
                self.pipeline.status = self.pipeline.verdict();
                self.pipeline.waiting = None;
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
        let mut any = false;
        let mut waiting = None;
        let mut flushed_at = tokio::time::Instant::now();
        for decision in decisions {
            // To look at the files of many stages takes a while: the first ones need not wait for the last.
            if flushed_at.elapsed() >= LOOK {
                self.flush()?;
                flushed_at = tokio::time::Instant::now();
            }
            if let Decision::Launch(index) = decision
                && let Some(why) = self.held_up(index)?
            {
                waiting = Some(why);
                continue;
            }
            any = true;
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
        if !any && self.pipeline.waiting != waiting {
            self.pipeline.waiting = waiting;
            self.is_behind = true;
        }
        self.flush()?;
        Ok(any)
    }

    /// Why a stage that works in the project's directory cannot begin: those of another pipeline work there.
    fn held_up(&mut self, index: usize) -> Result<Option<String>> {
        let stage = &self.pipeline.stages[index];
        if !stage.works_in_place() || self.place.is_some() {
            return Ok(None);
        }
        match self.objects.work_in_place(&self.pipeline.id.to_string())? {
            Work::Taken(place) => {
                self.place = Some(place);
                Ok(None)
            }
            Work::Held { holder } => Ok(Some(format!(
                "stages of pipeline {holder} work in this directory; {} begins after them, or once `qwexctl pipeline \
                 cancel {holder}` stops them",
                stage.name
            ))),
        }
    }

    /// Lets stages of other pipelines work in the project's directory while none of this one does.
    fn leave_place(&mut self) {
        let mut stages = self.pipeline.stages.iter();
        if !stages.any(|stage| stage.status == StageStatus::Running && stage.works_in_place()) {
            self.place = None;
        }
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
                stage.reason = ready.said;
                stage.launched = ready.launched;
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
        if let Some(why) = self.held_up(index)? {
            // It runs all the same; what comes of it beside them is for nobody else.
            let stage = &mut self.pipeline.stages[index];
            note(&format!("{}: {why}", stage.name));
            stage.key = None;
        }
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

pub(super) fn finish(stage: &mut StageRecord, status: StageStatus, reason: Option<String>) {
    stage.status = status;
    stage.reason = reason;
    stage.finished_at = Some(Timestamp::now());
}

/// With its cause.
pub(super) fn told(error: &PipelineError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A line for whoever looks why a pipeline is not driven well.
pub(super) fn note(line: &str) {
    // A full disk must not end who drives, as `eprintln!` does.
    writeln!(io::stderr(), "{} {line}", Timestamp::now()).ok();
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| PipelineError::Refused {
            message: format!("the worker thread ended early: {error}"),
        })
}

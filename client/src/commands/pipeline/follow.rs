//! A pipeline in the foreground: one line per stage and change, its exit code, Ctrl-C. It is driven by another process;
//! whatever fails here, the pipeline goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use qwex_core::RunStatus;

use super::super::Done;
use super::super::interrupt::{INTERRUPTED, Interrupts};
use super::super::session::Session;
use super::{rows, show, stop};
use crate::cli::Global;
use crate::error::{CliError, Exit};
use crate::pipeline::{Pipeline, PipelineError, Shelved, StageRecord, StageStatus, is_driven};
use crate::progress::Progress;

/// How often the record is looked at: one stat, no reading.
const LOOK: Duration = Duration::from_millis(50);
/// How long nobody may drive it before that is told.
const UNDRIVEN: Duration = Duration::from_secs(3);

/// How the foreground begins and ends.
pub struct Ways {
    pub detach: bool,
    pub cancel_on_interrupt: bool,
}

/// Prints the id, or follows to the end.
pub async fn or_leave(
    session: &Session,
    global: &Global,
    shelved: &Shelved,
    ways: &Ways,
    interrupts: Interrupts,
) -> Done {
    let pipeline = shelved.read()?;
    let id = pipeline.id.to_string();
    if ways.detach {
        session.out.one(&pipeline, &id, || format!("{id}\n"))?;
        return Ok(0);
    }
    let (_, all) = pipeline.done();
    let stages = if all == 1 {
        "1 stage".to_owned()
    } else {
        format!("{all} stages")
    };
    session.progress.stage("pipeline", &format!("{id}, {stages}"));
    follow(session, global, shelved, ways, interrupts).await
}

async fn follow(
    session: &Session,
    global: &Global,
    shelved: &Shelved,
    ways: &Ways,
    mut interrupts: Interrupts,
) -> Done {
    let mut told = Told::new(session.progress);
    let mut watch = Watch::new(shelved);
    let mut asked = false;
    loop {
        if let Some(pipeline) = watch.changed()? {
            told.tell(&pipeline);
            if pipeline.status.is_terminal() {
                return ended(session, &pipeline);
            }
        }
        watch.check_driven()?;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = interrupts.next() => {
                if asked {
                    return Ok(INTERRUPTED);
                }
                if !ways.cancel_on_interrupt {
                    return left(session, global, shelved, interrupts).await;
                }
                asked = true;
                session.progress.stage("cancelling", "interrupted; a second signal leaves at once");
                shelved.ask_to_cancel()?;
            }
        }
    }
}

/// Returns when it is over, or after `limit`.
pub async fn until_over(shelved: &Shelved, limit: Duration) -> Result<Pipeline, PipelineError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let pipeline = shelved.read()?;
        if pipeline.status.is_terminal() || tokio::time::Instant::now() >= deadline {
            return Ok(pipeline);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn ended(session: &Session, pipeline: &Pipeline) -> Done {
    let now = Timestamp::now();
    session
        .progress
        .stage(pipeline.status.as_str(), &rows::headline(pipeline, now));
    for stage in pipeline
        .stages
        .iter()
        .filter(|stage| stage.status == StageStatus::Failed && stage.attempt.is_some())
    {
        session.progress.note(&format!(
            "the log of {}: qwexctl logs {}",
            stage.name, stage.run_id
        ));
    }
    if pipeline.status != RunStatus::Succeeded {
        session.progress.note(&format!(
            "after mending it: qwexctl pipeline resume {}",
            pipeline.id
        ));
    }
    show(session.out, pipeline)?;
    Ok(exit_code(pipeline.status))
}

fn exit_code(status: RunStatus) -> u8 {
    match status {
        RunStatus::Succeeded => 0,
        RunStatus::Cancelled => Exit::Cancelled.code(),
        RunStatus::Failed | RunStatus::Pending | RunStatus::Running => Exit::Failure.code(),
    }
}

/// Ctrl-C: it goes on; perhaps to be cancelled.
async fn left(session: &Session, global: &Global, shelved: &Shelved, mut interrupts: Interrupts) -> Done {
    let id = shelved.id;
    let ways = format!(
        "\nqwex: detached; the pipeline goes on\n  come back   qwexctl pipeline resume {id}\n  look        qwexctl pipeline get {id}\n  cancel      qwexctl pipeline cancel {id}\n"
    );
    if !interrupts.leave(ways, format!("Cancel pipeline {id}?")).await {
        return Ok(INTERRUPTED);
    }
    let pipeline = stop(global, shelved).await?;
    session.progress.stage(
        pipeline.status.as_str(),
        &rows::headline(&pipeline, Timestamp::now()),
    );
    Ok(Exit::Cancelled.code())
}

fn undriven(shelved: &Shelved) -> CliError {
    let id = shelved.id;
    let log = format!(".qwex/pipelines/{id}/driver.log");
    CliError::new(Exit::Failure, format!("nobody drives pipeline {id} any more"))
        .why(format!("its driver ended early; {log} may say why"))
        .fix(format!(
            "go on where it stopped: `qwexctl pipeline resume {id}`; nothing runs twice"
        ))
        .code("undriven")
}

/// Notices changes of the record, and that nobody makes any.
pub struct Watch<'a> {
    shelved: &'a Shelved,
    mark: Option<(u64, std::time::SystemTime)>,
    driven_at: tokio::time::Instant,
    looked_at: tokio::time::Instant,
}

impl<'a> Watch<'a> {
    pub fn new(shelved: &'a Shelved) -> Self {
        let now = tokio::time::Instant::now();
        Self {
            shelved,
            mark: None,
            driven_at: now,
            looked_at: now,
        }
    }

    /// The pipeline, if its record is another than at the last look.
    pub fn changed(&mut self) -> Result<Option<Pipeline>, PipelineError> {
        let mark = self.shelved.mark();
        if mark.is_some() && mark == self.mark {
            return Ok(None);
        }
        self.mark = mark;
        self.shelved.read().map(Some)
    }

    /// An error once nobody has driven it for a while although it is not over.
    pub fn check_driven(&mut self) -> Result<(), CliError> {
        let now = tokio::time::Instant::now();
        if now < self.looked_at + UNDRIVEN / 10 {
            return Ok(());
        }
        self.looked_at = now;
        if is_driven(self.shelved)? {
            self.driven_at = now;
        }
        let silent = now >= self.driven_at + UNDRIVEN;
        if silent && !self.shelved.read()?.status.is_terminal() {
            self.shelved.check_own()?;
            return Err(undriven(self.shelved));
        }
        Ok(())
    }
}

/// Tells each change of each stage once.
struct Told {
    progress: Progress,
    last: BTreeMap<String, (StageStatus, Option<String>)>,
    waiting: Option<String>,
}

impl Told {
    fn new(progress: Progress) -> Self {
        Self {
            progress,
            last: BTreeMap::new(),
            waiting: None,
        }
    }

    fn tell(&mut self, pipeline: &Pipeline) {
        if self.waiting != pipeline.waiting {
            self.waiting.clone_from(&pipeline.waiting);
            if let Some(why) = &self.waiting {
                self.progress.stage("waiting", why);
            }
        }
        for stage in &pipeline.stages {
            let now = (stage.status, stage.reason.clone());
            if stage.status == StageStatus::Pending || self.last.get(&stage.name) == Some(&now) {
                continue;
            }
            self.progress.stage(&stage.name, &words(stage));
            self.last.insert(stage.name.clone(), now);
        }
    }
}

fn words(stage: &StageRecord) -> String {
    let status = stage.status.as_str();
    let mut ran = rows::duration(stage.started_at, stage.finished_at, Timestamp::now());
    if let Some(attempt) = stage.attempt.filter(|attempt| *attempt > 1) {
        ran = format!("{ran}, in attempt {attempt}");
    }
    let reason = stage.reason.as_deref().unwrap_or_default();
    match stage.status {
        StageStatus::Running if reason.is_empty() => {
            format!("running on {}, run {}", stage.backend, stage.run_id)
        }
        StageStatus::Running => format!("running on {}, run {}; {reason}", stage.backend, stage.run_id),
        StageStatus::Succeeded if reason.is_empty() => format!("succeeded in {ran}"),
        StageStatus::Failed if stage.allow_failure => format!("failed, which is allowed: {reason}"),
        StageStatus::Pending
        | StageStatus::Succeeded
        | StageStatus::Failed
        | StageStatus::Cancelled
        | StageStatus::Skipped => {
            if reason.is_empty() || reason == status {
                status.to_owned()
            } else {
                format!("{status}: {reason}")
            }
        }
    }
}

//! `pipeline logs --follow`: what the stages write, as they write it, until the pipeline is over.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::super::Done;
use super::super::interrupt::{INTERRUPTED, Interrupts};
use super::super::session::Session;
use super::follow::Watch;
use super::logs::{Behind, meant};
use super::runners::Runners;
use crate::cli::{PipelineLogs, REMOTE};
use crate::direct::Follow;
use crate::error::{CliError, Exit};
use crate::output::print_bytes;
use crate::pipeline::{Pipeline, Shelved, StageRecord};
use crate::remote::LogQuery;

/// Pause after a look at every stage that brought nothing.
const LOOK: Duration = Duration::from_millis(50);

/// The logs that are followed now, each stage once.
struct Following<'a> {
    runners: &'a Runners,
    begun: Vec<Stage>,
}

struct Stage {
    name: String,
    log: Log,
    out: Lines,
    err: Lines,
    over: bool,
}

/// Where the log of a stage comes from.
enum Log {
    Here(Box<Follow>),
    Server(BoxStream<'static, Result<Bytes, CliError>>),
}

/// Prints whole lines behind the name of their stage.
struct Lines {
    behind: Behind,
    failed: Option<CliError>,
    printed: bool,
}

pub async fn follow(
    session: &Session,
    args: &PipelineLogs,
    shelved: &Shelved,
    runners: &Runners,
    mut interrupts: Interrupts,
) -> Done {
    let mut watch = Watch::new(shelved);
    let mut pipeline = shelved.read()?;
    let names = meant(&pipeline, args)?;
    let width = names.iter().map(|stage| stage.name.chars().count()).max();
    let width = width.unwrap_or_default();
    let mut following = Following {
        runners,
        begun: Vec::new(),
    };
    loop {
        // First how far it is, then what was written: what was over before the read is read whole.
        if let Some(changed) = watch.changed()? {
            pipeline = changed;
        }
        following.begin(session, &pipeline, args, width).await?;
        let news = following.step().await?;
        if pipeline.status.is_terminal() && following.begun.iter().all(|stage| stage.over) {
            return Ok(0);
        }
        watch.check_driven()?;
        if news {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = interrupts.next() => return Ok(INTERRUPTED),
        }
    }
}

impl Following<'_> {
    /// Begins with each stage that has begun itself.
    async fn begin(
        &mut self,
        session: &Session,
        pipeline: &Pipeline,
        args: &PipelineLogs,
        width: usize,
    ) -> Result<(), CliError> {
        for stage in meant(pipeline, args)? {
            let known = self.begun.iter().any(|begun| begun.name == stage.name);
            if known || stage.started_at.is_none() {
                continue;
            }
            let log = match self.open(stage).await {
                Ok(log) => log,
                // Its run is about to be recorded.
                Err(error) if error.exit == Exit::NotFound && !pipeline.status.is_terminal() => continue,
                Err(error) => {
                    session.progress.note(&format!(
                        "the log of {} cannot be read: {}",
                        stage.name, error.what
                    ));
                    continue;
                }
            };
            self.begun.push(Stage {
                name: stage.name.clone(),
                log,
                out: Lines::new(&stage.name, width),
                err: Lines::new(&stage.name, width),
                over: false,
            });
        }
        Ok(())
    }

    async fn open(&self, stage: &StageRecord) -> Result<Log, CliError> {
        if stage.backend != REMOTE {
            let direct = self.runners.direct();
            let run = direct.get(stage.run_id)?;
            return Ok(Log::Here(Box::new(direct.follow(&run)?)));
        }
        let query = LogQuery {
            follow: true,
            ..LogQuery::default()
        };
        let log = self.runners.server()?.read_log(stage.run_id, &query).await?;
        Ok(Log::Server(log.map(|part| Ok(part?)).boxed()))
    }

    /// Prints what there is. Whether there was anything.
    async fn step(&mut self) -> Result<bool, CliError> {
        let mut news = false;
        for stage in self.begun.iter_mut().filter(|stage| !stage.over) {
            match &mut stage.log {
                Log::Here(follow) => {
                    let direct = self.runners.direct();
                    let step = follow.step(direct, Duration::ZERO, &mut stage.out, &mut stage.err);
                    if let Some(error) = stage.out.failed.take().or(stage.err.failed.take()) {
                        return Err(error);
                    }
                    stage.over = step?.over;
                }
                Log::Server(parts) => match parts.next().now_or_never() {
                    Some(Some(part)) => stage.out.take(&part?)?,
                    Some(None) => stage.over = true,
                    None => {}
                },
            }
            news |= std::mem::take(&mut stage.out.printed) | std::mem::take(&mut stage.err.printed);
            if stage.over {
                print_bytes(&stage.out.behind.end_of_stream())?;
                print_bytes(&stage.err.behind.end_of_stream())?;
            }
        }
        Ok(news)
    }
}

impl Lines {
    fn new(name: &str, width: usize) -> Self {
        Self {
            behind: Behind::new(name, width, None),
            failed: None,
            printed: false,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.printed = true;
        Ok(print_bytes(&self.behind.take(bytes))?)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! `pipeline`: what each of its commands does. The pipelines themselves are in the room `pipeline`; here they are given
//! backends, shown and followed.

mod error;
mod follow;
mod follow_logs;
mod logs;
mod rows;
mod runners;
mod start;

use serde_json::json;

use super::Done;
use super::direct_run::STOPPING;
use super::interrupt::Interrupts;
use super::session::Session;
use super::target;
use crate::cli::{Global, PipelineCommand, PipelineLs, PipelineName, PipelineResume, PipelineRm};
use crate::error::{CliError, Exit};
use crate::output::{Format, Output, table};
use crate::pipeline::{Pipeline, Shelf, Shelved, again, drive, is_driven, start as start_driver, take};

pub async fn pipeline(session: &Session, global: &Global, command: PipelineCommand) -> Done {
    match command {
        PipelineCommand::Run(args) => start::run(session, global, *args).await,
        PipelineCommand::Plan(args) => start::plan(session, &args).await,
        PipelineCommand::Ls(args) => ls(session, &args),
        PipelineCommand::Get(args) => get(session, &args),
        PipelineCommand::Logs(args) => logs::logs(session, global, &args).await,
        PipelineCommand::Cancel(args) => cancel(session, global, &args).await,
        PipelineCommand::Resume(args) => resume(session, global, &args).await,
        PipelineCommand::Rm(args) => rm(session, &args),
    }
}

/// The process that drives a pipeline; started for nothing else.
pub async fn driver(session: &Session, global: &Global, id: &str) -> Done {
    // The terminal may go; whoever wants it to stop cancels the pipeline.
    let _hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    let shelved = find(session, id)?;
    let Some(_lock) = take(&shelved).await? else {
        return Ok(0);
    };
    let runners = runners::Runners::open(session, global, &shelved.project)?;
    drive(&shelved, &runners).await?;
    Ok(0)
}

/// The flags that a driver needs to reach the same server.
fn flags(global: &Global) -> Vec<String> {
    let pairs = [
        ("--context", global.context.clone()),
        ("--server", global.server.clone()),
        ("--project", global.project.as_ref().map(ToString::to_string)),
    ];
    pairs
        .into_iter()
        .filter_map(|(flag, value)| Some([flag.to_owned(), value?]))
        .flatten()
        .collect()
}

fn shelf(session: &Session) -> Result<Option<Shelf>, CliError> {
    let (shelf, passed_over) = Shelf::find(&super::project_file::here()?)?;
    target::tell_passed_over(session, passed_over.as_ref());
    Ok(shelf)
}

fn some_shelf(session: &Session) -> Result<Shelf, CliError> {
    shelf(session)?.ok_or_else(|| {
        CliError::new(Exit::NotFound, "there are no pipelines here")
            .fix("run the stages of a qwex.yaml: `qwexctl pipeline run`; `qwexctl init` writes one")
            .code("not_found")
    })
}

fn find(session: &Session, word: &str) -> Result<Shelved, CliError> {
    Ok(some_shelf(session)?.resolve(word)?)
}

fn ls(session: &Session, args: &PipelineLs) -> Done {
    let mut pipelines = match shelf(session)? {
        Some(shelf) => shelf.list()?,
        None => Vec::new(),
    };
    if args.limit > 0 {
        pipelines.truncate(args.limit);
    }
    session.out.list(pipelines.iter().map(|one| (one, one)))?;
    if pipelines.is_empty() && session.out.for_people() {
        session
            .progress
            .note("no pipelines here; `qwexctl pipeline run` runs the stages of qwex.yaml");
    }
    Ok(0)
}

fn get(session: &Session, args: &PipelineName) -> Done {
    let shelved = find(session, &args.pipeline)?;
    let pipeline = shelved.read()?;
    if !pipeline.status.is_terminal() && !is_driven(&shelved)? {
        let id = pipeline.id;
        session.progress.note(&match shelved.check_own() {
            Ok(()) => format!("nobody drives it: `qwexctl pipeline resume {id}` goes on where it stopped"),
            Err(error) => CliError::from(error).sentence(),
        });
    }
    show(session.out, &pipeline)?;
    Ok(0)
}

/// The pipeline as data: a table of its stages for people.
fn show(out: Output, pipeline: &Pipeline) -> Result<(), CliError> {
    if out.format == Format::Jsonl {
        out.list(pipeline.stages.iter().map(|stage| (stage, stage)))?;
        return Ok(());
    }
    out.one(pipeline, &pipeline.id.to_string(), || {
        let now = jiff::Timestamp::now();
        let rows: Vec<Vec<String>> = pipeline
            .stages
            .iter()
            .map(|stage| rows::stage(stage, out.is_wide(), now))
            .collect();
        let heads = rows::stage_heads(out.is_wide());
        let head = format!("{}\n", rows::headline(pipeline, now));
        let table = table((!out.no_headers).then_some(&heads), &rows);
        if out.no_headers { table } else { head + &table }
    })?;
    Ok(())
}

async fn cancel(session: &Session, global: &Global, args: &PipelineName) -> Done {
    let shelved = find(session, &args.pipeline)?;
    let pipeline = stop(global, &shelved).await?;
    let id = pipeline.id.to_string();
    let over = pipeline.status.is_terminal();
    tell_waiting(session, &pipeline);
    session
        .out
        .one(&json!({"id": id, "status": pipeline.status}), &id, || {
            if over {
                format!("pipeline {id} is over: {}\n", pipeline.status)
            } else {
                format!("pipeline {id} is asked to stop\n")
            }
        })?;
    Ok(0)
}

/// Why stages do not go on, or did not end.
fn tell_waiting(session: &Session, pipeline: &Pipeline) {
    for stage in &pipeline.stages {
        if let Some(reason) = stage.reason.as_ref().filter(|_| stage.is_unseen()) {
            session.progress.note(&format!("{}: {reason}", stage.name));
        }
    }
}

/// Leaves word, sees to it that somebody reads it, and waits a while for the end.
async fn stop(global: &Global, shelved: &Shelved) -> Result<Pipeline, CliError> {
    let pipeline = shelved.read()?;
    if pipeline.status.is_terminal() {
        return Ok(pipeline);
    }
    shelved.check_own()?;
    shelved.ask_to_cancel()?;
    if !is_driven(shelved)? {
        start_driver(shelved, &flags(global))?;
    }
    Ok(follow::until_over(shelved, STOPPING).await?)
}

async fn resume(session: &Session, global: &Global, args: &PipelineResume) -> Done {
    let interrupts = Interrupts::listen()?;
    let shelved = find(session, &args.pipeline)?;
    take_up(session, global, &shelved).await?;
    let ways = follow::Ways {
        detach: args.detach,
        cancel_on_interrupt: args.cancel_on_interrupt,
    };
    follow::or_leave(session, global, &shelved, &ways, interrupts).await
}

/// Starts a driver, unless there is one.
async fn take_up(session: &Session, global: &Global, shelved: &Shelved) -> Result<(), CliError> {
    let Some(lock) = take(shelved).await? else {
        session.progress.note("it is driven already");
        return Ok(());
    };
    let mut pipeline = shelved.read_own()?;
    again(&mut pipeline);
    runners::check(session, &shelved.project, &pipeline).await?;
    shelved.forget_cancel()?;
    shelved.write(&pipeline)?;
    drop(lock);
    start_driver(shelved, &flags(global))?;
    Ok(())
}

fn rm(session: &Session, args: &PipelineRm) -> Done {
    let shelf = some_shelf(session)?;
    // All words are understood before anything is removed.
    let ids = args
        .pipelines
        .iter()
        .map(|word| Ok(shelf.resolve(word)?.id))
        .collect::<Result<Vec<_>, CliError>>()?;
    for id in ids {
        shelf.remove(id, args.force)?;
        session.progress.note(&format!("pipeline {id} is removed"));
    }
    Ok(0)
}

//! `push`: runs of this directory that are over, to a server that keeps them as well.

use futures::StreamExt;
use qwex_core::{Run, RunId};

use super::Done;
use super::session::Session;
use super::target::{recorded, records};
use super::transfer::{Carried, Tally, differs, found, not_over};
use crate::cli::PushArgs;
use crate::direct::Direct;
use crate::error::{CliError, Exit};
use crate::remote::{Answer, JobApiClient};

pub async fn push(session: &Session, args: &PushArgs) -> Done {
    let Some(direct) = records(session)? else {
        return Err(no_runs());
    };
    let client = session.client()?;
    let ids = if args.all {
        all(session, &direct)?
    } else {
        let words = args.runs.iter();
        let named = words.map(|word| recorded(&direct, word, "what a server keeps is there already"));
        named.collect::<Result<Vec<RunId>, CliError>>()?
    };
    let mut tally = Tally::new(session, "pushed");
    for id in ids {
        tally.take(id, one(session, &direct, client.as_ref(), id).await)?;
    }
    tally.finish()
}

/// Those that are over, oldest first.
fn all(session: &Session, direct: &Direct) -> Result<Vec<RunId>, CliError> {
    let (runs, damaged) = direct.list()?;
    for sentence in damaged {
        session.progress.note(&format!("left alone: {sentence}"));
    }
    let mut ids = Vec::new();
    for run in runs.iter().rev() {
        if run.status.is_terminal() {
            ids.push(run.id);
        } else {
            session
                .progress
                .note(&format!("left alone: run {} is {}", run.id, run.status));
        }
    }
    Ok(ids)
}

async fn one(
    session: &Session,
    direct: &Direct,
    client: &dyn JobApiClient,
    id: RunId,
) -> Result<Carried, CliError> {
    let run = direct.get(id)?;
    if !run.status.is_terminal() {
        return Err(not_over(&run, "pushed")
            .fix(format!("wait for its end, then push it: `qwexctl wait {id}`"))
            .fix(format!("or end it: `qwexctl cancel {id} --wait`")));
    }
    let run = direct.settled(run).await?;
    if run.logs.is_none() && direct.unkept(id)?.is_none() {
        return Err(not_over(&run, "pushed"));
    }
    if let Some(there) = found(client.get_run(id, None).await)? {
        return known(&run, there, client.server());
    }
    let whole = direct.whole(&run)?;
    let mut record = whole.record;
    record.project = session.project();
    let log = whole.log;
    let bytes = Box::new(move || futures::stream::iter(log.read()).boxed());
    let submission = client.import(&record, bytes).await?;
    let size = run.logs.as_ref().map_or(0, |logs| logs.bytes);
    let words = format!("{size} bytes of log, to {}", client.server());
    Ok(Carried {
        run: submission.run,
        is_new: submission.is_new,
        words,
    })
}

fn known(run: &Run, there: Answer<Run>, server: &str) -> Result<Carried, CliError> {
    match run.difference(&there.value) {
        None => Ok(Carried {
            run: there,
            is_new: false,
            words: format!("to {server}"),
        }),
        Some(what) => Err(differs(run.id, what, &format!("{server} keeps"))),
    }
}

fn no_runs() -> CliError {
    CliError::new(
        Exit::NotFound,
        "no runs are recorded in this directory or above it",
    )
    .why("there is no .qwex/runs; the runs of a server are there already")
    .fix("change to the directory in which the runs were started")
    .code("not_found")
}

//! `wait`: returns when runs are over, with the run's own exit code.

use qwex_core::{Run, RunId, RunStatus, Span};

use super::get::print;
use super::outputs::outputs_code;
use super::session::Session;
use super::target::{Target, find};
use super::{Done, exit_code};
use crate::cli::{WaitArgs, WaitFor};
use crate::direct::Direct;
use crate::error::{CliError, Exit};
use crate::progress::Stages;
use crate::remote::{Answer, JobApiClient};

/// Longest long-poll asked of the server, and the pause where a run cannot be long-polled for.
const POLL: Span = Span::from_secs(30);
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

pub async fn wait(session: &Session, args: &WaitArgs) -> Done {
    let all = all(session, args);
    match args.timeout {
        None => all.await.map_err(CliError::in_foreground),
        Some(limit) => match tokio::time::timeout(limit.as_duration(), all).await {
            Ok(done) => done.map_err(CliError::in_foreground),
            Err(_) => Err(
                CliError::new(Exit::Timeout, format!("still not there after {limit}"))
                    .why("--timeout passed; the run goes on")
                    .fix(format!("see what it does: `qwexctl why {}`", args.runs[0]))
                    .code("timeout"),
            ),
        },
    }
}

/// The exit code of the first run, in order, that has one other than 0.
async fn all(session: &Session, args: &WaitArgs) -> Done {
    let mut targets = Vec::new();
    for word in &args.runs {
        targets.push(find(session, word).await?);
    }
    let mut runs = Vec::new();
    let mut unbrought = None;
    for target in targets {
        runs.push(match target {
            Target::Remote(client, id) => one(session, client.as_ref(), id, args.what).await?,
            Target::Here(local, id) => {
                let run = here(session, &local, id, args.what).await?;
                let outputs = outputs_code(session, &local, &run.value, code(&run.value)).err();
                unbrought = unbrought.or(outputs);
                run
            }
        });
    }
    if !session.out.for_people() {
        print(session, &runs)?;
    }
    let failed = runs.iter().map(|run| code(&run.value)).find(|code| *code != 0);
    match (failed, unbrought) {
        (Some(code), _) => Ok(code),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(0),
    }
}

async fn here(session: &Session, local: &Direct, id: RunId, what: WaitFor) -> Result<Answer<Run>, CliError> {
    let run = match what {
        WaitFor::End => local.wait(id).await?,
        WaitFor::Running => loop {
            let run = local.get(id)?;
            if run.status != RunStatus::Pending {
                break run;
            }
            tokio::time::sleep(LOOK).await;
        },
    };
    Stages::new(session.progress).of_run(&run);
    Ok(Answer::of(run))
}

/// A run that only had to begin and runs is a success.
fn code(run: &Run) -> u8 {
    match run.status {
        RunStatus::Pending | RunStatus::Running => 0,
        RunStatus::Succeeded | RunStatus::Failed | RunStatus::Cancelled => exit_code::of_run(run),
    }
}

async fn one(
    session: &Session,
    client: &dyn JobApiClient,
    id: RunId,
    what: WaitFor,
) -> Result<Answer<Run>, CliError> {
    let mut stages = Stages::new(session.progress);
    let mut run = client.get_run(id, None).await?;
    loop {
        stages.of_run(&run.value);
        let there = match what {
            WaitFor::End => run.value.status.is_terminal(),
            WaitFor::Running => run.value.status != RunStatus::Pending,
        };
        if there {
            return Ok(run);
        }
        let poll = match what {
            WaitFor::End => Some(POLL),
            WaitFor::Running => {
                tokio::time::sleep(LOOK).await;
                None
            }
        };
        run = client.get_run(id, poll).await?;
    }
}

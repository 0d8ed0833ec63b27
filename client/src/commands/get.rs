//! `get`: prints runs as the API has them.

use qwex_api::run::RunRow;
use qwex_core::Run;

use super::Done;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::GetArgs;
use crate::remote::Answer;

pub async fn get(session: &Session, args: &GetArgs) -> Done {
    let mut runs = Vec::new();
    for word in &args.runs {
        runs.push(match find(session, word).await? {
            Target::Remote(client, id) => client.get_run(id, None).await?,
            Target::Local(local, id) => {
                let run = local.settled(local.get(id)?).await?;
                Answer::of(run)
            }
        });
    }
    print(session, &runs)
}

/// One run is printed as an object, several as a list.
pub fn print(session: &Session, runs: &[Answer<Run>]) -> Done {
    let rows: Vec<RunRow> = runs.iter().map(|run| row_of(&run.value)).collect();
    match runs {
        [run] if !session.out.for_people() => {
            session
                .out
                .one(&run.json, &run.value.id.to_string(), String::new)?;
        }
        runs => session
            .out
            .list(rows.iter().zip(runs.iter().map(|run| &run.json)))?,
    }
    Ok(0)
}

/// The row that a list would show of a run.
pub fn row_of(run: &Run) -> RunRow {
    let cluster = run.backend.as_ref().and_then(|backend| backend.cluster.clone());
    RunRow {
        id: run.id,
        name: run.name.clone(),
        project: run.project.clone(),
        labels: run.labels.clone(),
        status: run.status,
        pending: run.pending.clone(),
        failure: run.failure.clone(),
        cluster: cluster.or_else(|| run.spec.cluster.clone()),
        queue: run.spec.queue.clone(),
        attempt: run.attempt,
        exit_code: run.exit_code,
        flags: run.flags.clone(),
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        created_by: run.created_by.clone(),
    }
}

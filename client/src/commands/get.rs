//! `get`: prints runs as the API has them.

use qwex_api::run::RunRow;
use qwex_core::Run;

use super::Done;
use super::outputs::missing;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::GetArgs;
use crate::direct::{Direct, DirectError};
use crate::error::CliError;
use crate::remote::{Answer, row_of};

pub async fn get(session: &Session, args: &GetArgs) -> Done {
    let mut runs = Vec::new();
    for word in &args.runs {
        runs.push(match find(session, word).await? {
            Target::Remote(client, id) => client.get_run(id, None).await?,
            Target::Here(local, id) => {
                let run = local.settled(local.get(id)?).await?;
                tell_trouble(session, &local, &run)?;
                Answer::of(run)
            }
        });
    }
    print(session, &runs)
}

/// What is amiss with a run of this directory beside its record, on stderr.
pub fn tell_trouble(session: &Session, local: &Direct, run: &Run) -> Result<(), CliError> {
    if let Some((trouble, way)) = missing(local, run)? {
        session
            .progress
            .note(&format!("run {}: {trouble}; {way}", run.id));
    }
    if let Some(why) = local.unkept(run.id)? {
        let id = run.id;
        let error = CliError::from(DirectError::Unkept { id, why });
        session.progress.note(&error.sentence());
    }
    Ok(())
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

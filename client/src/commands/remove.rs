//! `rm`: records of runs of this directory go, with their logs. What a server keeps is kept for ever.

use qwex_core::RunId;

use super::Done;
use super::session::Session;
use super::target::{recorded, records};
use crate::cli::RmArgs;
use crate::error::{CliError, Exit};

pub async fn rm(session: &Session, args: &RmArgs) -> Done {
    let Some(direct) = records(session)? else {
        return Err(no_runs());
    };
    // All words are understood before anything is removed.
    let ids = args
        .runs
        .iter()
        .map(|word| recorded(&direct, word, "what a server keeps cannot be removed"))
        .collect::<Result<Vec<RunId>, CliError>>()?;
    for id in ids {
        if args.force {
            if let Some(left) = direct.remove_anyway(id).await? {
                session.progress.note(&left);
            }
        } else {
            direct.remove(id)?;
        }
        session.progress.note(&format!("run {id} is removed"));
    }
    Ok(0)
}

/// Of `rm` and `prune`.
pub fn no_runs() -> CliError {
    CliError::new(
        Exit::NotFound,
        "no runs are recorded in this directory or above it",
    )
    .why("there is no .qwex/runs; the runs of a server are kept for ever and cannot be removed")
    .fix("change to the directory in which the runs were started")
    .code("not_found")
}

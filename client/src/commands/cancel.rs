//! `cancel`: asks runs to stop. Asking twice is asking once.

use std::time::Duration;

use qwex_core::{Run, RunId};

use super::Done;
use super::direct_run::STOPPING;
use super::foreground::until_over;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::CancelArgs;
use crate::error::CliError;
use crate::output;
use crate::remote::{Answer, JobApiClient};

pub async fn cancel(session: &Session, args: &CancelArgs) -> Done {
    for word in &args.runs {
        let run = match find(session, word).await? {
            Target::Remote(client, id) => one(client.as_ref(), id, args.wait).await?,
            Target::Here(local, id) => {
                let limit = if args.wait { Duration::MAX } else { STOPPING };
                Answer::of(local.cancel(id, limit).await?)
            }
        };
        session
            .out
            .one(&run.json, &run.value.id.to_string(), || words(&run.value))?;
    }
    Ok(0)
}

async fn one(client: &dyn JobApiClient, id: RunId, wait: bool) -> Result<Answer<Run>, CliError> {
    let run = client.cancel(id).await?;
    if wait && !run.value.status.is_terminal() {
        return until_over(client, id).await;
    }
    Ok(run)
}

fn words(run: &Run) -> String {
    let id = run.id;
    if run.status.is_terminal() {
        let status = output::status_words(run.status, run.pending.as_ref(), run.failure.as_ref());
        format!("run {id} is over: {status}\n")
    } else {
        format!("run {id} is asked to stop\n")
    }
}

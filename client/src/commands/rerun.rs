//! `rerun`: the same again as a new run.

use qwex_api::run::RerunRequest;
use qwex_core::RunId;

use super::foreground::{Options, follow};
use super::interrupt::Interrupts;
use super::session::Session;
use super::{Done, resolve};
use crate::cli::RerunArgs;
use crate::error::CliError;

pub async fn rerun(session: &Session, args: &RerunArgs) -> Done {
    if args.detach {
        return begin(session, args).await;
    }
    begin(session, args).await.map_err(CliError::in_foreground)
}

async fn begin(session: &Session, args: &RerunArgs) -> Done {
    let interrupts = Interrupts::listen()?;
    let client = session.client()?;
    let old = resolve::remote(session, client.as_ref(), &args.run).await?;
    let request = RerunRequest {
        id: Some(RunId::mint()),
        cluster: args.cluster.clone(),
        queue: args.queue.clone(),
    };
    let run = client.rerun(old, &request).await?;
    let id = run.value.id;
    if args.detach {
        session
            .out
            .one(&run.json, &id.to_string(), || format!("{id}\n"))?;
        return Ok(0);
    }
    session
        .progress
        .stage("submitted", &format!("run {id}, again what {old} was"));
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: None,
        raw: false,
    };
    follow(session, client, id, &options, interrupts).await
}

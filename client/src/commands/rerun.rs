//! `rerun`: the same again as a new run.

use qwex_api::run::RerunRequest;
use qwex_core::{Run, RunId};

use super::foreground::{Options, follow};
use super::interrupt::Interrupts;
use super::session::Session;
use super::target::{Target, find};
use super::{Done, local_run};
use crate::cli::RerunArgs;
use crate::error::CliError;
use crate::local::NewRun;

pub async fn rerun(session: &Session, args: &RerunArgs) -> Done {
    if args.detach {
        return begin(session, args).await;
    }
    begin(session, args).await.map_err(CliError::in_foreground)
}

async fn begin(session: &Session, args: &RerunArgs) -> Done {
    let interrupts = Interrupts::listen()?;
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: None,
        raw: false,
    };
    let (client, old) = match find(session, &args.run).await? {
        Target::Remote(client, id) => (client, id),
        Target::Local(local, id) => {
            let new = again(args, local.get(id)?)?;
            return local_run::start(session, &local, new, args.detach, &options, interrupts).await;
        }
    };
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
    follow(session, client, id, &options, interrupts).await
}

fn again(args: &RerunArgs, old: Run) -> Result<NewRun, CliError> {
    if args.cluster.is_some() || args.queue.is_some() {
        return Err(
            CliError::usage("a run of this machine has no cluster and no queue")
                .fix("leave --cluster and --queue out, or submit it: `qwexctl run --remote …`"),
        );
    }
    Ok(NewRun {
        id: RunId::mint(),
        name: old.name,
        project: old.project,
        labels: old.labels,
        spec: old.spec,
    })
}

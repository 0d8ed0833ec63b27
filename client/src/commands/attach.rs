//! `attach`: comes back to a run.

use super::foreground::{Options, follow};
use super::interrupt::Interrupts;
use super::session::Session;
use super::target::{Target, find};
use super::{Done, direct_run};
use crate::cli::AttachArgs;
use crate::error::CliError;

pub async fn attach(session: &Session, args: &AttachArgs) -> Done {
    attached(session, args).await.map_err(CliError::in_foreground)
}

async fn attached(session: &Session, args: &AttachArgs) -> Done {
    let interrupts = Interrupts::listen()?;
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: args.tail,
        raw: args.raw,
    };
    match find(session, &args.run).await? {
        Target::Remote(client, id) => follow(session, client, id, &options, interrupts).await,
        Target::Here(_, _) if args.tail.is_some() => Err(CliError::usage(
            "--tail is for runs of a server; this one is of this directory",
        )
        .fix("leave it out, or read the end of its log: `qwexctl logs -n N RUN`")),
        Target::Here(local, id) => {
            let run = local.get(id)?;
            direct_run::follow(session, &local, run, &options, interrupts).await
        }
    }
}

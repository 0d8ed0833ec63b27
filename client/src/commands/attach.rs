//! `attach`: comes back to a run.

use super::foreground::{Options, follow};
use super::interrupt::Interrupts;
use super::session::Session;
use super::{Done, resolve};
use crate::cli::AttachArgs;
use crate::error::CliError;

pub async fn attach(session: &Session, args: &AttachArgs) -> Done {
    let interrupts = Interrupts::listen()?;
    let client = session.client().map_err(CliError::in_foreground)?;
    let id = resolve::remote(session, client.as_ref(), &args.run)
        .await
        .map_err(CliError::in_foreground)?;
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: args.tail,
        raw: args.raw,
    };
    follow(session, client, id, &options, interrupts).await
}

//! `run`: submits a run and follows it, or prints its id.

use qwex_api::run::SubmitRequest;
use qwex_core::RunId;

use super::foreground::{Options, follow};
use super::guard::Guard;
use super::interrupt::{INTERRUPTED, Interrupts};
use super::request::request;
use super::session::Session;
use super::{Done, direct_run};
use crate::cli::{AUTO, REMOTE, RunArgs};
use crate::direct::registry;
use crate::error::CliError;
use crate::remote::{JobApiClient, Submission};

pub async fn run(session: &Session, args: RunArgs) -> Done {
    let backend = backend(session, &args)?;
    let id = args.id.unwrap_or_else(RunId::mint);
    // With `auto` it is made again for each that is tried; what is wrong in the flags themselves is told at once.
    let request = request(&session.settings, &args, id, &backend)?;
    let done = match backend.as_str() {
        REMOTE => remote(session, &args, id, request).await,
        backend => direct_run::run(session, &args, request, backend).await,
    };
    if args.detach {
        done
    } else {
        done.map_err(CliError::in_foreground)
    }
}

fn backend(session: &Session, args: &RunArgs) -> Result<String, CliError> {
    if args.remote {
        return Ok(REMOTE.to_owned());
    }
    if let Some(backend) = &args.backend {
        return Ok(backend.clone());
    }
    let set = &session.settings.backend;
    let is_known = registry::find(&set.value).is_some() || [REMOTE, AUTO].contains(&set.value.as_str());
    if is_known {
        return Ok(set.value.clone());
    }
    let names: Vec<&str> = registry::REGISTRY.iter().map(|entry| entry.name).collect();
    Err(CliError::usage(format!("{:?} is no backend", set.value))
        .why(format!("it is named by {}", set.origin))
        .fix(format!("choose {}, {REMOTE} or {AUTO}", names.join(", "))))
}

async fn remote(session: &Session, args: &RunArgs, id: RunId, request: SubmitRequest) -> Done {
    Guard::load()?.check_remote(session, &request.clone().into_spec())?;
    let client = session.client()?;
    let mut interrupts = Interrupts::listen()?;
    let submission = tokio::select! {
        submission = client.submit(&request) => submission?,
        () = interrupts.next() => return Ok(interrupted(client.as_ref(), id, args.cancel_on_interrupt).await),
    };
    if args.detach {
        let run = &submission.run;
        session
            .out
            .one(&run.json, &id.to_string(), || format!("{id}\n"))?;
        return Ok(0);
    }
    session.progress.stage("submitted", &submitted(&submission));
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: None,
        raw: false,
    };
    follow(session, client, id, &options, interrupts).await
}

fn submitted(submission: &Submission) -> String {
    let run = &submission.run.value;
    let known = if submission.is_new {
        ""
    } else {
        " (it was there already)"
    };
    format!("run {} in project {}{known}", run.id, run.project)
}

/// Interrupted while the answer was awaited: nobody knows whether the server has the run.
async fn interrupted(client: &dyn JobApiClient, id: RunId, cancel: bool) -> u8 {
    let told = if cancel && client.cancel(id).await.is_ok() {
        format!("\nqwex: interrupted; run {id} is cancelled\n")
    } else {
        format!(
            "\nqwex: interrupted while submitting; the server may have run {id}\n  see      qwexctl get {id}\n  cancel   qwexctl cancel {id}\n"
        )
    };
    crate::progress::talk(&told);
    INTERRUPTED
}

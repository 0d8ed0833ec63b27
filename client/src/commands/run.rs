//! `run`: submits a run and follows it, or prints its id.

use qwex_api::run::SubmitRequest;
use qwex_core::RunId;

use super::foreground::{Options, follow};
use super::interrupt::{INTERRUPTED, Interrupts};
use super::request::request;
use super::session::Session;
use super::{Done, local_run};
use crate::cli::{BackendChoice, RunArgs};
use crate::error::{CliError, Exit};
use crate::remote::{JobApiClient, Submission};

pub async fn run(session: &Session, args: RunArgs) -> Done {
    let backend = backend(session, &args)?;
    let request = request(&session.settings, &args)?;
    let done = match backend {
        BackendChoice::Remote => remote(session, &args, request).await,
        BackendChoice::Local => local_run::run(session, &args, request).await,
        BackendChoice::Docker
        | BackendChoice::Podman
        | BackendChoice::Ssh
        | BackendChoice::K8s
        | BackendChoice::Kueue => Err(not_built(backend)),
    };
    if args.detach {
        done
    } else {
        done.map_err(CliError::in_foreground)
    }
}

fn backend(session: &Session, args: &RunArgs) -> Result<BackendChoice, CliError> {
    if args.remote {
        return Ok(BackendChoice::Remote);
    }
    if let Some(backend) = args.backend {
        return Ok(backend);
    }
    let set = &session.settings.backend;
    clap::ValueEnum::from_str(&set.value, true).map_err(|_| {
        CliError::usage(format!("{:?} is no backend", set.value))
            .why(format!("it is named by {}", set.origin))
            .fix("choose local or remote")
    })
}

fn not_built(backend: BackendChoice) -> CliError {
    let name = format!("{backend:?}").to_lowercase();
    CliError::new(Exit::Usage, format!("the backend {name} is not built into this version"))
        .why("this version runs commands on this machine (local) and through qwexcloud (remote)")
        .fix("on a cluster: register it with `qwexctl cluster add`, then `qwexctl run --remote --image IMAGE -- CMD…`")
        .fix("on this machine: `qwexctl run --backend local -- CMD…`")
        .code("backend_not_built")
}

async fn remote(session: &Session, args: &RunArgs, request: SubmitRequest) -> Done {
    let client = session.client()?;
    let id = request.id.expect("every request has an id");
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

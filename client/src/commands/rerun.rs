//! `rerun`: the same again as a new run.

use std::path::Path;

use qwex_api::run::{RerunRequest, SubmitRequest};
use qwex_core::{Run, RunId};

use super::direct_run::LOCAL;
use super::foreground::{Options, follow};
use super::guard::Guard;
use super::interrupt::Interrupts;
use super::session::Session;
use super::target::{Target, find};
use super::{Done, choose, direct_run, provenance, uv};
use crate::cli::{REMOTE, RerunArgs};
use crate::direct::{Direct, NewRun, Placed};
use crate::error::CliError;

/// Labels by which a run belongs to a pipeline.
const OF_STAGES: [&str; 2] = ["pipeline", "stage"];

pub async fn rerun(session: &Session, args: &RerunArgs) -> Done {
    if args.detach {
        return begin(session, args).await;
    }
    begin(session, args).await.map_err(CliError::in_foreground)
}

async fn begin(session: &Session, args: &RerunArgs) -> Done {
    let interrupts = Interrupts::listen()?;
    let guard = Guard::load()?;
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: None,
        raw: false,
    };
    let (client, old) = match (find(session, &args.run).await?, args.backend.as_deref()) {
        (Target::Remote(client, id), None | Some(REMOTE)) => {
            let run = client.get_run(id, None).await?.value;
            if args.image.is_some() {
                let new = again(args, run)?;
                return there(session, &guard, new, args, &options, interrupts).await;
            }
            guard.check_remote(session, &run.spec)?;
            (client, id)
        }
        (Target::Remote(client, id), Some(backend)) => {
            let direct = Direct::open()?;
            let run = client.get_run(id, None).await?.value;
            let placed = choose::moved(&guard, Placed::default(), backend)?;
            let new = again(args, run)?;
            let watched = watched(args, &options, interrupts);
            return here(session, &guard, &direct, new, placed, watched).await;
        }
        (Target::Here(direct, id), Some(REMOTE)) => {
            let new = again(args, direct.get(id)?)?;
            return there(session, &guard, new, args, &options, interrupts).await;
        }
        (Target::Here(direct, id), backend) => {
            let was = direct.placed(id)?;
            let is_of_server = was.backend == REMOTE;
            if is_of_server && backend.is_none() && session.settings.server.is_some() {
                let new = again(args, direct.get(id)?)?;
                return there(session, &guard, new, args, &options, interrupts).await;
            }
            let new = again(args, direct.get(id)?)?;
            let placed = match backend {
                Some(backend) => choose::moved(&guard, was, backend)?,
                None if is_of_server => {
                    session.progress.note(&format!(
                        "run {id} was one of {}, and no server is set: again on this machine",
                        was.words()
                    ));
                    choose::moved(&guard, was, LOCAL)?
                }
                None => was,
            };
            let watched = watched(args, &options, interrupts);
            return here(session, &guard, &direct, new, placed, watched).await;
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

fn watched<'a>(
    args: &RerunArgs,
    options: &'a Options,
    interrupts: Interrupts,
) -> Option<(&'a Options, Interrupts)> {
    (!args.detach).then_some((options, interrupts))
}

/// Starts the new run without a server. What a policy or the backend does not take is refused before anything is
/// recorded.
async fn here(
    session: &Session,
    guard: &Guard,
    direct: &Direct,
    mut new: NewRun,
    placed: Placed,
    watched: Option<(&Options, Interrupts)>,
) -> Done {
    guard.check(session, &placed, &new.spec)?;
    let placed = choose::check(direct, placed, &new.spec).await?;
    if new.provenance.runs_by.take().is_some() {
        new.provenance.runs_by = uv::of_place(session, &placed, &mut new.spec);
    }
    direct_run::start(session, direct, new, &placed, watched).await
}

/// Submits the new run to the server, unless a policy forbids it.
async fn there(
    session: &Session,
    guard: &Guard,
    new: NewRun,
    args: &RerunArgs,
    options: &Options,
    interrupts: Interrupts,
) -> Done {
    guard.check_remote(session, &new.spec)?;
    let client = session.client()?;
    let id = new.id;
    let request = SubmitRequest {
        id: Some(id),
        name: new.name,
        project: session.project(),
        labels: new.labels,
        ..SubmitRequest::from(new.spec)
    };
    let submission = client.submit(&request).await?;
    if args.detach {
        let run = &submission.run;
        session
            .out
            .one(&run.json, &id.to_string(), || format!("{id}\n"))?;
        return Ok(0);
    }
    session
        .progress
        .stage("submitted", &format!("run {id} on the server"));
    follow(session, client, id, options, interrupts).await
}

fn again(args: &RerunArgs, old: Run) -> Result<NewRun, CliError> {
    if args.cluster.is_some() || args.queue.is_some() {
        return Err(
            CliError::usage("a run of this machine has no cluster and no queue")
                .fix("leave --cluster and --queue out, or submit it: `qwexctl run --remote …`"),
        );
    }
    let mut spec = old.spec;
    spec.image = args.image.clone().or(spec.image);
    let mut provenance = provenance::of(Path::new("."));
    provenance.runs_by = old.provenance.and_then(|known| known.runs_by);
    if provenance.runs_by.is_some() {
        // It was put there for the place where the run was; the new place decides anew.
        uv::take_away(&mut spec);
    }
    let mut labels = old.labels;
    // The new run is no stage: nobody drives it.
    labels.retain(|label, _| !OF_STAGES.contains(&label.as_str()));
    Ok(NewRun {
        id: RunId::mint(),
        name: old.name,
        project: old.project,
        labels,
        spec,
        provenance,
    })
}

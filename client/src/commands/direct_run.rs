//! Runs of this machine in the foreground: started, followed, left, cancelled.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use qwex_api::run::SubmitRequest;
use qwex_core::{Failure, Project, Run, RunId};

use super::exit_code;
use super::foreground::{Options, printer};
use super::guard::Guard;
use super::interrupt::{INTERRUPTED, Interrupts};
use super::outputs::outputs_code;
use super::printer::Printer;
use super::session::Session;
use super::{Done, choose, provenance, uv};
use crate::cli::RunArgs;
use crate::direct::{Direct, NewRun, Placed};
use crate::error::{CliError, Exit};
use crate::progress::Stages;

pub(super) const LOCAL: &str = "local";
/// Longest wait of one step; a signal ends it at once.
const STEP: Duration = Duration::from_millis(200);
/// Longest wait for a cancelled run: longer than the supervisor's grace.
pub const STOPPING: Duration = Duration::from_secs(15);

/// Longest wait for a backend to take a run, or to refuse it, before the id is printed.
const TAKING: Duration = Duration::from_secs(60);

pub async fn run(session: &Session, args: &RunArgs, request: SubmitRequest, backend: &str) -> Done {
    let interrupts = Interrupts::listen()?;
    let guard = Guard::load()?;
    let direct = Direct::open()?;
    let (placed, request) = choose::place(session, &direct, &guard, args, request, backend).await?;
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: None,
        raw: false,
    };
    let mut new = new(session, request, &placed);
    guard.check(session, &placed, &new.spec)?;
    let placed = choose::check(&direct, placed, &new.spec).await?;
    if !args.place.no_uv {
        new.provenance.runs_by = uv::of_place(session, &placed, &mut new.spec);
    }
    let watched = (!args.detach).then_some((&options, interrupts));
    start(session, &direct, new, &placed, watched).await
}

/// Starts a run and follows it; nobody watches: prints its id.
pub async fn start(
    session: &Session,
    direct: &Direct,
    new: NewRun,
    placed: &Placed,
    watched: Option<(&Options, Interrupts)>,
) -> Done {
    let run = direct.start(new, placed)?;
    let id = run.id;
    if let Some((options, interrupts)) = watched {
        session
            .progress
            .stage("submitted", &format!("run {id} on {}", placed.words()));
        return follow(session, direct, run, options, interrupts).await;
    }
    let run = match run.backend {
        Some(_) => run,
        None => direct.taken(id, TAKING).await?,
    };
    session.out.one(&run, &id.to_string(), || format!("{id}\n"))?;
    match &run.failure {
        Some(failure) if run.started_at.is_none() => Err(not_taken(&run, failure)),
        Some(_) | None => Ok(0),
    }
}

fn not_taken(run: &Run, failure: &Failure) -> CliError {
    CliError::new(Exit::Failure, format!("run {} was not started", run.id))
        .why(failure.message.clone())
        .fix(format!(
            "see `qwexctl why {}`, and what works here: `qwexctl doctor`",
            run.id
        ))
        .code(failure.code.as_str())
}

fn new(session: &Session, request: SubmitRequest, placed: &Placed) -> NewRun {
    let project = session.project();
    NewRun {
        id: request.id.expect("every request has an id"),
        name: request.name.clone(),
        project: project.unwrap_or_else(|| Project::new("default").expect("a valid name")),
        labels: request.labels.clone(),
        provenance: provenance::of(placed.workspace.as_deref().unwrap_or(Path::new("."))),
        spec: request.into_spec(),
    }
}

/// Follows a run to its end; for `run` and `attach`.
pub async fn follow(
    session: &Session,
    direct: &Direct,
    run: Run,
    options: &Options,
    mut interrupts: Interrupts,
) -> Done {
    let id = run.id;
    let printer = RefCell::new(printer(session, options));
    let mut following = direct.follow(&run)?;
    let mut stages = Stages::new(session.progress);
    let mut asked = false;
    loop {
        let (mut out, mut err) = (To::out(&printer), To::err(&printer));
        let step = following.step(direct, STEP, &mut out, &mut err);
        let step = match out.failed.or(err.failed) {
            Some(kind) => return unread(kind, id),
            None => step?,
        };
        printer.borrow_mut().flush()?;
        if let Some(run) = step.run.filter(|run| !run.status.is_terminal()) {
            stages.of_run(&run);
        }
        if step.over {
            printer.borrow_mut().finish()?;
            return ended(session, direct, id).await;
        }
        if !interrupted(&mut interrupts).await {
            continue;
        }
        if asked {
            return Ok(INTERRUPTED);
        }
        if !options.cancel_on_interrupt {
            return left(session, direct, interrupts, id).await;
        }
        asked = true;
        session
            .progress
            .stage("cancelling", "interrupted; a second signal leaves at once");
        direct.cancel(id, Duration::ZERO).await?;
    }
}

/// The output cannot be shown, so nobody is there to watch.
fn unread(kind: io::ErrorKind, id: RunId) -> Done {
    crate::progress::talk(&format!(
        "qwex: the output cannot be written; run {id} goes on: qwexctl attach {id}\n"
    ));
    Err(io::Error::from(kind).into())
}

/// Whether a signal came while the step waited.
pub async fn interrupted(interrupts: &mut Interrupts) -> bool {
    // One turn of the runtime is what it takes to hear of it.
    tokio::task::yield_now().await;
    tokio::select! {
        biased;
        () = interrupts.next() => true,
        () = std::future::ready(()) => false,
    }
}

async fn ended(session: &Session, direct: &Direct, id: RunId) -> Done {
    let run = direct.ended(id).await?;
    Stages::new(session.progress).of_run(&run);
    if !session.out.for_people() {
        session.out.one(&run, &id.to_string(), String::new)?;
    }
    outputs_code(session, direct, &run, exit_code::of_run(&run))
}

async fn left(session: &Session, direct: &Direct, mut interrupts: Interrupts, id: RunId) -> Done {
    if !interrupts.detach(id).await {
        return Ok(INTERRUPTED);
    }
    let run = direct.cancel(id, STOPPING).await?;
    Stages::new(session.progress).of_run(&run);
    Ok(Exit::Cancelled.code())
}

/// A writer into one stream of the printer.
pub struct To<'a> {
    printer: &'a RefCell<Printer>,
    stream: &'static str,
    /// Why the last write failed: the backend wraps it into words.
    pub failed: Option<io::ErrorKind>,
}

impl<'a> To<'a> {
    pub fn out(printer: &'a RefCell<Printer>) -> Self {
        Self {
            printer,
            stream: "stdout",
            failed: None,
        }
    }

    pub fn err(printer: &'a RefCell<Printer>) -> Self {
        Self {
            printer,
            stream: "stderr",
            failed: None,
        }
    }
}

impl Write for To<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.printer.borrow_mut().bytes(self.stream, bytes);
        self.failed = written.as_ref().err().map(io::Error::kind);
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

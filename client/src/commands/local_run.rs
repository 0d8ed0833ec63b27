//! Runs of this machine in the foreground: started, followed, left, cancelled.

use std::cell::RefCell;
use std::io::{self, Write};
use std::time::Duration;

use qwex_api::run::SubmitRequest;
use qwex_core::{Project, Run, RunId};

use super::Done;
use super::exit_code;
use super::foreground::{Options, printer};
use super::interrupt::{INTERRUPTED, Interrupts};
use super::printer::Printer;
use super::session::Session;
use crate::cli::RunArgs;
use crate::error::{CliError, Exit};
use crate::local::{Local, LocalError, NewRun, handle_of};
use crate::progress::Stages;

/// Longest wait of one step; a signal ends it at once.
const STEP: Duration = Duration::from_millis(200);
/// Longest wait for a cancelled run: longer than the supervisor's grace.
pub const STOPPING: Duration = Duration::from_secs(15);

pub async fn run(session: &Session, args: &RunArgs, request: SubmitRequest) -> Done {
    if args.retries > 0 {
        return Err(
            CliError::usage("--retries is not built into local runs of this version")
                .fix("run it through a server: `qwexctl run --remote --retries N …`")
                .code("backend_not_built"),
        );
    }
    let interrupts = Interrupts::listen()?;
    let local = Local::open()?;
    let options = Options {
        cancel_on_interrupt: args.cancel_on_interrupt,
        tail: None,
        raw: false,
    };
    let new = new(session, args, request);
    start(session, &local, new, args.detach, &options, interrupts).await
}

/// Starts a run and follows it, or prints its id.
pub async fn start(
    session: &Session,
    local: &Local,
    new: NewRun,
    detach: bool,
    options: &Options,
    interrupts: Interrupts,
) -> Done {
    let run = local.submit(new)?;
    let id = run.id;
    if detach {
        session.out.one(&run, &id.to_string(), || format!("{id}\n"))?;
        return Ok(0);
    }
    session
        .progress
        .stage("submitted", &format!("run {id} on this machine"));
    follow(session, local, run, options, interrupts).await
}

/// What the project file says for containers and clusters is not meant for a process of this machine.
fn new(session: &Session, args: &RunArgs, mut request: SubmitRequest) -> NewRun {
    request.image = args.image.clone();
    request.queue = args.queue.clone();
    request.cluster = args.cluster.clone();
    let project = session.project();
    NewRun {
        id: request.id.expect("every request has an id"),
        name: request.name.clone(),
        project: project.unwrap_or_else(|| Project::new("default").expect("a valid name")),
        labels: request.labels.clone(),
        spec: request.into_spec(),
    }
}

/// Follows a run to its end; for `run` and `attach`.
pub async fn follow(
    session: &Session,
    local: &Local,
    run: Run,
    options: &Options,
    mut interrupts: Interrupts,
) -> Done {
    let id = run.id;
    let printer = RefCell::new(printer(session, options));
    let mut foreground = local.backend.follow_sync(&handle_of(&run));
    let mut asked = false;
    loop {
        let (mut out, mut err) = (To::out(&printer), To::err(&printer));
        let step = foreground.step(STEP, &mut out, &mut err);
        let step = match out.failed.or(err.failed) {
            Some(kind) => return unread(kind, id),
            None => step.map_err(LocalError::from)?,
        };
        printer.borrow_mut().flush()?;
        if !step.observations.is_empty() {
            local.record(id, &step.observations)?;
        }
        if step.over {
            printer.borrow_mut().finish()?;
            return ended(session, local, id).await;
        }
        if !interrupted(&mut interrupts).await {
            continue;
        }
        if asked {
            return Ok(INTERRUPTED);
        }
        if !options.cancel_on_interrupt {
            return left(session, local, interrupts, id).await;
        }
        asked = true;
        session
            .progress
            .stage("cancelling", "interrupted; a second signal leaves at once");
        local.cancel(id, Duration::ZERO).await?;
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

async fn ended(session: &Session, local: &Local, id: RunId) -> Done {
    let run = local.settled(local.get(id)?).await?;
    Stages::new(session.progress).of_run(&run);
    if !session.out.for_people() {
        session.out.one(&run, &id.to_string(), String::new)?;
    }
    Ok(exit_code::of_run(&run))
}

async fn left(session: &Session, local: &Local, mut interrupts: Interrupts, id: RunId) -> Done {
    if !interrupts.detach(id).await {
        return Ok(INTERRUPTED);
    }
    let run = local.cancel(id, STOPPING).await?;
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

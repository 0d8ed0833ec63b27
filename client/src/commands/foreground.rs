//! A run in the foreground: its log, its stages, its exit code; for `run`, `rerun` and `attach`.

use std::sync::Arc;

use futures::StreamExt;
use qwex_core::{Run, RunId, Span};

use super::Done;
use super::exit_code;
use super::interrupt::{INTERRUPTED, Interrupts};
use super::printer::{Look, Printer};
use super::session::Session;
use crate::error::{CliError, Exit};
use crate::progress::Stages;
use crate::remote::{
    Answer, EventQuery, EventStream, EventsItem, JobApiClient, LogQuery, LogStream, LogsItem, follow_events,
    follow_log,
};

/// How the foreground looks and ends.
pub struct Options {
    pub cancel_on_interrupt: bool,
    pub tail: Option<u64>,
    pub raw: bool,
}

/// Longest long-poll asked of the server.
const POLL: Span = Span::from_secs(30);

/// Follows a run to its end. Whatever fails here, the run goes on.
pub async fn follow(
    session: &Session,
    client: Arc<dyn JobApiClient>,
    id: RunId,
    options: &Options,
    interrupts: Interrupts,
) -> Done {
    followed(session, client, id, options, interrupts)
        .await
        .map_err(|error| error.fix(format!("the run goes on; come back with `qwexctl attach {id}`")))
}

async fn followed(
    session: &Session,
    client: Arc<dyn JobApiClient>,
    id: RunId,
    options: &Options,
    mut interrupts: Interrupts,
) -> Done {
    let query = LogQuery {
        follow: true,
        tail: options.tail,
        ..LogQuery::default()
    };
    let mut watch = Watch {
        logs: follow_log(client.clone(), id, query, session.patience(true)),
        events: follow_events(client.clone(), id, EventQuery::default(), session.patience(false)),
        events_open: true,
        stages: Stages::new(session.progress),
        printer: printer(session, options),
    };
    let mut asked = false;
    loop {
        tokio::select! {
            // Lines that came are printed before an interrupt is obeyed.
            biased;
            item = watch.logs.next() => {
                if let Some(run) = watch.log_item(item)? {
                    return ended(session, client.as_ref(), watch, run, id).await;
                }
            }
            item = watch.events.next(), if watch.events_open => watch.event_item(item),
            () = interrupts.next() => {
                watch.printer.flush()?;
                if asked {
                    return Ok(INTERRUPTED);
                }
                if !options.cancel_on_interrupt {
                    return left(session, client.as_ref(), interrupts, id).await;
                }
                asked = true;
                session.progress.stage("cancelling", "interrupted; a second signal leaves at once");
                client.cancel(id).await.map_err(|error| CliError::from(error).in_foreground())?;
            }
        }
    }
}

/// Log lines go where the command wrote them; stdout is left to the run's object if one was asked for.
pub fn printer(session: &Session, options: &Options) -> Printer {
    let look = Look {
        raw: options.raw,
        apart: true,
        aside: !session.out.for_people(),
        ..Look::default()
    };
    Printer::new(look, session.progress)
}

struct Watch {
    logs: LogStream,
    events: EventStream,
    events_open: bool,
    stages: Stages,
    printer: Printer,
}

impl Watch {
    /// The run once the log is over; `None` inside: the stream ended without telling the run.
    fn log_item(
        &mut self,
        item: Option<Result<LogsItem, crate::remote::ApiError>>,
    ) -> Result<Option<Option<Run>>, CliError> {
        match item {
            Some(Ok(LogsItem::Line(line))) => {
                self.printer.line(&line)?;
                self.printer.flush()?;
                Ok(None)
            }
            Some(Ok(LogsItem::End(run))) => Ok(Some(Some(*run))),
            Some(Err(error)) => Err(CliError::from(error).in_foreground()),
            None => Ok(Some(None)),
        }
    }

    /// Stages are a comfort: whatever goes wrong with them is no reason to stop.
    fn event_item(&mut self, item: Option<Result<EventsItem, crate::remote::ApiError>>) {
        match item {
            Some(Ok(EventsItem::Event(event))) => self.stages.of_event(&event.value),
            Some(Ok(EventsItem::End(_)) | Err(_)) | None => self.events_open = false,
        }
    }
}

async fn ended(
    session: &Session,
    client: &dyn JobApiClient,
    mut watch: Watch,
    run: Option<Run>,
    id: RunId,
) -> Done {
    watch.printer.finish()?;
    let over = run.as_ref().is_some_and(|run| run.status.is_terminal());
    if over && session.out.for_people() {
        let run = run.expect("a run that is over is there");
        watch.stages.of_run(&run);
        return Ok(exit_code::of_run(&run));
    }
    let answer = until_over(client, id).await?;
    watch.stages.of_run(&answer.value);
    if !session.out.for_people() {
        session.out.one(&answer.json, &id.to_string(), String::new)?;
    }
    Ok(exit_code::of_run(&answer.value))
}

/// Polls until the run is over.
pub async fn until_over(client: &dyn JobApiClient, id: RunId) -> Result<Answer<Run>, CliError> {
    loop {
        let answer = client.get_run(id, Some(POLL)).await?;
        if answer.value.status.is_terminal() {
            return Ok(answer);
        }
    }
}

/// Detached by Ctrl-C; perhaps to cancel.
async fn left(session: &Session, client: &dyn JobApiClient, mut interrupts: Interrupts, id: RunId) -> Done {
    if !interrupts.detach(id).await {
        return Ok(INTERRUPTED);
    }
    client
        .cancel(id)
        .await
        .map_err(|error| CliError::from(error).in_foreground())?;
    session.progress.stage("cancelling", "asked the run to stop");
    Ok(Exit::Cancelled.code())
}

//! `events`: the history of a run.

use futures::StreamExt;
use qwex_core::RunEvent;

use super::Done;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::EventsArgs;
use crate::error::CliError;
use crate::output::{Output, Row, print, table};
use crate::remote::{Answer, EventQuery, EventsItem, follow_events};

pub async fn events(session: &Session, args: &EventsArgs) -> Done {
    let (client, id) = match find(session, &args.run).await? {
        Target::Remote(client, id) => (client, id),
        Target::Here(local, id) => {
            if let Some(history) = local.history(id)? {
                let events: Vec<_> = history.events.into_iter().map(Answer::of).collect();
                session
                    .out
                    .list(events.iter().map(|event| (&event.value, &event.json)))?;
                return Ok(0);
            }
            return Err(CliError::usage(format!(
                "run {id} is one of this machine, and those keep no history"
            ))
            .fix(format!("see what it is now: `qwexctl describe {id}`")));
        }
    };
    if !args.follow {
        let page = client.list_events(id, EventQuery::default()).await?;
        session
            .out
            .list(page.items.iter().map(|event| (&event.value, &event.json)))?;
        return Ok(0);
    }
    let mut events = follow_events(client, id, EventQuery::default(), session.patience(true));
    let mut first = true;
    while let Some(item) = events.next().await {
        match item.map_err(CliError::from)? {
            EventsItem::Event(event) => one(session.out, &event, first)?,
            EventsItem::End(_) => break,
        }
        first = false;
    }
    Ok(0)
}

/// A row as it comes; columns as wide as they were in the rows before are not possible, so a fixed form.
fn one(out: Output, event: &Answer<RunEvent>, first: bool) -> Result<(), CliError> {
    if !out.for_people() {
        let lines = Output {
            format: streamed(out),
            ..out
        };
        lines.one(&event.json, &event.value.seq.to_string(), String::new)?;
        return Ok(());
    }
    let heads = RunEvent::heads(true);
    let cells = event.value.cells(true, jiff::Timestamp::now());
    let keep = if out.is_wide() {
        heads.len()
    } else {
        heads.len() - 1
    };
    let pad = |cells: Vec<String>| -> Vec<String> {
        let widths = [3, 20, 7, 16];
        let padded = cells.into_iter().take(keep).enumerate();
        padded
            .map(|(at, cell)| match widths.get(at) {
                Some(width) => format!("{cell:<width$}"),
                None => cell,
            })
            .collect()
    };
    if first && !out.no_headers {
        let heads = pad(heads.iter().map(|head| (*head).to_owned()).collect());
        print(&table(None, &[heads]))?;
    }
    print(&table(None, &[pad(cells)]))?;
    Ok(())
}

/// A stream of objects is one object a line.
fn streamed(out: Output) -> crate::output::Format {
    use crate::output::Format;
    match out.format {
        Format::Json | Format::Jsonl => Format::Jsonl,
        Format::Table | Format::Wide | Format::Yaml | Format::Name => out.format,
    }
}

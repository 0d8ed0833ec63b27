//! `logs`: the log of a run, live or archived, the same.

use std::sync::Arc;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use qwex_core::{Attempt, RunId};
use regex::bytes::Regex;

use super::download::download;
use super::exit_code;
use super::interrupt::{INTERRUPTED, Interrupts};
use super::printer::{Look, Printer};
use super::session::Session;
use super::target::{Target, find};
use super::{Done, direct_logs};
use crate::cli::LogsArgs;
use crate::error::CliError;
use crate::output::{print, status_words};
use crate::remote::{JobApiClient, LogQuery, LogsItem, follow_log};

pub async fn logs(session: &Session, args: &LogsArgs) -> Done {
    let grep = args.grep.as_deref().map(pattern).transpose()?;
    let (client, id) = match find(session, &args.run).await? {
        Target::Here(local, id) => return direct_logs::logs(session, &local, id, args, grep).await,
        Target::Remote(client, id) => (client, id),
    };
    let query = query(args, Timestamp::now());
    match &args.download {
        Some(path) => download(session, client.as_ref(), id, &query, path).await,
        None => stream(session, client, id, query, args, grep).await,
    }
}

fn pattern(text: &str) -> Result<Regex, CliError> {
    Regex::new(text).map_err(|error| {
        CliError::usage(format!("--grep {text:?} is not a regular expression"))
            .why(error.to_string())
            .fix("put a backslash before what is meant as it is: `--grep 'f\\(x\\)'`")
    })
}

fn query(args: &LogsArgs, now: Timestamp) -> LogQuery {
    let ago = |span: qwex_core::Span| {
        let ago = SignedDuration::try_from(span.as_duration()).unwrap_or(SignedDuration::MAX);
        now.saturating_sub(ago).unwrap_or(Timestamp::MIN)
    };
    let stream = match (args.stdout, args.stderr) {
        (true, _) => Some("stdout".to_owned()),
        (_, true) => Some("stderr".to_owned()),
        (false, false) => None,
    };
    LogQuery {
        cursor: None,
        follow: args.follow,
        tail: args.tail,
        since: args
            .since
            .map(ago)
            .or(args.since_time.map(|moment| moment.before(now))),
        until: args.until.map(|moment| moment.before(now)),
        attempt: args.attempt.map(Attempt),
        stream,
    }
}

async fn stream(
    session: &Session,
    client: Arc<dyn JobApiClient>,
    id: RunId,
    query: LogQuery,
    args: &LogsArgs,
    grep: Option<Regex>,
) -> Done {
    let look = Look {
        raw: args.raw,
        timestamps: args.timestamps,
        grep,
        ..Look::default()
    };
    let as_objects = !session.out.for_people();
    let mut printer = Printer::new(look, session.progress);
    let mut lines = follow_log(client, id, query, session.patience(true));
    let mut interrupts = Interrupts::listen()?;
    loop {
        let item = tokio::select! {
            biased;
            item = lines.next() => item,
            () = interrupts.next() => {
                printer.finish()?;
                return Ok(INTERRUPTED);
            }
        };
        match item {
            Some(Ok(LogsItem::Line(line))) if as_objects => {
                print(&(serde_json::to_string(&line).expect("a log line serialises") + "\n"))?;
            }
            Some(Ok(LogsItem::Line(line))) => {
                printer.line(&line)?;
                if args.follow {
                    printer.flush()?;
                }
            }
            Some(Ok(LogsItem::End(run))) => {
                printer.finish()?;
                if !printer.has_printed() && !run.status.is_terminal() {
                    let status = status_words(run.status, run.pending.as_ref(), run.failure.as_ref());
                    session
                        .progress
                        .note(&format!("there is no log yet, the run is {status}"));
                }
                return Ok(if args.exit_status {
                    exit_code::of_run(&run)
                } else {
                    0
                });
            }
            Some(Err(error)) => {
                printer.finish()?;
                return Err(error.into());
            }
            None => {
                printer.finish()?;
                return Ok(0);
            }
        }
    }
}

//! `logs` of a run of this machine, out of its log files.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use qwex_core::RunId;
use qwex_runner::{LogItem, LogPosition, LogSource, Watcher};
use regex::bytes::Regex;

use super::interrupt::{INTERRUPTED, Interrupts};
use super::local_run::To;
use super::printer::{Look, Printer};
use super::session::Session;
use super::{Done, exit_code};
use crate::cli::LogsArgs;
use crate::error::CliError;
use crate::local::{Local, LocalError, handle_of};

const STEP: Duration = Duration::from_millis(200);

pub async fn logs(session: &Session, local: &Local, id: RunId, args: &LogsArgs, grep: Option<Regex>) -> Done {
    refuse_what_files_cannot(args)?;
    let look = Look {
        raw: args.raw,
        grep,
        apart: true,
        ..Look::default()
    };
    let mut printer = Printer::new(look, session.progress);
    if args.follow && args.tail.is_none() && !args.stdout && !args.stderr {
        return follow(local, id, args, printer).await;
    }
    let run = local.get(id)?;
    let sources = local
        .backend
        .list_logs(&handle_of(&run))
        .await
        .map_err(LocalError::from)?;
    for source in sources.iter().filter(|source| is_wanted(source, args)) {
        one(local, source, args, &mut printer).await?;
    }
    printer.finish()?;
    Ok(if args.exit_status {
        exit_code::of_run(&local.get(id)?)
    } else {
        0
    })
}

/// Lines in files have no times, and the two streams no common order.
fn refuse_what_files_cannot(args: &LogsArgs) -> Result<(), CliError> {
    let flag = [
        (args.timestamps, "--timestamps"),
        (args.since.is_some(), "--since"),
        (args.since_time.is_some(), "--since-time"),
        (args.until.is_some(), "--until"),
        (args.attempt.is_some_and(|attempt| attempt != 1), "--attempt"),
        (args.download.is_some(), "--download"),
    ];
    match flag.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, flag)) => Err(CliError::usage(format!(
            "{flag} does not work on local runs of this version"
        ))
        .why("their log is in plain files, without times")
        .fix("read the files: .qwex/runs/RUN/stdout.log and stderr.log, or run it with --remote")),
    }
}

fn is_wanted(source: &LogSource, args: &LogsArgs) -> bool {
    match source.stream.as_str() {
        "stdout" => !args.stderr,
        "stderr" => !args.stdout,
        _ => true,
    }
}

/// Prints one stream; with `--follow` until it is over.
async fn one(
    local: &Local,
    source: &LogSource,
    args: &LogsArgs,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let mut last = args.tail.map(Tail::new);
    let follow = args.follow && last.is_none();
    let mut items = local
        .backend
        .read_log(source, LogPosition::default(), follow)
        .await
        .map_err(LocalError::from)?;
    while let Some(item) = items.next().await {
        match item.map_err(LocalError::from)? {
            LogItem::Chunk(chunk) => match &mut last {
                Some(last) => last.take(&chunk.bytes),
                None => {
                    printer.bytes(&source.stream, &chunk.bytes)?;
                    printer.flush()?;
                }
            },
            LogItem::Gap { message } => printer.gap(&message)?,
            LogItem::End => break,
        }
    }
    for line in last.into_iter().flat_map(|last| last.lines) {
        printer.bytes(&source.stream, &line)?;
    }
    Ok(())
}

/// The last lines of a stream, and no more of it in memory.
struct Tail {
    most: usize,
    lines: VecDeque<Vec<u8>>,
}

impl Tail {
    fn new(most: u64) -> Self {
        Self {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            lines: VecDeque::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match self.lines.back_mut() {
                Some(open) if open.last() != Some(&b'\n') => open.extend_from_slice(part),
                Some(_) | None => self.lines.push_back(part.to_vec()),
            }
            if self.lines.len() > self.most {
                self.lines.pop_front();
            }
        }
    }
}

async fn follow(local: &Local, id: RunId, args: &LogsArgs, printer: Printer) -> Done {
    let mut interrupts = Interrupts::listen()?;
    let run = local.get(id)?;
    let printer = RefCell::new(printer);
    let mut foreground = local.backend.follow_sync(&handle_of(&run));
    loop {
        let (mut out, mut err) = (To::out(&printer), To::err(&printer));
        let step = foreground.step(STEP, &mut out, &mut err);
        if let Some(kind) = out.failed.or(err.failed) {
            return Err(std::io::Error::from(kind).into());
        }
        let step = step.map_err(LocalError::from)?;
        printer.borrow_mut().flush()?;
        if step.over {
            printer.borrow_mut().finish()?;
            let run = local.get(id)?;
            return Ok(if args.exit_status {
                exit_code::of_run(&run)
            } else {
                0
            });
        }
        if super::local_run::interrupted(&mut interrupts).await {
            return Ok(INTERRUPTED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_whole_lines_over_any_cut() {
        let mut tail = Tail::new(2);
        for part in ["on", "e\ntwo\nth", "ree\nfo", "ur"] {
            tail.take(part.as_bytes());
        }
        let lines: Vec<String> = tail
            .lines
            .iter()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        assert_eq!(lines, ["three\n", "four"]);
    }
}

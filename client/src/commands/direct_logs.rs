//! `logs` of a run of this directory, out of its log files.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use qwex_core::{Attempt, RunId};
use qwex_runner::StoreError;
use regex::bytes::Regex;

use super::direct_run::To;
use super::interrupt::{INTERRUPTED, Interrupts};
use super::printer::{Look, Printer};
use super::session::Session;
use super::{Done, exit_code};
use crate::cli::LogsArgs;
use crate::direct::{Direct, DirectError};
use crate::error::CliError;

const STEP: Duration = Duration::from_millis(200);

pub async fn logs(
    session: &Session,
    direct: &Direct,
    id: RunId,
    args: &LogsArgs,
    grep: Option<Regex>,
) -> Done {
    refuse_what_files_cannot(args)?;
    let look = Look {
        raw: args.raw,
        grep,
        apart: true,
        ..Look::default()
    };
    let mut printer = Printer::new(look, session.progress);
    if args.follow && args.tail.is_none() && !args.stdout && !args.stderr {
        return follow(direct, id, args, printer).await;
    }
    let run = direct.get(id)?;
    let attempts = match args.attempt {
        Some(attempt) => attempt..=attempt,
        None => 1..=run.attempt.0,
    };
    for attempt in attempts.map(Attempt) {
        for (stream, path) in direct.log_files(id, attempt)? {
            if is_wanted(stream, args) {
                one(stream, &path, args, &mut printer)?;
            }
        }
    }
    printer.finish()?;
    Ok(if args.exit_status {
        exit_code::of_run(&direct.get(id)?)
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

fn is_wanted(stream: &str, args: &LogsArgs) -> bool {
    match stream {
        "stdout" => !args.stderr,
        "stderr" => !args.stdout,
        _ => true,
    }
}

/// Prints one stream as far as it is written.
fn one(stream: &str, path: &Path, args: &LogsArgs, printer: &mut Printer) -> Result<(), CliError> {
    let broken = |source| DirectError::from(StoreError::io("read", path, source));
    let mut last = args.tail.map(Tail::new);
    let mut file = File::open(path).map_err(broken)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(broken)?;
        if count == 0 {
            break;
        }
        match &mut last {
            Some(last) => last.take(&buffer[..count]),
            None => printer.bytes(stream, &buffer[..count])?,
        }
    }
    for line in last.into_iter().flat_map(|last| last.lines) {
        printer.bytes(stream, &line)?;
    }
    printer.flush()?;
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

async fn follow(direct: &Direct, id: RunId, args: &LogsArgs, printer: Printer) -> Done {
    let mut interrupts = Interrupts::listen()?;
    let run = direct.get(id)?;
    let printer = RefCell::new(printer);
    let mut following = direct.follow(&run)?;
    loop {
        let (mut out, mut err) = (To::out(&printer), To::err(&printer));
        let step = following.step(direct, STEP, &mut out, &mut err);
        if let Some(kind) = out.failed.or(err.failed) {
            return Err(std::io::Error::from(kind).into());
        }
        let step = step?;
        printer.borrow_mut().flush()?;
        if step.over {
            printer.borrow_mut().finish()?;
            let run = direct.get(id)?;
            return Ok(if args.exit_status {
                exit_code::of_run(&run)
            } else {
                0
            });
        }
        if super::direct_run::interrupted(&mut interrupts).await {
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

//! `pipeline logs`: the logs of its stages, each line behind the name of its stage. On a terminal control bytes are
//! escaped; into a pipe or a file every byte of a line goes as it is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Read};

use futures::StreamExt;

use super::super::Done;
use super::super::interrupt::Interrupts;
use super::super::session::Session;
use super::find;
use super::follow_logs::follow;
use super::runners::Runners;
use crate::cli::{Global, PipelineLogs, REMOTE};
use crate::error::{CliError, Exit, MEND_DIRECTORY};
use crate::output::escape::log_line;
use crate::output::print_bytes;
use crate::pipeline::{Pipeline, StageRecord};
use crate::remote::LogQuery;

/// Bytes of a log at a time.
const PART: usize = 64 * 1024;

pub async fn logs(session: &Session, global: &Global, args: &PipelineLogs) -> Done {
    let shelved = find(session, &args.pipeline).map_err(|error| of_latest(session, &args.pipeline, error))?;
    let runners = Runners::open(session, global, &shelved.project)?;
    if args.follow {
        let interrupts = Interrupts::listen()?;
        return follow(session, args, &shelved, &runners, interrupts).await;
    }
    let pipeline = shelved.read()?;
    let meant = meant(&pipeline, args)?;
    let names = meant.iter().map(|stage| stage.name.chars().count());
    let width = names.max().unwrap_or_default();
    for stage in meant.into_iter().filter(|stage| stage.started_at.is_some()) {
        let mut behind = Behind::new(&stage.name, width, args.tail);
        let printed = if stage.backend == REMOTE {
            of_server(&runners, stage, &mut behind).await
        } else {
            of_files(&runners, stage, &mut behind)
        };
        match printed {
            Ok(()) => {}
            Err(error) if error.exit == Exit::Quiet => return Err(error),
            Err(error) => session.progress.note(&format!(
                "the log of {} cannot be read: {}",
                stage.name, error.what
            )),
        }
    }
    Ok(0)
}

/// Nothing bears that word as its name; where it is a stage of the latest pipeline, how to say that.
fn of_latest(session: &Session, word: &str, error: CliError) -> CliError {
    let latest = find(session, "@latest")
        .ok()
        .and_then(|latest| latest.read().ok());
    let is_stage = latest.is_some_and(|latest| {
        let mut stages = latest.stages.iter();
        stages.any(|stage| stage.name == word || stage.stage == word)
    });
    if error.exit != Exit::NotFound || !is_stage {
        return error;
    }
    error.fix(format!(
        "a stage goes behind its pipeline: `qwexctl pipeline logs @latest {word}`"
    ))
}

/// The stages whose logs are asked for.
pub fn meant<'a>(pipeline: &'a Pipeline, args: &PipelineLogs) -> Result<Vec<&'a StageRecord>, CliError> {
    let is_meant = |stage: &&StageRecord| {
        args.stages.is_empty() || args.stages.contains(&stage.name) || args.stages.contains(&stage.stage)
    };
    let meant: Vec<&StageRecord> = pipeline.stages.iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(CliError::new(Exit::NotFound, "the pipeline has no such stage")
            .fix(format!("its stages: `qwexctl pipeline get {}`", pipeline.id))
            .code("not_found"));
    }
    Ok(meant)
}

fn of_files(runners: &Runners, stage: &StageRecord, behind: &mut Behind) -> Result<(), CliError> {
    let mut buffer = vec![0; PART];
    for path in runners.log_files(stage.run_id)? {
        let broken = |error: io::Error| {
            CliError::new(
                Exit::Failure,
                format!("{} cannot be read: {error}", path.display()),
            )
            .fix(MEND_DIRECTORY)
        };
        let mut file = File::open(&path).map_err(broken)?;
        loop {
            let count = file.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            print_bytes(&behind.take(&buffer[..count]))?;
        }
        print_bytes(&behind.end_of_stream())?;
    }
    print_bytes(&behind.last())?;
    Ok(())
}

async fn of_server(runners: &Runners, stage: &StageRecord, behind: &mut Behind) -> Result<(), CliError> {
    let whole = LogQuery::default();
    let mut log = runners.server()?.read_log(stage.run_id, &whole).await?;
    while let Some(part) = log.next().await {
        print_bytes(&behind.take(&part?))?;
    }
    print_bytes(&behind.end_of_stream())?;
    print_bytes(&behind.last())?;
    Ok(())
}

/// Cuts a log into lines and puts the name of its stage before each.
pub struct Behind {
    head: String,
    /// For a terminal.
    escapes: bool,
    open: Vec<u8>,
    /// With a tail: how many lines, and the last ones so far.
    tail: Option<(usize, VecDeque<Vec<u8>>)>,
}

impl Behind {
    /// For stdout, whatever that is.
    pub fn new(name: &str, width: usize, tail: Option<usize>) -> Self {
        Self::with(name, width, tail, io::stdout().is_terminal())
    }

    fn with(name: &str, width: usize, tail: Option<usize>, escapes: bool) -> Self {
        Self {
            head: format!("{name:width$} | "),
            escapes,
            open: Vec::new(),
            tail: tail.map(|most| (most, VecDeque::new())),
        }
    }

    /// What can be printed after these bytes.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut ready = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(part);
            if self.open.ends_with(b"\n") {
                ready.extend(self.line());
            }
        }
        ready
    }

    /// The last line of a stream may have no end.
    pub fn end_of_stream(&mut self) -> Vec<u8> {
        if self.open.is_empty() {
            Vec::new()
        } else {
            self.line()
        }
    }

    fn line(&mut self) -> Vec<u8> {
        let content = self.open.strip_suffix(b"\n").unwrap_or(&self.open);
        let mut line = self.head.clone().into_bytes();
        if self.escapes {
            line.extend_from_slice(log_line(content).as_bytes());
        } else {
            line.extend_from_slice(content);
        }
        line.push(b'\n');
        self.open.clear();
        let Some((most, last)) = &mut self.tail else {
            return line;
        };
        last.push_back(line);
        if last.len() > *most {
            last.pop_front();
        }
        Vec::new()
    }

    /// What was held back for the tail.
    fn last(&mut self) -> Vec<u8> {
        let last = self.tail.take();
        last.into_iter().flat_map(|(_, lines)| lines).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(name: &str, width: usize, parts: &[&[u8]], tail: Option<usize>) -> String {
        let mut behind = Behind::with(name, width, tail, true);
        let mut all: Vec<u8> = parts.iter().flat_map(|part| behind.take(part)).collect();
        all.extend(behind.end_of_stream());
        all.extend(behind.last());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn only_a_terminal_is_kept_from_control_bytes() {
        let line = b"\x1b[31mred\xff\r\n";
        let mut raw = Behind::with("a", 1, None, false);
        assert_eq!(raw.take(line), b"a | \x1b[31mred\xff\r\n");
        let mut escaped = Behind::with("a", 1, None, true);
        assert_eq!(escaped.take(line), b"a | \\x1b[31mred\\xff\n");
    }

    #[test]
    fn every_line_says_whose_it_is() {
        assert_eq!(
            behind("a", 3, &[b"on", b"e\ntwo"], None),
            "a   | one\na   | two\n"
        );
        assert_eq!(behind("a", 1, &[b"one\n", b"two\n"], Some(1)), "a | two\n");
        assert_eq!(behind("a", 1, &[b"one\n"], Some(0)), "");
        assert_eq!(behind("a", 1, &[], None), "");
    }
}

//! Prints log lines: raw bytes where programs read, escaped where a terminal would obey them.

use std::io::{self, BufWriter, IsTerminal, Write};

use qwex_api::log::LogLine;
use regex::bytes::Regex;

use crate::output::escape;
use crate::progress::Progress;
use crate::remote::lines::content_of;

/// How lines are printed.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Control bytes reach a terminal as they are.
    pub raw: bool,
    pub timestamps: bool,
    pub grep: Option<Regex>,
    /// The command's stderr goes to ours; else all lines go to stdout.
    pub apart: bool,
    /// Everything goes to stderr, because stdout carries an object.
    pub aside: bool,
}

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    Err,
}

pub struct Printer {
    look: Look,
    out: BufWriter<io::Stdout>,
    out_is_terminal: bool,
    err_is_terminal: bool,
    progress: Progress,
    /// Parts of a line that is not over, while it must be seen whole to be judged.
    held: Vec<u8>,
    /// The last line has no newline yet.
    open: Option<Way>,
}

impl Printer {
    pub fn new(look: Look, progress: Progress) -> Self {
        Self {
            look,
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            progress,
            held: Vec::new(),
            open: None,
        }
    }

    /// Prints one item; a gap becomes a note on stderr.
    pub fn line(&mut self, line: &LogLine) -> io::Result<()> {
        if let Some(gap) = &line.gap {
            self.flush()?;
            self.progress.stage("gap", gap);
            return Ok(());
        }
        let content = content_of(line);
        let Some(grep) = &self.look.grep else {
            return self.write(line, &content);
        };
        self.held.extend_from_slice(&content);
        if line.partial {
            return Ok(());
        }
        let whole = std::mem::take(&mut self.held);
        if grep.is_match(&whole) {
            return self.write(line, &whole);
        }
        Ok(())
    }

    fn write(&mut self, line: &LogLine, content: &[u8]) -> io::Result<()> {
        let err = self.look.aside || (self.look.apart && line.stream == "stderr");
        let (way, terminal) = if err {
            (Way::Err, self.err_is_terminal)
        } else {
            (Way::Out, self.out_is_terminal)
        };
        let mut bytes = Vec::with_capacity(content.len() + 32);
        if self.open.is_some_and(|open| open != way) {
            // The other stream's open line would swallow the head of this one.
            self.flush()?;
        }
        if self.look.timestamps && self.open.is_none() {
            bytes.extend_from_slice(format!("{} ", line.at).as_bytes());
        }
        if terminal && !self.look.raw {
            bytes.extend_from_slice(escape::log_line(content).as_bytes());
        } else {
            bytes.extend_from_slice(content);
        }
        if line.partial {
            self.open = Some(way);
        } else {
            bytes.push(b'\n');
            self.open = None;
        }
        match way {
            Way::Out => self.out.write_all(&bytes),
            Way::Err => io::stderr().lock().write_all(&bytes),
        }
    }

    /// What was printed is seen.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The stream is over: on a terminal the prompt must not hang behind an unfinished line.
    pub fn finish(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if self
            .look
            .grep
            .as_ref()
            .is_some_and(|grep| !held.is_empty() && grep.is_match(&held))
        {
            self.out.write_all(&held)?;
            self.open = Some(Way::Out);
        }
        if self.open.take() == Some(Way::Out) && self.out_is_terminal {
            self.out.write_all(b"\n")?;
        }
        self.flush()
    }
}

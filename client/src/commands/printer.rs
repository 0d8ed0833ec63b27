//! Prints log lines: raw bytes where programs read, escaped where a terminal would obey them.

use std::io::{self, BufWriter, IsTerminal, Write};

use qwex_api::log::LogLine;
use qwex_core::Attempt;
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

/// A line, or a part of one that goes on.
#[derive(Clone, Copy)]
struct Piece<'a> {
    content: &'a [u8],
    stream: &'a str,
    partial: bool,
    at: Option<jiff::Timestamp>,
}

pub struct Printer {
    look: Look,
    out: BufWriter<io::Stdout>,
    out_is_terminal: bool,
    err_is_terminal: bool,
    progress: Progress,
    /// Parts of a line that is not over, while it must be seen whole to be judged.
    held: Vec<u8>,
    /// When the held line began.
    held_at: Option<jiff::Timestamp>,
    /// The last line has no newline yet.
    open: Option<Way>,
    printed: bool,
    /// Attempt and stream of the last line.
    source: Option<(Attempt, String)>,
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
            held_at: None,
            open: None,
            printed: false,
            source: None,
        }
    }

    /// Prints one item; a gap becomes a note on stderr.
    pub fn line(&mut self, line: &LogLine) -> io::Result<()> {
        if let Some(gap) = &line.gap {
            return self.gap(gap);
        }
        self.turn_to(line)?;
        let piece = Piece {
            content: &content_of(line),
            stream: &line.stream,
            partial: line.partial,
            at: Some(line.at),
        };
        self.piece(piece)
    }

    /// On a terminal the first line of another attempt or stream must not hang behind an unfinished one.
    fn turn_to(&mut self, line: &LogLine) -> io::Result<()> {
        let source = (line.attempt, line.stream.clone());
        let turned = self
            .source
            .replace(source.clone())
            .is_some_and(|before| before != source);
        if turned && self.open == Some(Way::Out) && self.out_is_terminal {
            self.out.write_all(b"\n")?;
            self.open = None;
        }
        Ok(())
    }

    /// Bytes are missing here; told on stderr.
    pub fn gap(&mut self, message: &str) -> io::Result<()> {
        self.flush()?;
        self.progress.stage("gap", message);
        Ok(())
    }

    /// Prints raw bytes of a stream, as many lines or parts of them as there are.
    pub fn bytes(&mut self, stream: &str, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\n");
            let (content, partial) = (line.unwrap_or(part), line.is_none());
            self.piece(Piece {
                content,
                stream,
                partial,
                at: None,
            })?;
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece<'_>) -> io::Result<()> {
        let Some(grep) = &self.look.grep else {
            return self.write(&piece);
        };
        self.held_at = self.held_at.or(piece.at);
        self.held.extend_from_slice(piece.content);
        if piece.partial {
            return Ok(());
        }
        let (whole, at) = (std::mem::take(&mut self.held), self.held_at.take());
        if grep.is_match(&whole) {
            return self.write(&Piece {
                content: &whole,
                at,
                ..piece
            });
        }
        Ok(())
    }

    fn write(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        let err = self.look.aside || (self.look.apart && piece.stream == "stderr");
        let (way, terminal) = if err {
            (Way::Err, self.err_is_terminal)
        } else {
            (Way::Out, self.out_is_terminal)
        };
        if self.open.is_some_and(|open| open != way) {
            // On one terminal the order of both streams is the order of writing.
            self.flush()?;
        }
        self.printed = true;
        let mut bytes = Vec::with_capacity(piece.content.len() + 32);
        if let (true, None, Some(at)) = (self.look.timestamps, self.open, piece.at) {
            bytes.extend_from_slice(format!("{at} ").as_bytes());
        }
        if terminal && !self.look.raw {
            bytes.extend_from_slice(escape::log_line(piece.content).as_bytes());
        } else {
            bytes.extend_from_slice(piece.content);
        }
        if piece.partial {
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

    #[must_use]
    pub fn has_printed(&self) -> bool {
        self.printed
    }

    /// What was printed is seen.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The stream is over: on a terminal the prompt must not hang behind an unfinished line.
    pub fn finish(&mut self) -> io::Result<()> {
        let (held, at) = (std::mem::take(&mut self.held), self.held_at.take());
        let wanted = |grep: &Regex| !held.is_empty() && grep.is_match(&held);
        if self.look.grep.as_ref().is_some_and(wanted) {
            self.write(&Piece {
                content: &held,
                stream: "",
                partial: true,
                at,
            })?;
        }
        if self.open.take() == Some(Way::Out) && self.out_is_terminal {
            self.out.write_all(b"\n")?;
        }
        self.flush()
    }
}

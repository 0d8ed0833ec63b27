//! Talk on stderr: one line per stage of a run, notes, and questions on a terminal. Data never goes here.

mod stages;

use std::io::{self, BufRead, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;

pub use stages::{Stages, ending_words};

use crate::output::escape::one_line;

/// The choice of `--progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// Lines with colour.
    Tty,
    /// Lines without colour.
    Plain,
    /// One JSON object a line.
    Json,
    None,
}

/// Where progress goes.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    choice: Choice,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    stage: &'a str,
    message: &'a str,
}

impl Progress {
    #[must_use]
    pub fn new(choice: Choice) -> Self {
        let choice = match choice {
            Choice::Auto if io::stderr().is_terminal() => Choice::Tty,
            Choice::Auto => Choice::Plain,
            Choice::Tty | Choice::Plain | Choice::Json | Choice::None => choice,
        };
        Self { choice }
    }

    /// A stage was reached: a word and a sentence.
    pub fn stage(self, stage: &str, message: &str) {
        let message = one_line(message);
        match self.choice {
            Choice::Auto | Choice::Plain => talk(&format!("qwex: {stage}: {message}\n")),
            Choice::Tty => {
                let (dim, bold) = (Style::new().dimmed(), color_of(stage));
                talk(&format!(
                    "{dim}qwex:{dim:#} {bold}{stage}{bold:#}{dim}: {message}{dim:#}\n"
                ));
            }
            Choice::Json => {
                let line = JsonLine {
                    stage,
                    message: &message,
                };
                let text = serde_json::to_string(&line).expect("two strings serialise");
                talk(&format!("{text}\n"));
            }
            Choice::None => {}
        }
    }

    /// Something the user should know, whatever `--progress` says, unless it is `none`.
    pub fn note(self, message: &str) {
        self.stage("note", message);
    }
}

/// Ends and trouble stand out.
fn color_of(stage: &str) -> Style {
    let color = match stage {
        "succeeded" => AnsiColor::Green,
        "failed" | "gap" => AnsiColor::Red,
        "cancelled" | "cancelling" | "retry" | "retrying" | "reconnecting" | "unreachable" => {
            AnsiColor::Yellow
        }
        _ => AnsiColor::Cyan,
    };
    color.on_default()
}

/// Writes to stderr; a closed stderr is nobody's loss.
pub fn talk(text: &str) {
    let mut err = anstream::stderr().lock();
    err.write_all(text.as_bytes()).and_then(|()| err.flush()).ok();
}

/// Whether a question may be asked: there is somebody to answer.
#[must_use]
pub fn may_ask() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && !is_set("CI")
        && !is_set("QWEX_PROMPT_DISABLED")
}

/// Asks on stderr; anything but yes is no.
#[must_use]
pub fn ask(question: &str) -> bool {
    talk(&format!("{question} [y/N] "));
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer).is_err() {
        return false;
    }
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

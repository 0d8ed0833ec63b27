//! A breach of a rule and how it is printed. Made by every chore, printed by `main`.

use std::fmt;
use std::process::ExitCode;

/// One place where a rule of the house is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// Path from the root of the repository.
    pub file: String,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: usize,
    /// The rule, as a sentence, with what broke it.
    pub sentence: String,
}

impl Breach {
    pub fn new(file: impl Into<String>, line: usize, sentence: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.sentence),
            line => write!(f, "{}:{line}: {}", self.file, self.sentence),
        }
    }
}

/// Prints every breach on stderr; fails when there is one.
pub fn print(breaches: &[Breach]) -> ExitCode {
    for breach in breaches {
        eprintln!("{breach}");
    }
    match breaches.len() {
        0 => ExitCode::SUCCESS,
        n => {
            eprintln!("{n} broken rule(s); ARCHITECTURE.md and CONTRIBUTING.md say where things belong");
            ExitCode::FAILURE
        }
    }
}

//! A regular expression that is compiled when a line first has one of the words without which it cannot match: to
//! compile those of qwex takes ten times as long as all else that is done before a run is started.

use std::borrow::Cow;
use std::sync::OnceLock;

use regex::Regex;

#[derive(Debug, Clone)]
pub struct Pattern {
    /// In small letters of ASCII; every line that matches has one of them. Empty: it is not known.
    words: &'static [&'static str],
    text: &'static str,
    compiled: OnceLock<Regex>,
}

/// A line, with its capital letters of ASCII made small beside it.
#[derive(Debug)]
pub struct Line<'a> {
    pub text: &'a str,
    small: String,
}

impl<'a> Line<'a> {
    pub fn new(text: &'a str) -> Self {
        let small = text.to_ascii_lowercase();
        Self { text, small }
    }
}

impl Pattern {
    /// One of qwex.
    pub fn builtin(text: &'static str, words: &'static [&'static str]) -> Self {
        Self {
            words,
            text,
            compiled: OnceLock::new(),
        }
    }

    /// One that somebody wrote, compiled already.
    pub fn own(compiled: Regex) -> Self {
        Self {
            words: &[],
            text: "",
            compiled: OnceLock::from(compiled),
        }
    }

    pub fn is_match(&self, line: &Line<'_>) -> bool {
        self.may_match(line) && self.regex().is_match(line.text)
    }

    /// The line without what matches.
    pub fn replace_all<'l>(&self, line: &'l str, by: &str) -> Cow<'l, str> {
        if self.may_match(&Line::new(line)) {
            self.regex().replace_all(line, by)
        } else {
            Cow::Borrowed(line)
        }
    }

    fn may_match(&self, line: &Line<'_>) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| line.small.contains(word))
    }

    fn regex(&self) -> &Regex {
        self.compiled
            .get_or_init(|| Regex::new(self.text).expect("a test compiles every pattern"))
    }
}

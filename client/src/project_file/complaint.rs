//! What is wrong with a file, where, and how to mend it; drawn with the line and a caret under the place.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use crate::error::{CliError, Exit};
use crate::output::escape::one_line;

/// A file as it was read, under the name that people know it by.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub path: &'a str,
    pub text: &'a str,
}

impl Source<'_> {
    /// The line that a place is on, from 1.
    #[must_use]
    pub fn line(&self, at: &Range<usize>) -> usize {
        self.text
            .get(..at.start)
            .unwrap_or_default()
            .matches('\n')
            .count()
            + 1
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Bytes of the file.
    pub at: Range<usize>,
    /// One sentence without a full stop.
    pub what: String,
    /// What stands at the caret.
    pub label: String,
    /// Other places that belong to it.
    pub also: Vec<(Range<usize>, String)>,
    pub fix: Option<String>,
}

/// A complaint for programs.
#[derive(Debug, Serialize)]
pub struct Told<'a> {
    /// From 1; columns count characters.
    pub line: usize,
    pub column: usize,
    pub message: &'a str,
    pub label: &'a str,
    pub fix: Option<&'a str>,
}

impl Complaint {
    #[must_use]
    pub fn new(at: &Range<usize>, what: impl Into<String>) -> Self {
        Self {
            at: at.clone(),
            what: what.into(),
            label: String::new(),
            also: Vec::new(),
            fix: None,
        }
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub fn also(mut self, at: &Range<usize>, label: impl Into<String>) -> Self {
        self.also.push((at.clone(), label.into()));
        self
    }

    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// `did you mean …?` at the caret, if a word is near.
    #[must_use]
    pub fn or_meant<'w>(self, word: &str, known: impl IntoIterator<Item = &'w str>) -> Self {
        match nearest(word, known) {
            Some(near) => self.label(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    #[must_use]
    pub fn told<'a>(&'a self, source: Source<'_>) -> Told<'a> {
        let before = source.text.get(..self.at.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Told {
            line: source.line(&self.at),
            column: before[line_start..].chars().count() + 1,
            message: &self.what,
            label: &self.label,
            fix: self.fix.as_deref(),
        }
    }

    fn drawn(&self, source: Source<'_>, renderer: &Renderer) -> String {
        let (what, label) = (one_line(&self.what), one_line(&self.label));
        let primary = AnnotationKind::Primary
            .span(within(&self.at, source.text))
            .label(label.as_ref());
        let others = self.also.iter().map(|(at, label)| {
            AnnotationKind::Context
                .span(within(at, source.text))
                .label(label.as_str())
        });
        let snippet = Snippet::source(source.text)
            .path(source.path)
            .annotation(primary)
            .annotations(others);
        let mut group = Level::ERROR.primary_title(what.as_ref()).element(snippet);
        let fix = self.fix.as_deref().map(one_line);
        if let Some(fix) = &fix {
            group = group.element(Level::HELP.message(fix.as_ref()));
        }
        renderer.render(&[group])
    }
}

/// A range that lies in the text, on character borders, and is not empty where it can be helped.
fn within(at: &Range<usize>, text: &str) -> Range<usize> {
    let border = |mut index: usize| {
        index = index.min(text.len());
        while !text.is_char_boundary(index) {
            index -= 1;
        }
        index
    };
    let start = border(at.start);
    let line_end = text[start..].find('\n').map_or(text.len(), |end| start + end);
    let end = border(at.end).clamp(start, line_end.max(start));
    let trimmed = start + text[start..end].trim_end().len();
    let one = text[start..].chars().next().map_or(0, char::len_utf8);
    start..trimmed.max((start + one).min(line_end).max(start))
}

/// The known word that was most likely meant.
#[must_use]
pub fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    const NEAR: f64 = 0.75;
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|near| (strsim::jaro_winkler(&lower, &near.to_lowercase()), near))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, near)| near)
}

/// A sort of file that is read strictly.
#[derive(Debug, Clone, Copy)]
pub struct FileKind {
    pub noun: &'static str,
    /// Where its fields are explained.
    pub help: &'static str,
    pub code: &'static str,
}

const PROJECT_FILE: FileKind = FileKind {
    noun: "project file",
    help: "`qwexctl help spec` shows its fields, `qwexctl schema` the whole of it for an editor",
    code: "project_file",
};

/// The error of a command that cannot use the project file.
#[must_use]
pub fn refused(source: Source<'_>, complaints: &[Complaint]) -> CliError {
    refused_as(PROJECT_FILE, source, complaints)
}

/// The error of a command that cannot use a file.
#[must_use]
pub fn refused_as(kind: FileKind, source: Source<'_>, complaints: &[Complaint]) -> CliError {
    let renderer = Renderer::plain();
    let drawn: Vec<String> = complaints
        .iter()
        .map(|complaint| complaint.drawn(source, &renderer))
        .collect();
    let what = match complaints.len() {
        1 => format!("the {} {} cannot be used", kind.noun, source.path),
        many => format!(
            "the {} {} cannot be used: {many} problems",
            kind.noun, source.path
        ),
    };
    CliError::new(Exit::Usage, what)
        .drawing(drawn.join("\n\n"))
        .fix(kind.help)
        .code(kind.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["image", "needs", "command", "docker"];
        assert_eq!(nearest("imagee", known), Some("image"));
        assert_eq!(nearest("Comand", known), Some("command"));
        assert_eq!(nearest("dokcer", known), Some("docker"));
        assert_eq!(nearest("zzz", known), None);
    }

    #[test]
    fn any_place_can_be_drawn() {
        let text = "a: ü\nb:\n";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let complaint = Complaint::new(&(start..end), "bad").label("here");
                let error = refused(Source { path: "q", text }, &[complaint]);
                assert!(error.text().contains("bad"));
            }
        }
    }
}

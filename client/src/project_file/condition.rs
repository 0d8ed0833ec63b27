//! `if:`, a small expression. The whole of it:
//!
//! ```text
//! any     = all { "||" all }
//! all     = one { "&&" one }
//! one     = "!" one | "(" any ")" | success() | failure() | always() | value [ ("==" | "!=") value ]
//! value   = ${env.X} | ${var.X} | ${matrix.X} | ${pipeline.id} | 'text' | "text" | word
//! ```
//!
//! A value alone is true unless it is empty, `false` or `0`. A name that is not set is empty. Without success(),
//! failure() or always(), success() is meant besides.

use std::fmt;
use std::ops::Range;

use super::variables::{Name, names};

/// An expression that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Any(Vec<Condition>),
    All(Vec<Condition>),
    Not(Box<Condition>),
    Success,
    Failure,
    Always,
    Same(Value, Value),
    Other(Value, Value),
    Truth(Value),
}

/// A side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// Space, name, default.
    Named(&'static str, String, Option<String>),
}

/// How the needs of a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    /// All succeeded, or were allowed to fail.
    pub success: bool,
    /// One failed, or was skipped for a failure before it.
    pub failure: bool,
}

/// Why a text is no condition, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    pub range: Range<usize>,
    pub message: String,
}

/// Deeper ones are refused, so that reading needs no deep stack.
const DEEPEST: usize = 64;

impl Condition {
    /// Reads an expression.
    ///
    /// # Errors
    /// The first thing that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Misread> {
        let tokens = tokens(text)?;
        let mut reader = Reader {
            tokens: &tokens,
            at: 0,
            end: text.len(),
            depth: 0,
        };
        let condition = reader.any()?;
        match reader.peek() {
            None => Ok(condition),
            Some((_, range)) => Err(misread(range, "nothing can follow here but && or ||")),
        }
    }

    /// Whether the stage runs.
    #[must_use]
    pub fn holds(&self, needs: Outcomes) -> bool {
        (self.speaks_of_needs() || needs.success) && self.is_true(needs)
    }

    fn is_true(&self, needs: Outcomes) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.is_true(needs)),
            Self::All(parts) => parts.iter().all(|part| part.is_true(needs)),
            Self::Not(part) => !part.is_true(needs),
            Self::Success => needs.success,
            Self::Failure => needs.failure,
            Self::Always => true,
            Self::Same(left, right) => left.text() == right.text(),
            Self::Other(left, right) => left.text() != right.text(),
            Self::Truth(value) => !matches!(value.text(), "" | "false" | "0"),
        }
    }

    fn speaks_of_needs(&self) -> bool {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().any(Self::speaks_of_needs),
            Self::Not(part) => part.speaks_of_needs(),
            Self::Success | Self::Failure | Self::Always => true,
            Self::Same(..) | Self::Other(..) | Self::Truth(_) => false,
        }
    }

    /// The same with every name replaced by what `lookup` gives; what it does not know is empty.
    #[must_use]
    pub fn with(&self, lookup: &dyn Fn(&str, &str) -> Option<String>) -> Self {
        let each = |parts: &[Self]| parts.iter().map(|part| part.with(lookup)).collect();
        let value = |value: &Value| match value {
            Value::Text(text) => Value::Text(text.clone()),
            Value::Named(space, name, default) => Value::Text(
                lookup(space, name)
                    .or_else(|| default.clone())
                    .unwrap_or_default(),
            ),
        };
        match self {
            Self::Any(parts) => Self::Any(each(parts)),
            Self::All(parts) => Self::All(each(parts)),
            Self::Not(part) => Self::Not(Box::new(part.with(lookup))),
            Self::Success => Self::Success,
            Self::Failure => Self::Failure,
            Self::Always => Self::Always,
            Self::Same(left, right) => Self::Same(value(left), value(right)),
            Self::Other(left, right) => Self::Other(value(left), value(right)),
            Self::Truth(one) => Self::Truth(value(one)),
        }
    }

    /// The names in it, as space and name.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().flat_map(Self::named).collect(),
            Self::Not(part) => part.named(),
            Self::Success | Self::Failure | Self::Always => Vec::new(),
            Self::Same(left, right) | Self::Other(left, right) => {
                [left, right].into_iter().filter_map(Value::named).collect()
            }
            Self::Truth(value) => value.named().into_iter().collect(),
        }
    }
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Named(..) => "",
        }
    }

    fn named(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Text(_) => None,
            Self::Named(space, name, _) => Some((space, name)),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Named(space, name, None) => write!(f, "${{{space}.{name}}}"),
            Self::Named(space, name, Some(default)) => write!(f, "${{{space}.{name}:-{default}}}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], with: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(f, " {with} ")?;
                }
                if matches!(part, Self::Any(_) | Self::All(_)) {
                    write!(f, "({part})")?;
                } else {
                    write!(f, "{part}")?;
                }
            }
            Ok(())
        };
        match self {
            Self::Any(parts) => joined(f, parts, "||"),
            Self::All(parts) => joined(f, parts, "&&"),
            Self::Not(part) => write!(f, "!({part})"),
            Self::Success => f.write_str("success()"),
            Self::Failure => f.write_str("failure()"),
            Self::Always => f.write_str("always()"),
            Self::Same(left, right) => write!(f, "{left} == {right}"),
            Self::Other(left, right) => write!(f, "{left} != {right}"),
            Self::Truth(value) => write!(f, "{value}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Mark(&'static str),
    Call(Condition),
    Value(Value),
}

const MARKS: [&str; 7] = ["&&", "||", "==", "!=", "!", "(", ")"];
const CALLS: [(&str, Condition); 3] = [
    ("success()", Condition::Success),
    ("failure()", Condition::Failure),
    ("always()", Condition::Always),
];

fn misread(range: &Range<usize>, message: impl Into<String>) -> Misread {
    Misread {
        range: range.clone(),
        message: message.into(),
    }
}

fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, Misread> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) =
            token(&text[at..]).map_err(|message| misread(&(at..at + first.len_utf8()), message))?;
        tokens.push((token, at..at + length));
        at += length;
    }
    Ok(tokens)
}

fn token(rest: &str) -> Result<(Token, usize), String> {
    if let Some((call, condition)) = CALLS.into_iter().find(|(call, _)| rest.starts_with(call)) {
        return Ok((Token::Call(condition), call.len()));
    }
    if let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) {
        return Ok((Token::Mark(mark), mark.len()));
    }
    if rest.starts_with("${") {
        return name(rest);
    }
    if let Some(quote) = rest.chars().next().filter(|c| ['\'', '"'].contains(c)) {
        return quoted(rest, quote);
    }
    let word: &str = rest
        .split(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)))
        .next()
        .unwrap_or_default();
    if word.is_empty() {
        return Err("this cannot stand here; put text into quotes".to_owned());
    }
    if rest[word.len()..].starts_with('(') {
        return Err(format!(
            "there is no function {word}(); there are success(), failure() and always()"
        ));
    }
    Ok((Token::Value(Value::Text(word.to_owned())), word.len()))
}

fn name(rest: &str) -> Result<(Token, usize), String> {
    let end = rest
        .find('}')
        .ok_or("the name has no end; write it like ${env.NAME}")?
        + 1;
    let found = names(&rest[..end]).unwrap_or_default();
    match found.as_slice() {
        [
            Name {
                space,
                name,
                default,
                range,
            },
        ] if *range == (0..end) => {
            let value = Value::Named(space, (*name).to_owned(), default.map(str::to_owned));
            Ok((Token::Value(value), end))
        }
        _ => Err("here goes ${env.X}, ${var.X}, ${matrix.X} or ${pipeline.id}".to_owned()),
    }
}

/// A quote inside is written twice.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut at = 1;
    loop {
        let Some(end) = rest[at..].find(quote) else {
            return Err("the quote has no end".to_owned());
        };
        text.push_str(&rest[at..at + end]);
        at += end + 1;
        if !rest[at..].starts_with(quote) {
            return Ok((Token::Value(Value::Text(text)), at));
        }
        text.push(quote);
        at += 1;
    }
}

struct Reader<'t> {
    tokens: &'t [(Token, Range<usize>)],
    at: usize,
    end: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<&'t (Token, Range<usize>)> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, mark: &'static str) -> bool {
        let is_there = self.peek().is_some_and(|(token, _)| *token == Token::Mark(mark));
        self.at += usize::from(is_there);
        is_there
    }

    fn any(&mut self) -> Result<Condition, Misread> {
        let mut parts = vec![self.all()?];
        while self.takes("||") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, Misread> {
        let mut parts = vec![self.one()?];
        while self.takes("&&") {
            parts.push(self.one()?);
        }
        Ok(one_or(parts, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, Misread> {
        let here = self.peek().map_or(self.end..self.end, |(_, range)| range.clone());
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(misread(&here, "this is nested too deep"));
        }
        let condition = if self.takes("!") {
            Condition::Not(Box::new(self.one()?))
        } else if self.takes("(") {
            let inner = self.any()?;
            if !self.takes(")") {
                let at = self.peek().map_or(self.end..self.end, |(_, range)| range.clone());
                return Err(misread(&at, "here the parenthesis must be closed"));
            }
            inner
        } else {
            self.comparison(&here)?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn comparison(&mut self, here: &Range<usize>) -> Result<Condition, Misread> {
        if let Some((Token::Call(call), _)) = self.peek() {
            self.at += 1;
            return Ok(call.clone());
        }
        let left = self.value(here)?;
        if self.takes("==") {
            return Ok(Condition::Same(left, self.value(here)?));
        }
        if self.takes("!=") {
            return Ok(Condition::Other(left, self.value(here)?));
        }
        Ok(Condition::Truth(left))
    }

    fn value(&mut self, before: &Range<usize>) -> Result<Value, Misread> {
        match self.peek() {
            Some((Token::Value(value), _)) => {
                self.at += 1;
                Ok(value.clone())
            }
            Some((_, range)) => Err(misread(range, "here a value is missing")),
            None => Err(misread(
                &(before.start..self.end),
                "a value is missing at the end",
            )),
        }
    }
}

fn one_or(mut parts: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() == 1 {
        parts.remove(0)
    } else {
        many(parts)
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;

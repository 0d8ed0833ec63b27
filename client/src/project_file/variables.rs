//! `${env.X}`, `${var.X}`, `${matrix.X}`, `${run.id}` and `${pipeline.id}` in the text of a field. A `${…}` without a dot
//! is the shell's own and stays; `$${env.X}` is written out as `${env.X}`; `${env.X:-text}` has a default.
//!
//! Filled in twice: all but the id of the run when a pipeline is made ([`fill`]), the id when the stage is handed to its
//! backend ([`settle`]). What was filled in is never looked at again: a value cannot name another.

use std::ops::Range;

/// The words before the dot.
pub const SPACES: [&str; 5] = ["env", "var", "matrix", "run", "pipeline"];

/// A name in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'t> {
    pub space: &'static str,
    pub name: &'t str,
    pub default: Option<&'t str>,
    /// Bytes of the text, with `${` and `}`.
    pub range: Range<usize>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    Value(String),
    /// Not known before the run is handed over.
    Later,
}

/// A name that stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Like `env.X`.
    pub name: String,
    pub range: Range<usize>,
}

/// A piece of a text.
enum Piece<'t> {
    Plain(&'t str),
    /// `$${env.`: the dollar that keeps it from being a name is dropped in the end.
    Escaped,
    Name(Name<'t>),
    /// `${env.` and then nothing that can be read.
    Broken(Range<usize>),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        at = start + 2;
        let Some(space) = space_of(&text[at..]) else {
            continue;
        };
        if text[..start].ends_with('$') {
            pieces.push(Piece::Plain(&text[plain..start - 1]));
            pieces.push(Piece::Escaped);
            plain = start;
            continue;
        }
        pieces.push(Piece::Plain(&text[plain..start]));
        let name_at = at + space.len() + 1;
        match read_name(&text[name_at..]) {
            Some((name, default, length)) => {
                at = name_at + length;
                pieces.push(Piece::Name(Name {
                    space,
                    name,
                    default,
                    range: start..at,
                }));
            }
            None => {
                at = name_at;
                pieces.push(Piece::Broken(start..at));
            }
        }
        plain = at;
    }
    pieces.push(Piece::Plain(&text[plain..]));
    pieces
}

fn space_of(rest: &str) -> Option<&'static str> {
    SPACES
        .into_iter()
        .find(|space| rest.strip_prefix(space).is_some_and(|rest| rest.starts_with('.')))
}

/// Name, default, and the bytes up to behind the `}`.
fn read_name(rest: &str) -> Option<(&str, Option<&str>, usize)> {
    let end = rest.find('}')?;
    let inner = &rest[..end];
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    is_name.then_some((name, default, end + 1))
}

/// Every name in a text.
///
/// # Errors
/// The place of one that cannot be read.
pub fn names(text: &str) -> Result<Vec<Name<'_>>, Range<usize>> {
    let mut names = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Name(name) => names.push(name),
            Piece::Broken(range) => return Err(range),
            Piece::Plain(_) | Piece::Escaped => {}
        }
    }
    Ok(names)
}

/// Fills in what `lookup` knows. The outcome is for [`settle`] yet.
///
/// # Errors
/// The first name that stands for nothing and has no default.
pub fn fill(text: &str, lookup: impl Fn(&Name<'_>) -> Option<Known>) -> Result<String, Unknown> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => filled.push_str(plain),
            Piece::Escaped => filled.push('$'),
            Piece::Name(name) => match (lookup(&name), name.default) {
                (Some(Known::Value(value)), _) => filled.push_str(&escaped(&value)),
                (Some(Known::Later), _) => filled.push_str(&text[name.range.clone()]),
                (None, Some(default)) => filled.push_str(default),
                (None, None) => {
                    return Err(Unknown {
                        name: format!("{}.{}", name.space, name.name),
                        range: name.range,
                    });
                }
            },
            Piece::Broken(range) => {
                return Err(Unknown {
                    name: text[range.clone()].to_owned(),
                    range,
                });
            }
        }
    }
    Ok(filled)
}

/// A value that [`settle`] gives back as it is.
fn escaped(value: &str) -> String {
    let mut safe = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        safe.push_str(before);
        if space_of(&from[2..]).is_some() {
            safe.push('$');
        }
        safe.push_str("${");
        rest = &from[2..];
    }
    safe.push_str(rest);
    safe
}

/// Fills in the id of the run and drops the escapes.
#[must_use]
pub fn settle(text: &str, run_id: &str) -> String {
    let mut settled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => settled.push_str(plain),
            Piece::Escaped => {}
            Piece::Name(name) if name.space == "run" && name.name == "id" => settled.push_str(run_id),
            Piece::Name(name) => settled.push_str(&text[name.range]),
            Piece::Broken(range) => settled.push_str(&text[range]),
        }
    }
    settled
}

/// Whether a filled text waits for the id of its run.
#[must_use]
pub fn names_the_run(text: &str) -> bool {
    names(text).is_ok_and(|names| names.iter().any(|name| name.space == "run"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &Name<'_>) -> Option<Known> {
        match (name.space, name.name) {
            ("env", "A") => Some(Known::Value("a".to_owned())),
            ("env", "SLY") => Some(Known::Value("${run.id} $${HOME} ${env.A}".to_owned())),
            ("run", "id") => Some(Known::Later),
            _ => None,
        }
    }

    fn both(text: &str) -> String {
        settle(&fill(text, known).unwrap(), "0199")
    }

    #[test]
    fn fills_in_ours_and_leaves_the_shells() {
        assert_eq!(
            both("x ${env.A} ${HOME} ${A:-b} $A $$ ${run.id}"),
            "x a ${HOME} ${A:-b} $A $$ 0199"
        );
        assert_eq!(both("${env.B:-none}${env.B:-}${env.A:-b}"), "nonea");
        assert_eq!(
            both("$${env.A} $${HOME} $$${env.A}"),
            "${env.A} $${HOME} $${env.A}"
        );
    }

    #[test]
    fn a_value_is_never_looked_at_again() {
        assert_eq!(both("${env.SLY}"), "${run.id} $${HOME} ${env.A}");
    }

    #[test]
    fn what_stands_for_nothing_is_told_with_its_place() {
        let unknown = fill("ab ${env.B}", known).unwrap_err();
        assert_eq!((unknown.name.as_str(), unknown.range), ("env.B", 3..11));
        for broken in ["${env.", "${env.}", "${env.a b}", "${matrix.x", "${run.id"] {
            assert!(fill(broken, known).is_err(), "{broken}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives(text in "[${}.:envr uidmatx-]{0,40}") {
            let _ = names(&text);
            if let Ok(filled) = fill(&text, |_| Some(Known::Value("${env.x}$".into()))) {
                let _ = settle(&filled, "id");
            }
        }
    }
}

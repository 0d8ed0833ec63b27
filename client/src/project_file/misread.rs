//! The refusals of the YAML reader, in words for people and with the place to look at.

use std::ops::Range;

use serde_saphyr::{Error, Location};

use super::at::bytes;
use super::complaint::Complaint;

/// How fields are written whose form people most often miss.
pub type Forms = &'static [(&'static str, &'static str)];

/// Those of `qwex.yaml`.
pub const FORMS: Forms = &[
    ("stages", "- name: test"),
    ("needs", "[build, test]"),
    ("matrix", "{ lr: [0.1, 0.01] }"),
    ("retry", "{ limit: 3 }"),
    ("backoff", "{ initial: 5s }"),
    ("resources", "{ cpu: 2, memory: 4Gi }"),
    ("placement", "{ require: { gpu: a100 } }"),
    ("mounts", "[{ kind: volume, source: data, target: /data }]"),
    ("env", "{ NAME: value }"),
    ("vars", "{ name: value }"),
    ("secrets", "{ VARIABLE: secret/key }"),
    ("ulimits", "{ nofile: 1024 }"),
    ("ports", "['8080:80']"),
];

/// What the reader of YAML refused.
#[must_use]
pub fn misread(text: &str, error: &Error, forms: Forms) -> Complaint {
    let error = error.without_snippet();
    let at = error.location().map_or(0..0, |location| place(text, &location));
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            unknown_field(&key_at(text, &at, field), field, expected)
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => Complaint::new(&at, format!("`{variant}` is none of {}", expected.join(", ")))
            .or_meant(variant, expected.iter().copied()),
        Error::SerdeMissingField { field, .. } => {
            Complaint::new(&at, format!("the field `{field}` is missing")).label("in this one")
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("this one");
            Complaint::new(&at, format!("the field `{key}` is there twice")).label("the second one")
        }
        Error::SerdeInvalidType {
            unexpected, expected, ..
        } => formed(
            text,
            &at,
            Complaint::new(&at, format!("here must be {expected}")).label(format!("this is {unexpected}")),
            forms,
        ),
        Error::Unexpected { expected, .. } => unexpected(text, &at, expected, forms),
        Error::NullIntoString { .. } => {
            Complaint::new(&at, "here a value is missing").label("write \"\" for an empty one")
        }
        Error::InvalidBooleanStrict { .. } => Complaint::new(&at, "here must be true or false"),
        Error::InvalidScalar { ty, .. } => Complaint::new(&at, format!("here must be {}", kind(ty))),
        Error::MultipleDocuments { .. } => Complaint::new(&at, "the file holds more than one document")
            .label("the second one begins here")
            .fix("remove the line `---` before it, or make it a file of its own"),
        other => Complaint::new(&at, words(other)),
    }
}

fn unknown_field(at: &Range<usize>, field: &str, expected: &[&'static str]) -> Complaint {
    if field == "server" && expected.contains(&"stages") {
        return Complaint::new(at, "a project file cannot name a server")
            .label("it could lead your token away")
            .fix("name one of the user's contexts: `context: NAME`");
    }
    let complaint = Complaint::new(at, format!("there is no field `{field}` here"))
        .or_meant(field, expected.iter().copied());
    if complaint.label.is_empty() {
        complaint.fix(format!("the fields here are {}", expected.join(", ")))
    } else {
        complaint
    }
}

fn unexpected(text: &str, at: &Range<usize>, expected: &str, forms: Forms) -> Complaint {
    let written = text.get(at.clone()).unwrap_or_default().trim();
    let plain = !written.is_empty() && !written.contains(['{', '[', '\n', ':']);
    let complaint = match expected {
        "sequence start" if plain && form(text, at, forms) != Some("- name: test") => {
            return Complaint::new(at, "here must be a list").label(format!("write it like [{written}]"));
        }
        "sequence start" => Complaint::new(at, "here must be a list"),
        "mapping start" => Complaint::new(at, "here must be fields").label("write it like name: value"),
        "string scalar" => Complaint::new(at, "here must be text"),
        expected => Complaint::new(at, format!("here must be a {expected}")),
    };
    formed(text, at, complaint, forms)
}

/// With the form of the field, if it is one that people miss.
fn formed(text: &str, at: &Range<usize>, complaint: Complaint, forms: Forms) -> Complaint {
    match form(text, at, forms) {
        Some(form) => complaint.label(format!("write it like {form}")),
        None => complaint,
    }
}

/// How the field is written whose value stands at a place.
fn form(text: &str, at: &Range<usize>, forms: Forms) -> Option<&'static str> {
    let before = text
        .get(..at.start)?
        .trim_end()
        .trim_end_matches(['[', '-'])
        .trim_end();
    let key = before.strip_suffix(':')?;
    let key = key.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    forms.iter().find(|(name, _)| *name == key).map(|(_, form)| *form)
}

/// What the reader's name of a type means.
fn kind(ty: &str) -> String {
    match ty {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        other => format!("a {other}"),
    }
}

/// The bytes of a place. The scanner of YAML knows lines and columns only.
fn place(text: &str, location: &Location) -> Range<usize> {
    if location.span().byte_offset().is_some() {
        return bytes(location);
    }
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let line = number(location.line()).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let column = number(location.column()).saturating_sub(1);
    let chars = text[start..].chars().take_while(|c| *c != '\n').take(column);
    let at = start + chars.map(char::len_utf8).sum::<usize>();
    at..at
}

/// The reader tells the place of the value in some cases; the key is what people look for.
fn key_at(text: &str, at: &Range<usize>, field: &str) -> Range<usize> {
    let is_there = text.get(at.start..).is_some_and(|rest| rest.starts_with(field));
    if is_there {
        return at.start..at.start + field.len();
    }
    let line_start = text
        .get(..at.start)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |at| at + 1);
    match text.get(line_start..).and_then(|rest| rest.find(field)) {
        Some(found) => line_start + found..line_start + found + field.len(),
        None => at.clone(),
    }
}

/// The reader's sentence, without the place that the caret shows.
fn words(error: &Error) -> String {
    let told = error.to_string();
    let first = told.lines().next().unwrap_or_default().trim();
    let place = first
        .rfind(" at line ")
        .filter(|_| first.ends_with(|c: char| c.is_ascii_digit()));
    let bare = place.map_or(first, |at| &first[..at]);
    let bare = bare.strip_prefix("error: ").unwrap_or(bare);
    if bare.starts_with("tabs disallowed") {
        return "lines of YAML are indented with spaces, never with tabs".to_owned();
    }
    if bare.is_empty() {
        "this is no YAML that can be used".to_owned()
    } else {
        bare.to_owned()
    }
}

//! `-o` and what it does to one object and to a list.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::rows::Row;
use super::table::table;

/// The choice of `-o`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    /// The table with more columns and full times.
    Wide,
    /// The object of the API, indented.
    Json,
    Yaml,
    /// Ids or names only, one a line.
    Name,
    /// The object of the API, one a line.
    Jsonl,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output {
    pub format: Format,
    pub no_headers: bool,
}

impl Output {
    #[must_use]
    pub fn is_wide(self) -> bool {
        self.format == Format::Wide
    }

    /// Whether people read it, not programs.
    #[must_use]
    pub fn for_people(self) -> bool {
        match self.format {
            Format::Table | Format::Wide => true,
            Format::Json | Format::Yaml | Format::Name | Format::Jsonl => false,
        }
    }

    /// Prints one object: `json` as the API gave it, or the text that `people` makes.
    pub fn one<J: Serialize>(self, json: &J, name: &str, people: impl FnOnce() -> String) -> io::Result<()> {
        let text = match self.format {
            Format::Table | Format::Wide => people(),
            Format::Json => pretty(json)?,
            Format::Yaml => yaml(json)?,
            Format::Jsonl => line(json)?,
            Format::Name => format!("{name}\n"),
        };
        print(&text)
    }

    /// Prints a list of rows, each with its JSON as the API gave it.
    pub fn list<'a, R, J>(self, items: impl IntoIterator<Item = (&'a R, &'a J)>) -> io::Result<()>
    where
        R: Row + 'a,
        J: Serialize + 'a,
    {
        let items: Vec<(&R, &J)> = items.into_iter().collect();
        let json = || List {
            items: items.iter().map(|(_, json)| *json).collect(),
        };
        let text = match self.format {
            Format::Table | Format::Wide => self.rows(&items),
            Format::Json => pretty(&json())?,
            Format::Yaml => yaml(&json())?,
            Format::Jsonl => items
                .iter()
                .map(|(_, json)| line(json))
                .collect::<io::Result<String>>()?,
            Format::Name => items.iter().map(|(row, _)| format!("{}\n", row.name())).collect(),
        };
        print(&text)
    }

    fn rows<R: Row, J>(self, items: &[(&R, &J)]) -> String {
        let (wide, now) = (self.is_wide(), jiff::Timestamp::now());
        let cells: Vec<Vec<String>> = items.iter().map(|(row, _)| row.cells(wide, now)).collect();
        let heads = R::heads(wide);
        table((!self.no_headers).then_some(&heads), &cells)
    }
}

/// A list has the shape of a page of the API.
#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
}

fn pretty(json: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(json)? + "\n")
}

fn line(json: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(json)? + "\n")
}

fn yaml(json: &impl Serialize) -> io::Result<String> {
    let mut text = serde_saphyr::to_string(json).map_err(io::Error::other)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Writes to stdout and flushes.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes bytes of others to stdout as they are, and flushes.
pub fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

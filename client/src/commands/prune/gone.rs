//! What goes, as rows: one each for programs, and for people the many small files of a kind in one.

use std::path::Path;

use jiff::Timestamp;
use qwex_core::{Run, RunStatus};
use serde::Serialize;

use crate::output::{Row, age};
use crate::pipeline::{Pipeline, Stored, Unneeded};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Run,
    Pipeline,
    CacheKey,
    Object,
    LeftFile,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Run,
        Self::Pipeline,
        Self::CacheKey,
        Self::Object,
        Self::LeftFile,
    ];

    /// For one, and for several.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Run => ("run", "runs"),
            Self::Pipeline => ("pipeline", "pipelines"),
            Self::CacheKey => ("cached result", "cached results"),
            Self::Object => ("stored file", "stored files"),
            Self::LeftFile => ("left file", "left files"),
        }
    }

    /// Whether each of them means something to people.
    fn is_known_to_people(self) -> bool {
        match self {
            Self::Run | Self::Pipeline => true,
            Self::CacheKey | Self::Object | Self::LeftFile => false,
        }
    }
}

/// Something that goes, or that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gone {
    pub kind: Kind,
    /// Id, key, hash, or path of a file in `.qwex`.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    pub bytes: u64,
}

impl Gone {
    fn file(kind: Kind, id: String, bytes: u64) -> Self {
        Self {
            kind,
            id,
            name: None,
            status: None,
            finished_at: None,
            bytes,
        }
    }

    pub fn run(run: &Run, dir: &Path) -> Self {
        Self {
            name: run.name.as_ref().map(ToString::to_string),
            status: Some(run.status),
            finished_at: run.finished_at,
            ..Self::file(Kind::Run, run.id.to_string(), bytes_in(dir))
        }
    }

    pub fn pipeline(pipeline: &Pipeline, dir: &Path) -> Self {
        Self {
            name: pipeline.name.clone(),
            status: Some(pipeline.status),
            finished_at: pipeline.finished_at,
            ..Self::file(Kind::Pipeline, pipeline.id.to_string(), bytes_in(dir))
        }
    }

    pub fn left(path: &Path) -> Self {
        Self::file(Kind::LeftFile, path.display().to_string(), bytes_in(path))
    }

    pub fn stored(unneeded: Unneeded) -> Vec<Self> {
        let rows = |kind: Kind, all: Vec<Stored>| {
            let row = move |one: Stored| Self::file(kind, one.name, one.bytes);
            all.into_iter().map(row)
        };
        rows(Kind::CacheKey, unneeded.keys)
            .chain(rows(Kind::Object, unneeded.objects))
            .chain(rows(Kind::LeftFile, unneeded.begun))
            .collect()
    }
}

/// Of a file, or of all files below a directory. What cannot be looked at has none.
fn bytes_in(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    if !meta.is_dir() {
        return meta.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| bytes_in(&entry.path())).sum()
}

/// `2 runs, 1 stored file; 3.4 MiB`.
pub fn summed(all: &[Gone]) -> String {
    let counts: Vec<String> = Kind::ALL
        .iter()
        .filter_map(|kind| {
            let count = all.iter().filter(|one| one.kind == *kind).count();
            let (one, many) = kind.words();
            match count {
                0 => None,
                1 => Some(format!("1 {one}")),
                count => Some(format!("{count} {many}")),
            }
        })
        .collect();
    let bytes = all.iter().map(|one| one.bytes).sum();
    format!("{}; {}", counts.join(", "), size(bytes))
}

/// Like `3.4 MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    let mut number = bytes;
    let mut rest = 0;
    for word in UNITS {
        if number < 1024 {
            break;
        }
        (number, rest) = (number / 1024, number % 1024);
        unit = Some(word);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) if number >= 100 => format!("{number} {unit}"),
        Some(unit) => format!("{number}.{} {unit}", rest * 10 / 1024),
    }
}

/// For people: each run and pipeline, and a line for all of each other kind.
pub fn folded(all: &[Gone]) -> Vec<Gone> {
    let mut rows: Vec<Gone> = Vec::new();
    for kind in Kind::ALL {
        let of_kind = all.iter().filter(|one| one.kind == kind);
        if kind.is_known_to_people() {
            rows.extend(of_kind.cloned());
            continue;
        }
        let (count, bytes) = of_kind.fold((0_u64, 0), |(count, bytes), one| (count + 1, bytes + one.bytes));
        if count > 0 {
            rows.push(Gone::file(kind, format!("{count} of them"), bytes));
        }
    }
    rows
}

impl Row for Gone {
    fn name(&self) -> String {
        self.id.clone()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["WHAT", "ID", "NAME", "STATUS", "SIZE", "AGE"]
    }

    fn cells(&self, _wide: bool, now: Timestamp) -> Vec<String> {
        let (word, _) = self.kind.words();
        vec![
            word.to_owned(),
            self.id.clone(),
            self.name.clone().unwrap_or_default(),
            self.status.map(|status| status.to_string()).unwrap_or_default(),
            size(self.bytes),
            self.finished_at.map(|at| age::age(at, now)).unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (300 << 10, "300 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn small_files_are_one_line_for_people_and_counted() {
        let all = [
            Gone::file(Kind::Run, "a".to_owned(), 1000),
            Gone::file(Kind::Object, "b".to_owned(), 1),
            Gone::file(Kind::Object, "c".to_owned(), 47),
        ];
        let rows: Vec<String> = folded(&all).iter().map(|row| row.id.clone()).collect();
        assert_eq!(rows, ["a", "2 of them"]);
        assert_eq!(summed(&all), "1 run, 2 stored files; 1.0 KiB");
    }
}

//! The table of the README, written from the records of the suites and held against them. A test of its own, so that
//! whoever runs the tests cannot pass it by.

use std::fmt::Write as _;
use std::path::Path;

use super::CASES;
use super::record::{Answer, COLUMNS, is_recording, path, root};

const BEGIN: &str = "<!-- conformance: written by `make conformance` from docs/conformance/ -->\n";
const END: &str = "<!-- end of conformance -->\n";

/// The answers of a column, in the order of [`CASES`].
fn column(key: &str) -> Vec<Answer> {
    let file = path(key);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut lines = text.lines();
    let answers = CASES.iter().map(|case| {
        let line = lines.next().unwrap_or_default();
        let answer = line
            .strip_prefix(case.name)
            .and_then(|rest| rest.strip_prefix(" = "));
        answer.and_then(|answer| answer.parse().ok()).unwrap_or_else(|| {
            panic!(
                "{key}: {line:?} stands where {} should; `make conformance`",
                case.name
            )
        })
    });
    let answers = answers.collect();
    assert_eq!(lines.next(), None, "{key}: more answers than laws");
    answers
}

/// The table, and below it what the numbers in it mean.
fn table() -> String {
    let columns: Vec<Vec<Answer>> = COLUMNS.iter().map(|(key, _)| column(key)).collect();
    let mut notes: Vec<&Answer> = Vec::new();
    let mut text = String::new();
    let heads: Vec<&str> = COLUMNS.iter().map(|(_, head)| *head).collect();
    writeln!(text, "| | {} |", heads.join(" | ")).unwrap();
    writeln!(text, "|---|{}", ":-:|".repeat(heads.len())).unwrap();
    for (row, case) in CASES.iter().enumerate() {
        write!(text, "| {} |", case.words).unwrap();
        for column in &columns {
            let answer = &column[row];
            let number = match answer {
                Answer::Kept => None,
                Answer::Otherwise(_) | Answer::Refused(_) => {
                    let known = notes.iter().position(|note| *note == answer);
                    Some(known.unwrap_or_else(|| {
                        notes.push(answer);
                        notes.len() - 1
                    }))
                }
            };
            match (answer, number) {
                (Answer::Refused(_), Some(number)) => write!(text, " no<sup>{}</sup> |", number + 1),
                (_, Some(number)) => write!(text, " differs<sup>{}</sup> |", number + 1),
                (_, None) => write!(text, " yes |"),
            }
            .unwrap();
        }
        text.push('\n');
    }
    text.push('\n');
    for (number, note) in notes.iter().enumerate() {
        let words = match note {
            Answer::Kept => continue,
            Answer::Otherwise(how) => how.clone(),
            Answer::Refused(what) => format!("refused before the submit, lacking {what}"),
        };
        writeln!(text, "{}. {words}", number + 1).unwrap();
    }
    text
}

#[test]
fn the_readme_shows_what_the_suites_saw() {
    let readme = root().join("README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the README has the table's first mark");
    let (shown, after) = rest
        .split_once(END)
        .expect("the README has the table's last mark");
    let wanted = table();
    if is_recording() {
        std::fs::write(&readme, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            shown, wanted,
            "the README shows another table than docs/conformance/ says; `make conformance`"
        );
    }
}

/// A column that nobody runs would be a table written by hand.
#[test]
fn every_column_is_what_a_suite_runs() {
    let mut sources = String::new();
    for below in ["crates", "tests", "client"] {
        read_tests(&root().join(below), &mut sources);
    }
    for (key, _) in COLUMNS {
        let calls = sources.matches(&format!("conformance!(\"{key}\",")).count();
        assert_eq!(calls, 1, "the column {key} is run by one suite");
    }
    let files = std::fs::read_dir(path("x").parent().unwrap()).unwrap().count();
    assert_eq!(files, COLUMNS.len(), "each file of docs/conformance/ is a column");
}

/// All `conformance.rs` of the suites, without spaces.
fn read_tests(dir: &Path, into: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() && entry.file_name() != "src" {
            read_tests(&entry.path(), into);
        } else if entry.file_name() == "conformance.rs" {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            into.extend(text.split_whitespace());
        }
    }
}

//! `diff`: what differs between two runs, wherever each of them was.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use qwex_core::Run;
use serde::Serialize;
use serde_json::Value;

use super::Done;
use super::session::Session;
use super::target::{Target, find};
use crate::cli::DiffArgs;
use crate::error::CliError;
use crate::output::Row;

/// What a run was asked, where it came from and how it ended; identity and times differ always.
const COMPARED: [&str; 10] = [
    "/spec",
    "/labels",
    "/backend/kind",
    "/backend/cluster",
    "/backend/address",
    "/provenance",
    "/status",
    "/failure/code",
    "/exit_code",
    "/logs/sha256",
];
/// Values of variables may be secret.
const HIDDEN: &str = "/spec/env/";

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    field: String,
    a: Option<String>,
    b: Option<String>,
}

impl Row for Difference {
    fn name(&self) -> String {
        self.field.clone()
    }

    fn heads(_wide: bool) -> Vec<&'static str> {
        vec!["FIELD", "A", "B"]
    }

    fn cells(&self, _wide: bool, _now: Timestamp) -> Vec<String> {
        let cell = |value: &Option<String>| value.clone().unwrap_or_default();
        vec![self.field.clone(), cell(&self.a), cell(&self.b)]
    }
}

pub async fn diff(session: &Session, args: &DiffArgs) -> Done {
    let a = read(session, &args.a).await.map_err(CliError::of_comparison)?;
    let b = read(session, &args.b).await.map_err(CliError::of_comparison)?;
    let differences = differences(&a, &b);
    session
        .out
        .list(differences.iter().map(|difference| (difference, difference)))?;
    if differences.is_empty() && session.out.for_people() {
        session.progress.note("nothing differs");
    }
    Ok(u8::from(!differences.is_empty()))
}

async fn read(session: &Session, word: &str) -> Result<Run, CliError> {
    Ok(match find(session, word).await? {
        Target::Remote(client, id) => client.get_run(id, None).await?.value,
        Target::Here(local, id) => local.settled(local.get(id)?).await?,
    })
}

fn differences(a: &Run, b: &Run) -> Vec<Difference> {
    let (a, b) = (fields(a), fields(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| Difference {
            field: name.trim_start_matches('/').replace('/', "."),
            a: shown(name, a.get(name), "one value"),
            b: shown(name, b.get(name), "another"),
        })
        .collect()
}

fn shown(name: &str, value: Option<&String>, hidden: &str) -> Option<String> {
    let value = value?;
    let is_hidden = name.starts_with(HIDDEN);
    Some(if is_hidden {
        format!("({hidden})")
    } else {
        value.clone()
    })
}

/// Every leaf that is compared, by its pointer. A list is a leaf: the command is one thing.
fn fields(run: &Run) -> BTreeMap<String, String> {
    let run = serde_json::to_value(run).expect("a run serialises");
    let mut fields = BTreeMap::new();
    for pointer in COMPARED {
        if let Some(value) = run.pointer(pointer) {
            leaves(pointer.to_owned(), value, &mut fields);
        }
    }
    fields
}

fn leaves(pointer: String, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                leaves(format!("{pointer}/{key}"), value, fields);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            fields.insert(pointer, text.clone());
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            fields.insert(pointer, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(spec: &Value, exit_code: i32) -> Run {
        serde_json::from_value(serde_json::json!({
            "id": qwex_core::RunId::mint(), "project": "default", "status": "failed", "spec": spec, "attempt": 1,
            "exit_code": exit_code, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me",
        }))
        .unwrap()
    }

    #[test]
    fn what_differs_is_told_and_no_value_of_a_variable() {
        let a = run(
            &serde_json::json!({ "command": ["a", "b"], "env": { "X": "old", "Y": "1" } }),
            1,
        );
        let b = run(
            &serde_json::json!({ "command": ["a", "c"], "env": { "X": "new", "Z": "1" } }),
            2,
        );
        let told = differences(&a, &b);
        let fields: Vec<&str> = told.iter().map(|difference| difference.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "exit_code",
                "spec.command",
                "spec.env.X",
                "spec.env.Y",
                "spec.env.Z"
            ]
        );
        assert!(!serde_json::to_string(&told).unwrap().contains("old"));
        assert!(differences(&a, &a).is_empty());
    }
}

//! `rm` and `prune`: records of this directory go, with their logs. What a server keeps is kept for ever.

use jiff::Timestamp;
use qwex_core::{Run, RunId};

use super::Done;
use super::session::Session;
use super::target::recorded;
use crate::cli::{PruneArgs, RmArgs};
use crate::direct::Direct;
use crate::error::{CliError, Exit};
use crate::remote::{Answer, row_of};

pub fn rm(session: &Session, args: &RmArgs) -> Done {
    let Some(direct) = Direct::find()? else {
        return Err(no_runs());
    };
    // All words are understood before anything is removed.
    let ids = args
        .runs
        .iter()
        .map(|word| recorded(&direct, word, "what a server keeps cannot be removed"))
        .collect::<Result<Vec<RunId>, CliError>>()?;
    for id in ids {
        direct.remove(id)?;
        session.progress.note(&format!("run {id} is removed"));
    }
    Ok(0)
}

fn no_runs() -> CliError {
    CliError::new(
        Exit::NotFound,
        "no runs are recorded in this directory or above it",
    )
    .why("there is no .qwex/runs; the runs of a server are kept for ever and cannot be removed")
    .fix("change to the directory in which the runs were started")
    .code("not_found")
}

/// What goes: runs that are over, but the newest that are kept.
fn doomed(runs: Vec<Run>, args: &PruneArgs) -> Vec<Run> {
    let before = args.older_than.map(|moment| moment.before(Timestamp::now()));
    let is_old = |run: &Run| {
        let end = run.finished_at.unwrap_or(run.created_at);
        run.status.is_terminal() && before.is_none_or(|before| end < before)
    };
    let kept = args.keep_last.unwrap_or(0);
    runs.into_iter().skip(kept).filter(is_old).collect()
}

pub fn prune(session: &Session, args: &PruneArgs) -> Done {
    let Some(direct) = Direct::find()? else {
        return Err(no_runs());
    };
    let (runs, damaged) = direct.list()?;
    for sentence in damaged {
        session.progress.note(&format!("left alone: {sentence}"));
    }
    let mut rows = Vec::new();
    for run in doomed(runs, args) {
        if args.yes {
            direct.remove(run.id)?;
        }
        rows.push(Answer::of(row_of(&run)));
    }
    session.out.list(rows.iter().map(|row| (&row.value, &row.json)))?;
    let count = rows.len();
    session.progress.note(&match (count, args.yes) {
        (0, _) => "nothing is old enough to go".to_owned(),
        (_, true) => format!("{count} runs are removed"),
        (_, false) => format!("{count} runs would be removed, with their logs; do it: add --yes"),
    });
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, finished: Option<&str>) -> Run {
        let mut run = serde_json::json!({
            "id": RunId::mint(), "name": name, "project": "default", "status": "running", "spec": { "command": ["true"] },
            "attempt": 1, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:me",
        });
        if let Some(at) = finished {
            run["status"] = "succeeded".into();
            run["finished_at"] = at.into();
        }
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn only_what_is_over_old_and_not_among_the_last_goes() {
        let runs = vec![
            run("newest", Some("2026-01-05T00:00:00Z")),
            run("under-way", None),
            run("young", Some("2026-01-04T00:00:00Z")),
            run("old", Some("2026-01-02T00:00:00Z")),
        ];
        let names = |older_than: Option<&str>, keep_last| {
            let older_than = older_than.map(|at| at.parse().unwrap());
            let args = PruneArgs {
                older_than,
                keep_last,
                yes: false,
            };
            let gone = doomed(runs.clone(), &args);
            gone.iter()
                .map(|run| run.name.as_ref().unwrap().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Some("2026-01-03T00:00:00Z"), None), ["old"]);
        assert_eq!(names(None, Some(1)), ["young", "old"]);
        assert_eq!(names(None, Some(3)), ["old"]);
        assert!(names(Some("2025-01-01T00:00:00Z"), None).is_empty());
    }
}

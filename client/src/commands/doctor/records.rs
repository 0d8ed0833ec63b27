//! The records of this directory, and what connections and writers that were killed left behind.

use std::path::PathBuf;
use std::rc::Rc;

use qwex_core::RunId;
use qwex_runner_ssh::stale_connections;

use super::super::prune::remove;
use super::check::{Check, Verdict};
use crate::direct::{Direct, DirectError, Upkeep};
use crate::error::CliError;

pub fn checks() -> Vec<Check> {
    let mut all = vec![directory()];
    match Direct::find() {
        Ok((found, passed_over)) => {
            // Of somebody else above: told, and looked past.
            all.extend(passed_over.map(|error| {
                Check::new("passed_over", Verdict::Warning, error.to_string())
                    .fix(CliError::from(DirectError::from(error)).fix.join("; "))
            }));
            all.extend(found.into_iter().flat_map(|direct| records(Rc::new(direct))));
        }
        Err(error) => all.push(Check::failed("records", error.into())),
    }
    all.extend(connections());
    all
}

fn directory() -> Check {
    match crate::direct::check() {
        Ok(place) => Check::new("directory", Verdict::Ok, place),
        Err(why) => {
            Check::new("directory", Verdict::Failed, why).fix("change to a directory in which you may write")
        }
    }
}

fn records(direct: Rc<Direct>) -> Vec<Check> {
    let found = match direct.survey() {
        Ok(found) => found,
        Err(error) => return vec![Check::failed("records", error.into())],
    };
    let mut all = vec![damaged(&found)];
    if found.not_in_index > 0 {
        let direct = direct.clone();
        let message = format!("{} runs are missing in the index", found.not_in_index);
        all.push(
            Check::new("index", Verdict::Warning, message)
                .mend("make the index again from the records", move || {
                    Ok(direct.rebuild_index()?)
                }),
        );
    }
    if !found.unkept.is_empty() {
        all.push(unkept(direct, found.unkept));
    }
    if !found.left.is_empty() {
        let message = format!("{} files of writers that were killed", found.left.len());
        let check = Check::new("left_files", Verdict::Warning, message);
        all.push(check.mend(format!("remove {}", named(&found.left)), move || {
            found.left.iter().try_for_each(|path| remove(path))
        }));
    }
    all
}

fn damaged(found: &Upkeep) -> Check {
    let Some(first) = found.damaged.first() else {
        return Check::new("records", Verdict::Ok, format!("{} runs can be read", found.runs));
    };
    let message = format!(
        "{} of {} records cannot be read: {first}",
        found.damaged.len(),
        found.runs
    );
    Check::new("records", Verdict::Warning, message)
        .fix("bring them back from a copy, or remove each of them: `qwexctl rm RUN`")
}

fn unkept(direct: Rc<Direct>, runs: Vec<RunId>) -> Check {
    let words: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let message = format!("nobody sees to {} runs that are under way", runs.len());
    Check::new("keepers", Verdict::Warning, message).mend(
        format!("start the process that keeps the run, for {}", words.join(", ")),
        move || Ok(runs.into_iter().try_for_each(|run| direct.keep(run))?),
    )
}

fn connections() -> Option<Check> {
    let left = stale_connections();
    if left.is_empty() {
        return None;
    }
    let message = format!("{} shared connections to ssh hosts that nobody holds", left.len());
    let check = Check::new("ssh_connections", Verdict::Warning, message);
    Some(check.mend(format!("remove {}", named(&left)), move || {
        left.iter().try_for_each(|path| remove(path))
    }))
}

fn named(paths: &[PathBuf]) -> String {
    let all: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    all.join(", ")
}

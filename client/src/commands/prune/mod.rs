//! `prune`: old records of this directory go, and what then nothing names any more. The plan is what would be done now;
//! doing it looks again at whatever somebody may have begun to use.

mod gone;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use qwex_core::{Run, RunId};
use qwex_runner::StoreError;

use super::Done;
use super::remove::no_runs;
use super::session::Session;
use super::target::records;
use crate::cli::PruneArgs;
use crate::direct::{Direct, DirectError};
use crate::error::{CliError, Exit, MEND_DIRECTORY};
use crate::output::Format;
use crate::pipeline::{GRACE, Inventory, PipelineError, PipelineId, Retention, Shelf, Sweeping, runs_of};
use gone::{Gone, folded, summed};

pub fn prune(session: &Session, args: &PruneArgs) -> Done {
    let Some(direct) = records(session)? else {
        return Err(no_runs());
    };
    let keeping = Retention {
        before: args.older_than.map(|moment| moment.before(Timestamp::now())),
        keep_last: args.keep_last.unwrap_or(0),
    };
    let project = direct.dir_of_store();
    let pruning = Pruning {
        session,
        shelf: Shelf::at(&project)?,
        direct,
        project,
        does_it: args.yes,
    };
    let gone = pruning.all(keeping)?;
    let told = match (gone.is_empty(), args.yes) {
        (true, _) => "nothing is old enough to go".to_owned(),
        (false, true) => format!("removed: {}", summed(&gone)),
        (false, false) => format!("would be removed: {}; do it: add --yes", summed(&gone)),
    };
    let rows = match session.out.format {
        Format::Table => folded(&gone),
        Format::Wide | Format::Json | Format::Yaml | Format::Name | Format::Jsonl => gone,
    };
    session.out.list(rows.iter().map(|row| (row, row)))?;
    session.progress.note(&told);
    Ok(0)
}

struct Pruning<'s> {
    session: &'s Session,
    direct: Direct,
    shelf: Option<Shelf>,
    /// The directory that holds `.qwex`.
    project: PathBuf,
    does_it: bool,
}

impl Pruning<'_> {
    /// What goes, or is gone: pipelines, then runs, then what only those named.
    fn all(&self, keeping: Retention) -> Result<Vec<Gone>, CliError> {
        // Held to the end, so that nobody begins to rely on what is planned to go.
        let sweeping = Sweeping::begin(&self.project)?;
        let mut inventory = self.inventory()?;
        let going = keeping.goes(&inventory.pipelines);
        let mut gone = self.pipelines(&mut inventory, &going)?;
        let (runs, damaged) = self.direct.list()?;
        for sentence in damaged {
            self.note(&format!("left alone: {sentence}"));
        }
        let named = runs_of(&inventory.pipelines);
        let mut left: HashSet<RunId> = self.direct.ids()?.into_iter().collect();
        for run in doomed(runs, &keeping, &named) {
            let row = Gone::run(&run, &self.direct.path().join(run.id.to_string()));
            if !self.does_it || self.is_gone(self.direct.remove(run.id))? {
                left.remove(&run.id);
                gone.push(row);
            }
        }
        gone.sort_by_key(|one| one.kind);
        gone.extend(self.stored(&sweeping, &inventory, left)?);
        gone.extend(self.abandoned()?);
        Ok(gone)
    }

    fn note(&self, sentence: &str) {
        self.session.progress.note(sentence);
    }

    fn inventory(&self) -> Result<Inventory, CliError> {
        let inventory = match &self.shelf {
            Some(shelf) => shelf.inventory()?,
            None => Inventory::default(),
        };
        for (id, error) in &inventory.unreadable {
            let way = if matches!(error, PipelineError::Newer { .. }) {
                "use that version of qwexctl".to_owned()
            } else {
                format!("it can be removed: `qwexctl pipeline rm {id}`")
            };
            self.note(&format!("left alone: {error}; {way}"));
        }
        Ok(inventory)
    }

    /// Takes those that go out of the inventory.
    fn pipelines(&self, inventory: &mut Inventory, going: &[PipelineId]) -> Result<Vec<Gone>, CliError> {
        let Some(shelf) = &self.shelf else {
            return Ok(Vec::new());
        };
        for one in &inventory.pipelines {
            if !one.status.is_terminal() && !inventory.driven.contains(&one.id) {
                let id = one.id;
                self.note(&match shelf.get(id).and_then(|shelved| shelved.check_own()) {
                    Ok(()) => format!(
                        "left alone: pipeline {id} is not over and nobody drives it: `qwexctl pipeline resume {id}`, or `cancel`"
                    ),
                    Err(error) => format!("left alone: {}", CliError::from(error).sentence()),
                });
            }
        }
        let (going, mut staying): (Vec<_>, Vec<_>) = std::mem::take(&mut inventory.pipelines)
            .into_iter()
            .partition(|one| going.contains(&one.id));
        let mut gone = Vec::new();
        for pipeline in going {
            let row = Gone::pipeline(&pipeline, &shelf.path_of(pipeline.id));
            let removed = if self.does_it {
                shelf.remove(pipeline.id, false)
            } else {
                Ok(())
            };
            match removed {
                Ok(()) | Err(PipelineError::NotFound { .. }) => gone.push(row),
                // Somebody took it up again meanwhile.
                Err(PipelineError::Active { .. }) => staying.push(pipeline),
                Err(error) => return Err(error.into()),
            }
        }
        inventory.pipelines = staying;
        Ok(gone)
    }

    /// Does what is planned; false: somebody needs it yet.
    fn is_gone(&self, removed: Result<(), DirectError>) -> Result<bool, CliError> {
        match removed {
            Ok(()) | Err(DirectError::Store(StoreError::NotFound { .. })) => Ok(true),
            Err(DirectError::Store(error @ StoreError::Active { .. })) => {
                self.note(&format!("left alone: {error}"));
                Ok(false)
            }
            Err(error @ DirectError::Unstored { id, .. }) => {
                self.note(&format!(
                    "left alone: {error}; give that up: `qwexctl rm --force {id}`"
                ));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Cached results and stored files that nothing names which stays.
    fn stored(
        &self,
        sweeping: &Sweeping,
        inventory: &Inventory,
        runs: HashSet<RunId>,
    ) -> Result<Vec<Gone>, CliError> {
        let stays = |why: String| {
            self.note(&format!("the stored files of pipelines stay: {why}"));
            Ok(Vec::new())
        };
        let sweeper = match sweeping {
            Sweeping::Nothing => return Ok(Vec::new()),
            Sweeping::Alone(sweeper) => sweeper,
            Sweeping::Held if inventory.driven.is_empty() => {
                return stays(
                    "a pipeline or another prune is at work here; try again when it is over".to_owned(),
                );
            }
            Sweeping::Held => return stays(under_way(inventory)),
        };
        if !inventory.driven.is_empty() {
            return stays(under_way(inventory));
        }
        if let Some((id, _)) = inventory.unreadable.first() {
            return stays(format!("nobody knows which of them pipeline {id} names"));
        }
        let unneeded = match sweeper.unneeded(&self.project, &inventory.pipelines, runs) {
            Ok(unneeded) => unneeded,
            Err(error @ PipelineError::Damaged { .. }) => {
                return stays(format!("{error}; remove its run: `qwexctl rm RUN`"));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Gone::stored(if self.does_it {
            sweeper.sweep(unneeded)?
        } else {
            unneeded
        }))
    }

    /// What killed commands left, once nobody can be at work on it.
    fn abandoned(&self) -> Result<Vec<Gone>, CliError> {
        let before = SystemTime::now()
            .checked_sub(GRACE)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let mut gone = Vec::new();
        for path in self.direct.abandoned(before) {
            let row = Gone::left(&path);
            if self.does_it {
                remove(&path)?;
            }
            gone.push(row);
        }
        Ok(gone)
    }
}

fn under_way(inventory: &Inventory) -> String {
    let ids: Vec<String> = inventory.driven.iter().map(ToString::to_string).collect();
    format!(
        "pipeline {} is under way here; try again when it is over",
        ids.join(", ")
    )
}

/// Removes a file, or a directory with all in it; one that is not there is no error.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<(), CliError> {
    let is_dir = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CliError::new(
            Exit::Failure,
            format!("{} cannot be removed", path.display()),
        )
        .why(error.to_string())
        .fix(MEND_DIRECTORY)
        .code("run_store")),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs that go: over and old, not among the newest that are kept, and not of a pipeline that stays.
fn doomed(newest_first: Vec<Run>, keeping: &Retention, named: &HashSet<RunId>) -> Vec<Run> {
    let goes = |run: &Run| {
        let end = run.finished_at.unwrap_or(run.created_at);
        run.status.is_terminal()
            && keeping.before.is_none_or(|before| end < before)
            && !named.contains(&run.id)
    };
    let candidates = newest_first.into_iter().skip(keeping.keep_last);
    candidates.filter(goes).collect()
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
        let names = |older_than: Option<&str>, keep_last, named: &[RunId]| {
            let keeping = Retention {
                before: older_than.map(|at| at.parse().unwrap()),
                keep_last,
            };
            let gone = doomed(runs.clone(), &keeping, &named.iter().copied().collect());
            gone.iter()
                .map(|run| run.name.as_ref().unwrap().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Some("2026-01-03T00:00:00Z"), 0, &[]), ["old"]);
        assert_eq!(names(None, 1, &[]), ["young", "old"]);
        assert_eq!(names(None, 3, &[]), ["old"]);
        assert_eq!(names(None, 0, &[runs[0].id, runs[3].id]), ["young"]);
        assert!(names(Some("2025-01-01T00:00:00Z"), 0, &[]).is_empty());
    }
}

//! Which pipelines may go, what then nothing names any more, and removing both. Asked by `prune` and `pipeline rm`;
//! decides nothing about runs, but tells which of them a pipeline that stays still names.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use qwex_core::RunId;

use super::error::PipelineError;
use super::manifest;
use super::objects::{Marks, Objects, Unneeded};
use super::record::{Pipeline, PipelineId};
use super::shelf::Shelf;

type Result<T> = std::result::Result<T, PipelineError>;

/// What was written or used since is left alone: somebody may be about to name it.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);

/// Which of the pipelines that are over stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Only what ended before goes.
    pub before: Option<Timestamp>,
    /// The newest so many stay, whatever their age.
    pub keep_last: usize,
}

impl Retention {
    /// The pipelines that go, of all, newest first.
    #[must_use]
    pub fn goes(&self, newest_first: &[Pipeline]) -> Vec<PipelineId> {
        let is_old = |one: &&Pipeline| {
            let end = one.finished_at.unwrap_or(one.created_at);
            one.status.is_terminal() && self.before.is_none_or(|before| end < before)
        };
        let candidates = newest_first.iter().skip(self.keep_last);
        candidates.filter(is_old).map(|one| one.id).collect()
    }
}

/// The runs that pipelines name: their stages', and those that were reused.
#[must_use]
pub fn runs_of<'p>(pipelines: impl IntoIterator<Item = &'p Pipeline>) -> HashSet<RunId> {
    let mut marks = Marks::default();
    for pipeline in pipelines {
        mark(&mut marks, pipeline);
    }
    marks.runs
}

fn mark(marks: &mut Marks, pipeline: &Pipeline) {
    for stage in &pipeline.stages {
        marks.runs.insert(stage.run_id);
        marks.runs.extend(&stage.earlier_runs);
        marks.runs.extend(stage.reused_from);
        marks.keys.extend(stage.key.clone());
        marks.artifacts(&stage.outputs);
        if let Some(kept) = &stage.kept {
            marks.runs.insert(kept.run_id);
            marks.runs.extend(kept.reused_from);
            marks.keys.extend(kept.key.clone());
            marks.artifacts(&kept.outputs);
        }
    }
}

/// A store that nobody else relies on, for as long as this lives.
#[derive(Debug)]
pub struct Sweeper {
    objects: Objects,
    before: SystemTime,
    _alone: File,
}

/// Whether the store of a project can be swept.
#[derive(Debug)]
pub enum Sweeping {
    /// There is no store.
    Nothing,
    /// Somebody relies on it: a driver, or another sweep.
    Held,
    Alone(Sweeper),
}

impl Sweeping {
    /// Takes the store of a project's directory for itself.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn begin(project: &Path) -> Result<Self> {
        let Some(objects) = Objects::find(project)? else {
            return Ok(Self::Nothing);
        };
        let before = SystemTime::now()
            .checked_sub(GRACE)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(match objects.hold_alone()? {
            None => Self::Held,
            Some(alone) => Self::Alone(Sweeper {
                objects,
                before,
                _alone: alone,
            }),
        })
    }
}

impl Sweeper {
    /// What nothing names, once only these pipelines and runs are left.
    ///
    /// # Errors
    /// The store, or the list of what a run made, cannot be read.
    pub fn unneeded<'p>(
        &self,
        project: &Path,
        pipelines: impl IntoIterator<Item = &'p Pipeline>,
        runs: impl IntoIterator<Item = RunId>,
    ) -> Result<Unneeded> {
        let mut marks = Marks::default();
        for pipeline in pipelines {
            mark(&mut marks, pipeline);
        }
        for run in runs {
            marks.runs.insert(run);
            marks.artifacts(&manifest::read(project, run)?);
        }
        self.objects.unneeded(&marks, self.before)
    }

    /// Removes it, unless it was used meanwhile; gives what is gone.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn sweep(&self, unneeded: Unneeded) -> Result<Unneeded> {
        self.objects.sweep(unneeded, self.before)
    }
}

/// All pipelines of a project, for whoever decides which of them go.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Newest first.
    pub pipelines: Vec<Pipeline>,
    /// What these name is not known.
    pub unreadable: Vec<(PipelineId, PipelineError)>,
    /// Under way: somebody drives them.
    pub driven: Vec<PipelineId>,
}

impl Shelf {
    /// Reads every record.
    ///
    /// # Errors
    /// The place cannot be read.
    pub fn inventory(&self) -> Result<Inventory> {
        let mut all = Inventory::default();
        for id in self.ids()? {
            let shelved = match self.get(id) {
                Ok(shelved) => shelved,
                // It was just removed.
                Err(PipelineError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            match shelved.read() {
                Ok(pipeline) => {
                    if !pipeline.status.is_terminal() && shelved.is_locked()? {
                        all.driven.push(id);
                    }
                    all.pipelines.push(pipeline);
                }
                // It is just being made.
                Err(PipelineError::NotFound { .. }) => {}
                Err(error) => all.unreadable.push((id, error)),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{StageStatus, sample};
    use super::*;
    use qwex_core::RunStatus;

    fn pipeline(status: RunStatus, finished: Option<&str>) -> Pipeline {
        let mut pipeline = sample::pipeline(vec![sample::stage("a", &[])]);
        pipeline.status = status;
        pipeline.created_at = "2026-01-01T00:00:00Z".parse().unwrap();
        pipeline.finished_at = finished.map(|at| at.parse().unwrap());
        pipeline
    }

    #[test]
    fn only_what_is_over_old_and_not_among_the_last_goes() {
        let all = [
            pipeline(RunStatus::Succeeded, Some("2026-01-05T00:00:00Z")),
            pipeline(RunStatus::Running, None),
            pipeline(RunStatus::Failed, Some("2026-01-04T00:00:00Z")),
            pipeline(RunStatus::Cancelled, Some("2026-01-02T00:00:00Z")),
        ];
        let goes = |before: Option<&str>, keep_last| {
            let before = before.map(|at| at.parse().unwrap());
            let gone = Retention { before, keep_last }.goes(&all);
            let place = |id| all.iter().position(|one| one.id == id).unwrap();
            gone.into_iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(goes(Some("2026-01-03T00:00:00Z"), 0), [3]);
        assert_eq!(goes(None, 1), [2, 3]);
        assert_eq!(goes(None, 3), [3]);
        assert_eq!(goes(None, 0), [0, 2, 3]);
    }

    #[test]
    fn a_pipeline_names_its_runs_of_now_and_before() {
        let mut one = pipeline(RunStatus::Failed, None);
        let (earlier, reused) = (RunId::mint(), RunId::mint());
        one.stages[0].status = StageStatus::Succeeded;
        one.stages[0].earlier_runs.push(earlier);
        one.stages[0].reused_from = Some(reused);
        let named = runs_of([&one]);
        assert_eq!(named, HashSet::from([one.stages[0].run_id, earlier, reused]));
    }
}

//! Runs that ended elsewhere and are brought here whole: checked, their log archived by `logs`, recorded as told. The
//! same once more changes nothing; another run of that id is refused.

mod check;

use jiff::Timestamp;
use qwex_api::log::LogStreamInfo;
use qwex_api::record::RunRecord;
use qwex_core::{Flag, Imported, LogSummary, LogVerdict, Project, Run, RunId};

use super::{Runs, RunsError, Submission};
use crate::auth::Principal;
use crate::db;
use crate::logs::ImportedLog;
use crate::recorder::{Import, ImportOutcome};

/// Most bytes of a log that is brought here at once.
pub const MOST_LOG_BYTES: u64 = 4 << 30;

/// A record that passed every check and is not here yet: its log is wanted.
#[derive(Debug)]
pub struct Arriving {
    record: RunRecord,
    project: Project,
    logs: LogSummary,
    finished_at: Timestamp,
    by: String,
}

/// What becomes of a record.
#[derive(Debug)]
pub enum Arrival {
    /// The same is here.
    Known(Box<Run>),
    New(Box<Arriving>),
}

impl Arriving {
    #[must_use]
    pub fn id(&self) -> RunId {
        self.record.run.id
    }

    /// What the bytes of the log must come to.
    #[must_use]
    pub fn logs(&self) -> &LogSummary {
        &self.logs
    }

    #[must_use]
    pub fn log_streams(&self) -> &[LogStreamInfo] {
        &self.record.log_streams
    }

    /// The time that its lines are given: they came without one.
    #[must_use]
    pub fn line_time(&self) -> Timestamp {
        self.record.run.started_at.unwrap_or(self.record.run.created_at)
    }
}

impl Runs {
    /// Whether a record of a run may be brought here, and still has to be.
    ///
    /// # Errors
    /// The record is not valid, its id belongs to another run, or the database is not there.
    pub async fn receive(&self, who: &Principal, id: RunId, record: RunRecord) -> Result<Arrival, RunsError> {
        let project = record.project.clone().unwrap_or_else(|| who.project.clone());
        self.check_project(who, &project).await?;
        let problems = check::problems(&record, id, Timestamp::now());
        if !problems.is_empty() {
            return Err(RunsError::Invalid(problems));
        }
        let (Some(logs), Some(finished_at)) = (record.run.logs.clone(), record.run.finished_at) else {
            return Err(RunsError::WrongState {
                status: record.run.status,
            });
        };
        if let Some(known) = self.find_same(&project, &record.run).await? {
            return Ok(Arrival::Known(Box::new(known)));
        }
        Ok(Arrival::New(Box::new(Arriving {
            record,
            project,
            logs,
            finished_at,
            by: who.label(),
        })))
    }

    /// Records a run whose log is in the archive, unless it is here by now.
    ///
    /// # Errors
    /// Another run took the id meanwhile, or nothing could be recorded.
    pub async fn keep(&self, arriving: Arriving, log: ImportedLog) -> Result<Submission, RunsError> {
        let Arriving {
            record,
            project,
            logs: _,
            finished_at,
            by,
        } = arriving;
        let RunRecord {
            project: _,
            mut run,
            attempts,
            events,
            log_streams: _,
        } = record;
        run.project = project.clone();
        run.flags.remove(&Flag::Unknown);
        if log.summary.verdict != LogVerdict::Complete {
            run.flags.insert(Flag::LogsIncomplete);
        }
        let import = Import {
            run,
            logs: log.summary,
            finished_at,
            imported: Imported {
                at: Timestamp::now(),
                by,
            },
            attempts,
            events,
            streams: log.streams,
            chunks: log.chunks,
            upload: log.upload.id(),
        };
        let created = match self.recorder.import(&import).await? {
            ImportOutcome::Recorded => {
                log.upload.recorded();
                true
            }
            // What was brought for nothing goes again.
            ImportOutcome::Known => false,
            ImportOutcome::GivenUp => return Err(RunsError::GivenUp),
        };
        let known = self.find_same(&project, &import.run).await?;
        Ok(Submission {
            run: known.ok_or(RunsError::NotFound(import.run.id))?,
            created,
            replayed: false,
        })
    }

    /// The run of that id, if it is here and the same.
    async fn find_same(&self, project: &Project, told: &Run) -> Result<Option<Run>, RunsError> {
        let mut connection = self.pools.api.acquire().await.map_err(db::DbError::from)?;
        let Some(known) = db::run::find_known(&mut connection, told.id).await? else {
            return Ok(None);
        };
        drop(connection);
        // Nothing is told of a run in another project but that the id is taken.
        if known.project != *project {
            return Err(RunsError::IdTaken(told.id));
        }
        let found = db::run::find_run(&self.pools.api, Some(project.as_str()), told.id).await?;
        let run = found.ok_or(RunsError::NotFound(told.id))?.run;
        match run.difference(told) {
            None => Ok(Some(run)),
            Some(what) => Err(RunsError::Differs { id: told.id, what }),
        }
    }
}

//! What each failure of a pipeline means on the command line: exit code, reason, way out.

use std::error::Error as _;

use crate::error::{CliError, Exit, MEND_DIRECTORY, MEND_KEY, from_store};
use crate::pipeline::PipelineError;

impl From<PipelineError> for CliError {
    fn from(error: PipelineError) -> Self {
        let (exit, code) = match &error {
            PipelineError::Store(error) => return from_store(error),
            PipelineError::NotFound { .. } => (Exit::NotFound, "not_found"),
            PipelineError::Ambiguous { .. } => (Exit::Conflict, "ambiguous"),
            PipelineError::Active { .. } => (Exit::Conflict, "wrong_state"),
            PipelineError::Io { .. } => (Exit::Failure, "pipeline_store"),
            PipelineError::Damaged { .. } | PipelineError::Spoilt { .. } => {
                (Exit::Failure, "pipeline_damaged")
            }
            PipelineError::Newer { .. } => (Exit::Failure, "pipeline_newer"),
            PipelineError::Foreign { .. } => (Exit::Failure, "pipeline_not_driven"),
            PipelineError::Key { .. } => (Exit::Failure, "surroundings"),
            PipelineError::Refused { .. } => (Exit::Failure, "pipeline"),
        };
        let told = with_ways(Self::new(exit, error.to_string()).code(code), &error);
        match error.source() {
            Some(source) => told.why(source.to_string()),
            None => told,
        }
    }
}

fn with_ways(told: CliError, error: &PipelineError) -> CliError {
    match error {
        PipelineError::Store(_) => told,
        PipelineError::NotFound { .. } => told.fix("list them: `qwexctl pipeline ls`"),
        PipelineError::Ambiguous { .. } => told.fix("type more of the id"),
        PipelineError::Active { id } => told.fix(format!(
            "wait for its end, or cancel it: `qwexctl pipeline cancel {id}`"
        )),
        PipelineError::Newer { .. } => told.fix("use that version of qwexctl"),
        PipelineError::Foreign { id, open, .. } => {
            let ids: Vec<String> = open.iter().map(ToString::to_string).collect();
            let told = if ids.is_empty() {
                told
            } else {
                told.fix(format!(
                    "end its runs that are under way here: `qwexctl cancel {}`",
                    ids.join(" ")
                ))
            };
            told.fix("begin it anew, as yours, if you trust its qwex.yaml: `qwexctl pipeline run`")
                .fix(format!("remove its record: `qwexctl pipeline rm --force {id}`"))
        }
        PipelineError::Damaged { .. } => told.fix("begin another pipeline: `qwexctl pipeline run`"),
        PipelineError::Io { .. } => told.fix(MEND_DIRECTORY),
        PipelineError::Key { .. } => told.fix(MEND_KEY),
        PipelineError::Spoilt { .. } => told.fix("have it made again: `qwexctl pipeline run`"),
        PipelineError::Refused { .. } => told.fix("mend it in qwex.yaml; `qwexctl validate` checks the file"),
    }
}

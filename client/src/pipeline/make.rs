//! Makes the record of a pipeline out of a project file, and takes one up again.

use jiff::Timestamp;
use qwex_core::{RunId, RunStatus};

use super::record::{Kept, Pipeline, PipelineId, StageRecord, StageStatus, VERSION};
use crate::project_file::{Expanded, Instance};

/// What the user wants of a pipeline.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub id: PipelineId,
    pub name: Option<String>,
    pub file: String,
    pub max_parallel: Option<u32>,
    pub no_cache: bool,
    /// Stages of the file, with those that they need; empty: all.
    pub only: Vec<String>,
}

/// A pipeline in which nothing ran yet. Every stage has the id of its run already.
#[must_use]
pub fn make(wanted: Wanted, expanded: Expanded) -> Pipeline {
    let stages: Vec<StageRecord> = expanded.instances.into_iter().map(stage).collect();
    let mut pipeline = Pipeline {
        version: VERSION,
        id: wanted.id,
        name: wanted.name,
        file: wanted.file,
        status: RunStatus::Pending,
        max_parallel: wanted.max_parallel,
        no_cache: wanted.no_cache,
        resumed: 0,
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
        waiting: None,
        stages,
    };
    if !wanted.only.is_empty() {
        keep_only(&mut pipeline, &wanted.only);
    }
    pipeline
}

fn keep_only(pipeline: &mut Pipeline, only: &[String]) {
    let named = |stage: &&StageRecord| only.contains(&stage.stage) || only.contains(&stage.name);
    let mut names: Vec<String> = Vec::new();
    for stage in pipeline.stages.iter().filter(named) {
        names.push(stage.name.clone());
        names.extend(pipeline.ancestors(stage).iter().map(|one| one.name.clone()));
    }
    pipeline.stages.retain(|stage| names.contains(&stage.name));
}

fn stage(instance: Instance) -> StageRecord {
    StageRecord {
        matrix: instance.matrix.into_iter().collect(),
        needs: instance.needs,
        host: instance.host,
        condition: instance.condition,
        allow_failure: instance.allow_failure,
        inputs: instance.inputs,
        no_cache: instance.no_cache,
        ..StageRecord::new(
            instance.name,
            instance.stage,
            instance.run_name,
            instance.backend,
            instance.spec,
        )
    }
}

/// Takes a pipeline up again. What runs, or may run, goes on; what failed, was cancelled or skipped gets a new run. What succeeded
/// stays as it is while the pipeline was under way; after its end it is kept for as long as it depends on the same.
pub fn again(pipeline: &mut Pipeline) {
    let was_over = pipeline.status.is_terminal();
    pipeline.resumed += u32::from(was_over);
    pipeline.status = RunStatus::Pending;
    pipeline.finished_at = None;
    pipeline.waiting = None;
    for stage in &mut pipeline.stages {
        match stage.status {
            StageStatus::Running | StageStatus::Pending => {}
            StageStatus::Succeeded if !was_over => {}
            StageStatus::Succeeded => {
                stage.kept = Some(Kept {
                    run_id: stage.run_id,
                    reused_from: stage.reused_from,
                    fingerprint: stage.fingerprint.clone().unwrap_or_default(),
                    key: stage.key.clone(),
                    attempt: stage.attempt,
                    image_digest: stage.image_digest.clone(),
                    outputs: std::mem::take(&mut stage.outputs),
                    started_at: stage.started_at,
                    finished_at: stage.finished_at,
                });
                reset(stage);
            }
            // Its run may go on: it is looked for before there is another.
            StageStatus::Failed | StageStatus::Cancelled if stage.in_doubt => {
                stage.status = StageStatus::Running;
                stage.reason = None;
                stage.finished_at = None;
            }
            StageStatus::Failed | StageStatus::Cancelled => anew(stage),
            StageStatus::Skipped => reset(stage),
        }
    }
}

/// Another run after one that is over, or that never was.
pub fn anew(stage: &mut StageRecord) {
    stage.earlier_runs.push(stage.run_id);
    stage.kept = None;
    reset(stage);
}

/// As if it never ran.
fn reset(stage: &mut StageRecord) {
    stage.status = StageStatus::Pending;
    stage.reason = None;
    stage.skipped_by_failure = false;
    stage.in_doubt = false;
    stage.run_id = RunId::mint();
    stage.reused_from = None;
    stage.fingerprint = None;
    stage.key = None;
    stage.attempt = None;
    stage.exit_code = None;
    stage.failure = None;
    stage.image_digest = None;
    stage.outputs = Vec::new();
    stage.launched = None;
    stage.started_at = None;
    stage.finished_at = None;
}

#[cfg(test)]
mod tests {
    use super::super::record::sample;
    use super::*;

    #[test]
    fn a_run_that_may_go_on_gets_no_other() {
        let mut pipeline = sample::pipeline(vec![sample::stage("a", &[]), sample::stage("b", &[])]);
        for stage in &mut pipeline.stages {
            stage.status = StageStatus::Cancelled;
        }
        pipeline.stages[0].in_doubt = true;
        pipeline.status = RunStatus::Cancelled;
        let before: Vec<RunId> = pipeline.stages.iter().map(|stage| stage.run_id).collect();
        again(&mut pipeline);
        assert_eq!(pipeline.stages[0].status, StageStatus::Running);
        assert_eq!(pipeline.stages[0].run_id, before[0]);
        assert_eq!(pipeline.stages[1].status, StageStatus::Pending);
        assert_eq!(pipeline.stages[1].earlier_runs, [before[1]]);
    }
}

//! Gets one stage ready: the files of the stages before it are put back, then it is known whether the same ran before.

use std::path::Path;

use qwex_core::RunId;
use qwex_runner::Transfer;

use super::artifacts::{Artifact, can_restore, restore};
use super::cache;
use super::error::PipelineError;
use super::inputs::{Hashes, gather, inherited};
use super::objects::Objects;
use super::record::Pipeline;

type Result<T> = std::result::Result<T, PipelineError>;

/// A stage that is ready.
#[derive(Debug)]
pub struct Ready {
    pub fingerprint: String,
    pub key: Option<String>,
    pub how: How,
}

#[derive(Debug)]
pub enum How {
    /// It succeeded before the pipeline was resumed, with the same.
    Kept,
    /// The same ran before.
    Reused {
        run_id: RunId,
        image_digest: Option<String>,
        outputs: Vec<Artifact>,
    },
    Run(Transfer),
}

/// Gets the stage of an index ready.
///
/// # Errors
/// A file cannot be read, stored or put back.
pub fn ready(
    project: &Path,
    objects: &Objects,
    pipeline: &Pipeline,
    index: usize,
    hashes: &mut Hashes,
) -> Result<Ready> {
    let stage = &pipeline.stages[index];
    restore(project, inherited(pipeline, stage).values(), objects)?;
    let inputs = gather(project, pipeline, stage, hashes)?;
    let done = |how| Ready {
        fingerprint: inputs.fingerprint.clone(),
        key: inputs.key.clone(),
        how,
    };
    if let Some(kept) = &stage.kept
        && kept.fingerprint == inputs.fingerprint
        && can_restore(&kept.outputs, objects)
        && came_back(project, &kept.outputs, objects)?
    {
        return Ok(done(How::Kept));
    }
    let may_look = !stage.no_cache && !pipeline.no_cache;
    if let Some(key) = inputs.key.as_deref().filter(|_| may_look)
        && let Some(entry) = cache::find(objects, key)
        && came_back(project, &entry.outputs, objects)?
    {
        objects.renew_key(key);
        return Ok(done(How::Reused {
            run_id: entry.run_id,
            image_digest: entry.image_digest,
            outputs: entry.outputs,
        }));
    }
    Ok(done(How::Run(inputs.send)))
}

/// Puts the files of a success of before back. False: they went away since they were looked at, so it was none.
fn came_back(project: &Path, outputs: &[Artifact], objects: &Objects) -> Result<bool> {
    for hash in outputs.iter().filter_map(|output| output.sha256.as_deref()) {
        objects.renew(hash);
    }
    match restore(project, outputs, objects) {
        Ok(_) => Ok(true),
        Err(PipelineError::Spoilt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// For each stage the run that it would be reused from; `None`: it would run. Nothing is written.
///
/// # Errors
/// A file cannot be read.
pub fn foresee(project: &Path, pipeline: &Pipeline) -> Result<Vec<Option<RunId>>> {
    let objects = Objects::open(project)?;
    let mut hashes = Hashes::default();
    let mut seen = pipeline.clone();
    let mut foreseen: Vec<Option<RunId>> = Vec::new();
    for index in 0..seen.stages.len() {
        let stage = &seen.stages[index];
        let before = seen.ancestors(stage);
        let known = before
            .iter()
            .all(|one| one.spec.outputs.is_empty() || !one.outputs.is_empty());
        let may_look = known && !stage.no_cache && !pipeline.no_cache;
        let key = if may_look {
            gather(project, &seen, stage, &mut hashes)?.key
        } else {
            None
        };
        let entry = key.and_then(|key| cache::find(&objects, &key));
        foreseen.push(entry.as_ref().map(|entry| entry.run_id));
        if let Some(entry) = entry {
            seen.stages[index].outputs = entry.outputs;
        }
    }
    Ok(foreseen)
}

//! Gets one stage ready: the files of the stages before it are put back, then it is known whether the same ran before.

use std::path::Path;

use qwex_core::RunId;
use qwex_runner::Transfer;

use super::artifacts::{Artifact, Moment, can_restore, restore};
use super::cache::{self, Entry};
use super::error::PipelineError;
use super::inputs::{Hashes, gather, inherited};
use super::objects::Objects;
use super::record::{Pipeline, StageRecord};

type Result<T> = std::result::Result<T, PipelineError>;

/// A stage that is ready.
#[derive(Debug)]
pub struct Ready {
    pub fingerprint: String,
    pub key: Option<String>,
    pub how: How,
    /// What is changed from now on is of its making, if it makes anything here.
    pub launched: Option<Moment>,
    /// Why a success of before is not used again.
    pub said: Option<String>,
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
        launched: None,
        said: None,
    };
    if let Some(kept) = &stage.kept
        && kept.fingerprint == inputs.fingerprint
        && can_restore(&kept.outputs, objects)
        && came_back(project, &kept.outputs, objects)?
    {
        return Ok(done(How::Kept));
    }
    let may_look = !stage.no_cache && !pipeline.no_cache;
    let before = inputs
        .key
        .as_deref()
        .filter(|_| may_look)
        .and_then(|key| Some((key, cache::find(objects, key)?)));
    let said = before.as_ref().and_then(|(_, entry)| why_not_again(stage, entry));
    if let Some((key, entry)) = before.filter(|_| said.is_none())
        && came_back(project, &entry.outputs, objects)?
    {
        objects.renew_key(key);
        return Ok(done(How::Reused {
            run_id: entry.run_id,
            image_digest: entry.image_digest,
            outputs: entry.outputs,
        }));
    }
    let makes = stage.works_in_place() && !stage.spec.outputs.is_empty();
    Ok(Ready {
        launched: makes.then(|| objects.moment()).transpose()?,
        said,
        ..done(How::Run(inputs.send))
    })
}

/// Why a success is not used again although all that a stage says of itself is the same: a tag may mean another image
/// every day. The digest is part of what a stage says.
fn why_not_again(stage: &StageRecord, entry: &Entry) -> Option<String> {
    let image = stage
        .spec
        .image
        .as_deref()
        .filter(|image| !image.contains("@sha256:"))?;
    let digest = entry
        .image_digest
        .as_deref()
        .filter(|digest| digest.contains("@sha256:"));
    let example = digest
        .map(|digest| format!(", such as {digest}"))
        .unwrap_or_default();
    Some(format!(
        "not reused: {image} is a tag, whose image may have changed; name it by its digest{example}"
    ))
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

/// What would become of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    Run,
    Reuse(RunId),
    /// It would run although it ran before: why.
    RunAgain(String),
}

/// What would become of each stage. Nothing is written.
///
/// # Errors
/// A file cannot be read.
pub fn foresee(project: &Path, pipeline: &Pipeline) -> Result<Vec<Foreseen>> {
    let objects = Objects::open(project)?;
    let mut hashes = Hashes::default();
    let mut seen = pipeline.clone();
    let mut foreseen = Vec::new();
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
        let Some(entry) = key.and_then(|key| cache::find(&objects, &key)) else {
            foreseen.push(Foreseen::Run);
            continue;
        };
        if let Some(why) = why_not_again(stage, &entry) {
            foreseen.push(Foreseen::RunAgain(why));
            continue;
        }
        foreseen.push(Foreseen::Reuse(entry.run_id));
        seen.stages[index].outputs = entry.outputs;
    }
    Ok(foreseen)
}

#[cfg(test)]
mod tests {
    use super::super::record::sample;
    use super::*;

    /// What becomes of a stage that has run before with all the same.
    fn again(image: &str) -> (How, Option<String>, Foreseen) {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path()).unwrap();
        let mut pipeline = sample::pipeline(vec![sample::stage("a", &[])]);
        let stage = &mut pipeline.stages[0];
        stage.backend = "docker".to_owned();
        stage.inputs = Some(Vec::new());
        stage.spec.image = Some(image.to_owned());
        let mut hashes = Hashes::default();
        let mut look = || ready(dir.path(), &objects, &pipeline, 0, &mut hashes).unwrap();
        let entry = Entry {
            run_id: RunId::mint(),
            image_digest: Some("python@sha256:12".to_owned()),
            finished_at: None,
            outputs: Vec::new(),
        };
        cache::put(&objects, &look().key.unwrap(), &entry).unwrap();
        let ready = look();
        let foreseen = foresee(dir.path(), &pipeline).unwrap().remove(0);
        (ready.how, ready.said, foreseen)
    }

    #[test]
    fn an_image_by_tag_may_be_another_one_every_time() {
        let (how, said, foreseen) = again("python:3.12");
        assert!(matches!(how, How::Run(_)), "{how:?}");
        let said = said.unwrap();
        assert!(
            said.contains("python:3.12 is a tag") && said.contains("python@sha256:12"),
            "{said}"
        );
        assert_eq!(foreseen, Foreseen::RunAgain(said));
        let (how, said, foreseen) = again("python@sha256:12");
        assert!(matches!(how, How::Reused { .. }) && said.is_none(), "{how:?}");
        assert!(matches!(foreseen, Foreseen::Reuse(_)), "{foreseen:?}");
    }
}

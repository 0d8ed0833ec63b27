//! What follows the end of a stage's run: its outputs are taken in, and its success is remembered for the next time, if
//! the next time would be the same.

use std::collections::BTreeSet;
use std::path::Path;

use qwex_core::{Attempt, Run, RunStatus};

use super::artifacts::{Artifact, Brought, Claim, Made, collect};
use super::cache::{self, Entry};
use super::drive::{Driver, Result, blocking, finish, note, told};
use super::inputs::{Hashes, gather};
use super::make::anew;
use super::manifest;
use super::objects::Objects;
use super::record::{Pipeline, StageRecord, StageStatus};
use super::runner::Over;
use super::see_through::End;
use super::turns::outputs_of;

impl Driver<'_> {
    pub(super) async fn ended(&mut self, index: usize, ended: End) -> Result<()> {
        self.is_behind = true;
        let stage = &mut self.pipeline.stages[index];
        match ended {
            End::Over(over) => self.over(index, *over).await?,
            End::Failed(why) => {
                note(&format!("{}: {why}", stage.name));
                stage.in_doubt = false;
                finish(stage, StageStatus::Failed, Some(why));
            }
            // It was taken up only because they could have come.
            End::Unmade(_) if stage.in_doubt => anew(stage),
            End::Unmade(why) => {
                note(&format!("{}: {why}", stage.name));
                finish(stage, StageStatus::Failed, Some(why));
            }
            // It succeeded: whoever resumes asks for them again, and it does not run twice.
            End::Unbrought(why) => {
                note(&format!("{}: {why}", stage.name));
                stage.in_doubt = true;
                finish(stage, StageStatus::Failed, Some(why));
            }
            End::Withdrawn { in_doubt } => {
                stage.in_doubt = in_doubt;
                let reason = "cancelled before it ran".to_owned();
                finish(stage, StageStatus::Cancelled, Some(reason));
            }
            End::Lost(why) => {
                note(&format!("{}: given up: {why}", stage.name));
                stage.in_doubt = true;
                let reason = format!("cancelled, but its run may go on: {why}");
                finish(stage, StageStatus::Cancelled, Some(reason));
            }
        }
        Ok(())
    }

    async fn over(&mut self, index: usize, over: Over) -> Result<()> {
        let (run, brought) = (over.run, over.brought);
        let stage = &mut self.pipeline.stages[index];
        let was_in_doubt = std::mem::take(&mut stage.in_doubt);
        if was_in_doubt && run.status != RunStatus::Succeeded {
            // It was taken up only because it could have gone on.
            anew(stage);
            return Ok(());
        }
        stage.attempt = Some(run.attempt.0);
        stage.exit_code = run.exit_code;
        stage.failure.clone_from(&run.failure);
        stage.image_digest = run
            .provenance
            .as_ref()
            .and_then(|known| known.image_digest.clone());
        // Of several attempts the record of the run names the start of the last one.
        if run.attempt == Attempt::FIRST {
            stage.started_at = run.started_at.or(stage.started_at);
        }
        let (status, reason) = match run.status {
            RunStatus::Succeeded => self.keep_outputs(index, &run, brought).await?,
            RunStatus::Cancelled => (StageStatus::Cancelled, Some("cancelled".to_owned())),
            RunStatus::Failed | RunStatus::Pending | RunStatus::Running => {
                let why = run.failure.as_ref().map(|failure| failure.message.clone());
                (StageStatus::Failed, why)
            }
        };
        finish(&mut self.pipeline.stages[index], status, reason);
        Ok(())
    }

    /// Takes in what a stage made, and remembers its success.
    async fn keep_outputs(
        &mut self,
        index: usize,
        run: &Run,
        brought: Option<Brought>,
    ) -> Result<(StageStatus, Option<String>)> {
        let (project, objects) = (self.shelved.project.clone(), self.objects.clone());
        let (pipeline, mut hashes) = (self.pipeline.clone(), std::mem::take(&mut self.hashes));
        let taken = blocking(move || {
            let stage = &pipeline.stages[index];
            let made = taken_in(&project, &pipeline, stage, brought.as_ref(), &objects);
            let made = made.map(|made| Made {
                doubt: made
                    .doubt
                    .or_else(|| changed_meanwhile(&project, &pipeline, stage, &mut hashes)),
                ..made
            });
            (made, hashes)
        });
        let (made, hashes) = taken.await?;
        self.hashes = hashes;
        let stage = &mut self.pipeline.stages[index];
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                note(&format!("{}: {error}", stage.name));
                return Ok((StageStatus::Failed, Some(told(&error))));
            }
        };
        stage.outputs = made.artifacts;
        let doubt = made.doubt.filter(|_| stage.key.is_some());
        if doubt.is_some() {
            stage.key = None;
        }
        self.remember(index, run);
        let reason = doubt.map(|why| format!("not to be reused: {why}"));
        Ok((StageStatus::Succeeded, reason))
    }

    /// What cannot be remembered only has to run again.
    fn remember(&self, index: usize, run: &Run) {
        let stage = &self.pipeline.stages[index];
        let entry = Entry {
            run_id: run.id,
            image_digest: stage.image_digest.clone(),
            finished_at: run.finished_at,
            outputs: stage.outputs.clone(),
        };
        if let Some(error) = stage
            .key
            .as_ref()
            .and_then(|key| cache::put(&self.objects, key, &entry).err())
        {
            note(&error.to_string());
        }
        if stage.outputs.is_empty() {
            return;
        }
        // The pipeline has it too.
        if let Err(error) = manifest::write(&self.shelved.project, run.id, &stage.outputs) {
            note(&format!("the list of the files of run {}: {error}", run.id));
        }
    }
}

fn taken_in(
    project: &Path,
    pipeline: &Pipeline,
    stage: &StageRecord,
    brought: Option<&Brought>,
    objects: &Objects,
) -> Result<Made> {
    let claim = match brought {
        Some(brought) => Claim::Brought(brought),
        None => Claim::Left {
            since: stage.launched,
            of_others: of_others(pipeline, stage),
        },
    };
    collect(project, &outputs_of(stage), &claim, objects)
}

/// The files that other stages made.
fn of_others<'p>(pipeline: &'p Pipeline, stage: &StageRecord) -> BTreeSet<&'p str> {
    let others = pipeline.stages.iter().filter(|other| other.name != stage.name);
    let made = others.flat_map(|other| {
        let kept = other.kept.iter().flat_map(|kept| &kept.outputs);
        other.outputs.iter().chain(kept)
    });
    made.map(|artifact: &Artifact| artifact.path.as_str()).collect()
}

/// Whether what a stage depends on is another by now than when it was looked at: nobody knows which of both it saw. What
/// cannot be read now is no reason to call a success anything else.
fn changed_meanwhile(
    project: &Path,
    pipeline: &Pipeline,
    stage: &StageRecord,
    hashes: &mut Hashes,
) -> Option<String> {
    stage.key.as_ref()?;
    match gather(project, pipeline, stage, hashes) {
        Ok(now) if now.key == stage.key => None,
        Ok(_) => Some("files that it depends on were changed before it was over".to_owned()),
        Err(error) => Some(told(&error)),
    }
}

//! The outputs of a run that is over: brought into its workspace from where it ran, and what is known of that beside its
//! record. What cannot be brought now stays on the backend and is tried again, also after the run's end was told; what
//! can never be brought stays there until somebody asks for it once more, or the record is removed. `drive` steps through
//! it, commands ask `Direct`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qwex_core::{Attempt, Run};
use qwex_runner::durable::Durability;
use qwex_runner::{Handle, Journal, RunnerError, StoreError};
use serde::{Deserialize, Serialize};

use super::arrive::{self, Put};
use super::beside;
use super::drive::{Drive, Result};
use super::keeper::note;

pub(super) const FILE: &str = "outputs.json";
/// Beside it: the word of whoever asked for them last.
const ASKED: &str = "outputs.asked";
/// How long after the end of a run its outputs are asked for.
const LONG: SignedDuration = SignedDuration::from_hours(24);
/// How often a backend that answers is asked: what an archive holds, or where there is no room, seldom mends itself.
const ANSWERS: u32 = 12;
/// Longest pause between two tries after the run's end was told.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often it is looked whether somebody asks for them.
const LOOK: Duration = Duration::from_millis(500);

/// What came of the outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// Below the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected: Option<Vec<PathBuf>>,
    /// Those that arrived and lie beside the record: what is in their places was changed after the submit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<PathBuf>,
    /// Why they are not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The keeper goes on trying.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tried: bool,
    /// They are still where the run ran.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_there: bool,
    /// Their backend could not be asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_away: bool,
    /// The word of whoever asked last, before the try that this came of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answers: Option<String>,
}

impl Outputs {
    fn brought(put: Put) -> Self {
        let mut here: Vec<PathBuf> = put.here.iter().map(|path| named(path)).collect();
        here.sort();
        Self {
            collected: Some(here),
            held: put.held.iter().map(|path| named(path)).collect(),
            ..Self::default()
        }
    }

    fn failed(error: &RunnerError, is_tried: bool) -> Self {
        Self {
            failed: Some(error.to_string()),
            is_tried,
            is_there: !matches!(error, RunnerError::NotFound { .. }),
            is_away: error.is_blind(),
            ..Self::default()
        }
    }

    /// Notes that the backend of a run that is over did not open: nobody is left waiting for an answer.
    ///
    /// # Errors
    /// The file beside the record cannot be read or written.
    pub(super) fn note_unopened(
        journal: &Journal,
        run: &Run,
        error: &RunnerError,
    ) -> std::result::Result<(), StoreError> {
        let is_done = |known: &Self| known.collected.is_some() || (known.failed.is_some() && !known.is_there);
        let is_asked = Self::are_tried(journal, run)? || run.logs.is_none();
        if run.spec.outputs.is_empty()
            || run.started_at.is_none()
            || !is_asked
            || Self::read(journal)?.is_some_and(|known| is_done(&known))
        {
            return Ok(());
        }
        let answers = asked(journal)?;
        let outputs = Self {
            // That the way there is not found says nothing of what is there.
            is_there: true,
            is_away: true,
            answers,
            ..Self::failed(error, error.is_retryable() && is_worth_trying(run))
        };
        outputs.write(journal)
    }

    /// `None`: nobody tried to bring any yet.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(journal: &Journal) -> std::result::Result<Option<Self>, StoreError> {
        beside::read(journal, FILE)
    }

    pub(super) fn write(&self, journal: &Journal) -> std::result::Result<(), StoreError> {
        let json = serde_json::to_vec(self).expect("words and paths serialise");
        journal.write_file(FILE, &json, Durability::Machine)
    }

    /// Puts those that lie beside the record into their places, with `force` whatever was changed there; what came of that.
    ///
    /// # Errors
    /// Something lies in the way, or they cannot be written.
    pub(super) fn put_held(self, journal: &Journal, workspace: &Path, force: bool) -> io::Result<Self> {
        // By the names as they are: of one that is no UTF-8 only a part stands here.
        let arrived = arrive::noted(journal).map_err(io::Error::other)?;
        let known = arrived.unwrap_or_else(|| {
            self.collected
                .iter()
                .flatten()
                .chain(&self.held)
                .cloned()
                .collect()
        });
        let brought = Self::brought(arrive::put(journal, workspace, &known, force)?);
        let outputs = Self {
            collected: brought.collected,
            held: brought.held,
            ..self
        };
        outputs.write(journal).map_err(io::Error::other)?;
        Ok(outputs)
    }

    /// Whether a keeper still has to bring those of a run: it goes on trying, or somebody asked.
    ///
    /// # Errors
    /// As [`Outputs::read`].
    pub fn are_tried(journal: &Journal, run: &Run) -> std::result::Result<bool, StoreError> {
        if run.spec.outputs.is_empty() {
            return Ok(false);
        }
        let Some(outputs) = Self::read(journal)? else {
            return Ok(false);
        };
        Ok(outputs.is_tried || (outputs.collected.is_none() && outputs.is_asked(journal)?))
    }

    /// Asks for those of a run once more; the word that the answer will bear.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn ask(journal: &Journal) -> std::result::Result<String, StoreError> {
        let word = uuid::Uuid::now_v7().to_string();
        journal.write_file(ASKED, word.as_bytes(), Durability::Machine)?;
        Ok(word)
    }

    /// Whether this came of a try after somebody asked with that word.
    #[must_use]
    pub fn is_answer_to(&self, word: &str) -> bool {
        self.answers.as_deref() == Some(word)
    }

    /// Whether somebody asked since.
    ///
    /// # Errors
    /// As [`Outputs::read`].
    pub fn is_asked(&self, journal: &Journal) -> std::result::Result<bool, StoreError> {
        Ok(asked(journal)?.is_some_and(|word| !self.is_answer_to(&word)))
    }

    /// Why outputs are not here, as a sentence; `None`: they are, or there are none.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if !self.held.is_empty() {
            return Some(format!(
                "not all of its outputs are in their places: {} changed in the workspace after the run was submitted, and \
                 left as it is",
                names(&self.held)
            ));
        }
        let why = self.failed.as_ref()?;
        let now = match (self.is_tried, self.is_there) {
            (true, _) => "they are where it ran, and are tried again",
            (false, true) => "they are still where it ran, and are not tried again until somebody asks",
            (false, false) => "they are lost",
        };
        Some(format!("its outputs are not here: {why}; {now}"))
    }
}

/// A path that can be written down: of a name that is no UTF-8, what there is of it.
fn named(path: &Path) -> PathBuf {
    PathBuf::from(path.to_string_lossy().into_owned())
}

/// The first of them, and how many more.
fn names(paths: &[PathBuf]) -> String {
    const SOME: usize = 3;
    let some: Vec<String> = paths
        .iter()
        .take(SOME)
        .map(|path| path.display().to_string())
        .collect();
    match paths.len() {
        1 => format!("{} was", some.join("")),
        count if count > SOME => format!("{} and {} more were", some.join(", "), count - SOME),
        _ => format!("{} were", some.join(", ")),
    }
}

/// Whether the outputs of a run are still asked for without anybody's word.
fn is_worth_trying(run: &Run) -> bool {
    Timestamp::now().duration_since(run.finished_at.unwrap_or(run.created_at)) < LONG
}

/// The word of whoever asked last.
fn asked(journal: &Journal) -> std::result::Result<Option<String>, StoreError> {
    let word = journal.read_file(ASKED)?;
    Ok(word.map(|word| String::from_utf8_lossy(&word).into_owned()))
}

impl Drive {
    /// Brings the outputs of an attempt that is over. True: they stay on the backend, so the attempt must.
    pub(super) async fn bring_outputs(&self, run: &Run, handle: &Handle) -> Result<bool> {
        let is_done = |outputs: Outputs| outputs.collected.is_some();
        if run.spec.outputs.is_empty()
            || run.started_at.is_none()
            || self.placed.workspace.is_none()
            || Outputs::read(&self.journal)?.is_some_and(is_done)
        {
            return Ok(false);
        }
        let until = tokio::time::Instant::now() + self.patience.limit;
        let mut pause = self.patience.pause;
        loop {
            let outputs = match self.collect(run, handle).await {
                Ok(put) => Outputs::brought(put),
                Err(error) if !error.is_retryable() => Outputs::failed(&error, false),
                Err(_) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.patience.longest_pause);
                    continue;
                }
                Err(error) => Outputs::failed(&error, true),
            };
            outputs.write(&self.journal)?;
            return Ok(outputs.is_there);
        }
    }

    /// Goes on bringing them once the end of the run is told, for a good while.
    ///
    /// # Errors
    /// A file beside the record cannot be read or written.
    pub(super) async fn bring_late(&self, run: &Run, handle: &Handle) -> Result<()> {
        let mut pause = self.patience.pause;
        let mut answers = 0;
        while Outputs::are_tried(&self.journal, run)? {
            self.pause_until_asked(pause).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let word = asked(&self.journal)?;
            let outcome = match self.collect(run, handle).await {
                Ok(put) => Outputs::brought(put),
                Err(error) => {
                    answers += u32::from(!error.is_blind());
                    let may_come = error.is_retryable() && is_worth_trying(run) && answers < ANSWERS;
                    Outputs::failed(&error, may_come)
                }
            };
            let outputs = Outputs {
                answers: word,
                ..outcome
            };
            outputs.write(&self.journal)?;
            if !outputs.is_there {
                self.discard(handle).await;
            }
        }
        Ok(())
    }

    /// Somebody who asks ends the pause.
    async fn pause_until_asked(&self, pause: Duration) -> Result<()> {
        match tokio::time::timeout(pause, asked_anew(&self.journal)).await {
            Ok(asked) => asked,
            Err(_) => Ok(()),
        }
    }

    async fn collect(&self, run: &Run, handle: &Handle) -> std::result::Result<Put, RunnerError> {
        let Some(workspace) = &self.placed.workspace else {
            return Ok(Put::default());
        };
        let came = match self.arrived(run, handle).await {
            Ok(paths) => into_place(&self.journal, workspace, paths).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &came {
            note(&format!("the outputs cannot be brought back: {error}"));
        }
        came
    }

    /// Brings them beside the record, unless they are there: then the backend is not needed any more.
    async fn arrived(&self, run: &Run, handle: &Handle) -> std::result::Result<Vec<PathBuf>, RunnerError> {
        let known = arrive::noted(&self.journal).map_err(|error| unwritten(&error))?;
        if let Some(paths) = known {
            return Ok(paths);
        }
        let dir = arrive::ready(&self.journal).map_err(|error| unwritten(&error))?;
        let paths = self.backend.collect(handle, &dir, &run.spec.outputs).await?;
        if !paths.is_empty() {
            let (journal, came) = (self.journal.clone(), paths.clone());
            let noted = tokio::task::spawn_blocking(move || arrive::note(&journal, &came)).await;
            noted
                .expect("noting paths does not panic")
                .map_err(|error| unwritten(&error))?;
        }
        Ok(paths)
    }

    /// Names an attempt of a run, also one that is not its last.
    pub(super) fn handle_of(&self, run: &Run, attempt: Attempt) -> Handle {
        let mut handle = self.handle(run);
        if handle.attempt != attempt {
            handle.attempt = attempt;
            handle.backend.object = run.id.object_name(attempt);
            handle.backend.uid = None;
        }
        handle
    }
}

/// Returns once somebody asked for outputs and got no answer yet.
pub(super) async fn asked_anew(journal: &Journal) -> Result<()> {
    while !Outputs::read(journal)?.unwrap_or_default().is_asked(journal)? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn into_place(
    journal: &Journal,
    workspace: &Path,
    paths: Vec<PathBuf>,
) -> std::result::Result<Put, RunnerError> {
    let (journal, workspace) = (journal.clone(), workspace.to_owned());
    let put = tokio::task::spawn_blocking(move || arrive::put(&journal, &workspace, &paths, false)).await;
    put.expect("putting files into place does not panic")
        .map_err(|error| match error.kind() {
            // However often it is tried.
            io::ErrorKind::InvalidData => RunnerError::Rejected {
                message: format!("the outputs are not put into the workspace: {error}"),
            },
            _ => unwritten(&error),
        })
}

fn unwritten(error: &impl std::fmt::Display) -> RunnerError {
    RunnerError::Failed {
        message: format!("the outputs cannot be written: {error}"),
    }
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
